// SPDX-License-Identifier: BSD-3-Clause
// Values through a .pt file and back: the conformance matrix.
#include <gtest/gtest.h>

#include "support/conformance.h"
#include "support/expect_error.h"
#include "support/pt_files.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using testing::pt_bytes;
using testing::read_all;

class Conformance : public ::testing::TestWithParam<testing::NamedState> {};

TEST_P(Conformance, ComesBackEqual) {
  const Value& value = GetParam().value;
  EXPECT_TRUE(read_all(pt_bytes(value)) == value);
}

TEST_P(Conformance, IsWrittenAgainAsTheSameBytes) {
  const std::string file = pt_bytes(GetParam().value);
  EXPECT_TRUE(pt_bytes(read_all(file)) == file);
}

INSTANTIATE_TEST_SUITE_P(Pt, Conformance, ::testing::ValuesIn(testing::conformance_states()),
                         [](const auto& info) { return info.param.name; });

TEST(Pt, LargeStatesComeBackEqual) {
  for (const auto& [name, value] : testing::large_states()) {
    const std::string file = pt_bytes(value);
    const Value back = read_all(file);
    EXPECT_TRUE(back == value) << name;
    EXPECT_TRUE(pt_bytes(back) == file) << name;
  }
}

std::string zip_of(std::initializer_list<std::pair<std::string, std::string>> records) {
  zip::Writer writer("archive");
  for (const auto& [name, bytes] : records) writer.add(name, bytes);
  return testing::assemble(std::move(writer).finish());
}

TEST(Pt, WantsAPickleAndAVersion) {
  EXPECT_ERROR(read_all(zip_of({{"version", "3\n"}})), Code::corrupt, "no record data.pkl");
  EXPECT_ERROR(read_all(zip_of({{"data.pkl", "N."}})), Code::corrupt, "no record version");
  EXPECT_TRUE(read_all(zip_of({{"data.pkl", "N."}, {"version", "3\n"}})) == none);
  EXPECT_TRUE(read_all(zip_of({{"data.pkl", "N."}, {".data/version", "6\n"}})) == none);
}

TEST(Pt, ReadsVersionsOneToTen) {
  const auto with_version = [](std::string version) {
    return read_all(zip_of({{"data.pkl", "N."}, {"version", std::move(version)}}));
  };
  for (const char* good : {"1", "10", " +3 junk"}) EXPECT_NO_THROW(with_version(good)) << good;
  for (const char* bad : {"", "x", "0", "-1"})
    EXPECT_ERROR(with_version(bad), Code::corrupt, "test.pt: version: no version number");
  EXPECT_ERROR(with_version("11"), Code::unsupported, "version 11; the newest known is 10");
  EXPECT_ERROR(with_version(std::string(100, '1')), Code::refused, "100 bytes long");
}

TEST(Pt, ByteOrderIsLittleOrBig) {
  const auto with_order = [](std::string order) {
    return read_all(zip_of({{"data.pkl", "N."}, {"byteorder", std::move(order)}, {"version", "3\n"}}));
  };
  EXPECT_NO_THROW(with_order("little"));
  EXPECT_NO_THROW(with_order("big"));
  EXPECT_ERROR(with_order("Little"), Code::corrupt, "neither little nor big");
}

TEST(Pt, ChecksTheSizeOfThePickleBeforeReadingIt) {
  const std::string file = pt_bytes(Value::string(std::string(1000, 'x')));
  EXPECT_ERROR(read_all(file, {.limits = {.max_pickle_bytes = 1000}}), Code::refused,
               "data.pkl: 1010 bytes long, more than the limit of 1000");
}

/// A tensor's file in which one text is replaced by another of the same length, and the pickle's CRC made "not
/// computed".
std::string edited(std::string_view from, std::string_view to) {
  std::string file = pt_bytes(Tensor::of<float>({3}, {1, 2, 3}));
  const std::size_t place = file.find(from);
  file.replace(place, from.size(), to);
  const std::size_t central = file.rfind("PK\x01\x02", file.rfind("archive/data.pkl"));
  file.replace(central + 16, 4, 4, '\0');
  return file;
}

TEST(Pt, ATensorsRecordMustExistInItsExactSize) {
  using namespace std::string_literals;
  const std::string id = "X\1\0\0\0"s + "0X\3\0\0\0cpu"s;
  const std::string other = "X\1\0\0\0"s + "1X\3\0\0\0cpu"s;
  EXPECT_ERROR(read_all(edited(id, other)), Code::corrupt,
               "data.pkl at byte 94: a tensor's record 'data/1' is missing");
  EXPECT_ERROR(read_all(edited("K\3tQ", "K\4tQ")), Code::corrupt,
               "record 'data/0' has 12 bytes, its tensor expects 16");
  EXPECT_ERROR(read_all(edited("K\3tQ", "K\2tQ")), Code::corrupt, "record 'data/0' has 12 bytes, its tensor expects 8");
}

TEST(Pt, OpeningReadsNoPayload) {
  Value state = Value::mapping(Kind::dict);
  for (int i = 0; i < 1000; ++i) {
    Tensor tensor;
    tensor.sizes = {1 << 20};
    tensor.strides = {1};
    tensor.storage = std::make_shared<testing::ZeroStorage>(std::uint64_t{4} << 20);
    state.set(std::to_string(i), tensor);
  }
  const auto file = std::make_shared<testing::CountingReadAt>(std::make_shared<testing::PlanReadAt>(plan_pt(state)));
  const OpenedFile opened = open_pt(file, {.verify = false});
  EXPECT_EQ(opened.records.size(), 1000u);
  EXPECT_EQ(opened.value.size(), 1000u);
  EXPECT_LE(file->reads(), 14u);
  EXPECT_LT(file->bytes(), 300u * 1000);
}

TEST(Pt, WhatReadersWouldRefuseIsNotWritten) {
  const Value state = {{"note", std::string(100, 'x')}};
  EXPECT_ERROR(plan_pt(state, {.max_pickle_bytes = 100}), Code::refused, "Limits::max_pickle_bytes");
  EXPECT_EQ(
      read_all(testing::assemble(plan_pt(state, {.max_pickle_bytes = 200})), {.limits = {.max_pickle_bytes = 200}}),
      state);
}

TEST(Pt, UnknownClassesAreRefusedOrKeptAsAsked) {
  using namespace std::string_literals;
  const std::string file = zip_of({{"data.pkl", "cos\nsystem\n)R."}, {"version", "3\n"}});
  EXPECT_ERROR(read_all(file), Code::refused, "test.pt: data.pkl at byte 0: refused global 'os.system'");
  EXPECT_EQ(read_all(file, {.unknown_classes = UnknownClasses::inspect}).as_opaque().name, "system");
  const std::string honest = zip_of({{"data.pkl", "cmy.module\nConfig\n)R."}, {"version", "3\n"}});
  EXPECT_EQ(read_all(honest).as_opaque().name, "Config");
  EXPECT_ERROR(read_all(honest, {.unknown_classes = UnknownClasses::refuse}), Code::refused, "'my.module.Config'");
}

}  // namespace
}  // namespace torchkeep
