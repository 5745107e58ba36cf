// SPDX-License-Identifier: BSD-3-Clause
// Damage is reported in full, and what is not damaged is saved.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/format/check.h>
#include <torchkeep/format/safetensors.h>
#include <torchkeep/format/salvage.h>
#include <torchkeep/state/walk.h>

#include "support/expect_error.h"
#include "support/pt_files.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using testing::as_file;
using testing::assemble;
using testing::pt_bytes;

Tensor bytes(std::size_t count, std::uint8_t value) {
  return Tensor::of<std::uint8_t>({static_cast<std::int64_t>(count)}, std::vector<std::uint8_t>(count, value));
}

// Several records, one of which holds a .pt file of its own with records of the same names.
Value state() {
  const std::string inner = pt_bytes(Value{{"fake", bytes(300, 9)}});
  return {{"a", bytes(100, 1)},
          {"inner", Tensor::from_bytes(DType::uint8, {static_cast<std::int64_t>(inner.size())}, as_bytes(inner))},
          {"list", List{bytes(0, 0), bytes(70, 3)}},
          {"b", bytes(200, 4)},
          {"step", 5}};
}

std::uint64_t payload_of(const std::string& file, std::string_view name) {
  const zip::Reader zip(as_file(file), {});
  return zip.locate(*zip.find(name));
}

std::string with_damage(std::string file, std::uint64_t offset) {
  file[static_cast<std::size_t>(offset)] ^= 1;
  return file;
}

void expect_survivors_equal(const Salvaged& saved, const Value& original) {
  std::uint64_t seen = 0;
  walk(saved.value, [&](const Visit& visit) {
    if (!visit.value.is(Kind::tensor)) return Next::inside;
    ++seen;
    const auto before = find_path(original, visit.place.text());
    EXPECT_TRUE(before && *before == visit.value) << visit.place.text();
    return Next::over;
  });
  EXPECT_EQ(seen, saved.tensors);
}

TEST(CheckFile, FindsEveryDamagedRecordAndNamesItsTensors) {
  const std::string good = pt_bytes(state());
  EXPECT_TRUE(check_file(as_file(good)).good());
  std::string bad = with_damage(good, payload_of(good, "data/0"));
  bad = with_damage(bad, payload_of(good, "data/4") + 199);
  const FileCheck check = check_file(as_file(bad));
  std::vector<std::string> lost;
  for (const CheckedRecord& record : check.records)
    lost.insert(lost.end(), record.tensors.begin(), record.tensors.end());
  EXPECT_EQ(lost, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(check.count(CheckedRecord::State::damaged), 2u);
  EXPECT_EQ(check.tensors, 5u);
}

TEST(CheckFile, SumsRecordsUpOnSeveralThreadsAsOnOne) {
  const std::string file = pt_bytes(Value{{"large", bytes(std::size_t{40} << 20, 7)}});
  EXPECT_TRUE(check_file(as_file(file), {.threads = 4}).good());
  const std::string bad = with_damage(file, payload_of(file, "data/0") + (std::uint64_t{33} << 20));
  EXPECT_FALSE(check_file(as_file(bad), {.threads = 4}).good());
  EXPECT_FALSE(check_file(as_file(bad), {.threads = 1}).good());
}

TEST(Salvage, LosesOnlyWhatIsDamaged) {
  const std::string good = pt_bytes(state());
  const Salvaged saved = salvage(as_file(with_damage(good, payload_of(good, "data/3"))));
  ASSERT_EQ(saved.lost.size(), 1u);
  EXPECT_EQ(saved.lost[0].path, "list.1");
  EXPECT_TRUE(saved.value["list"][1].is_none());
  EXPECT_EQ(saved.value["step"], 5);
  expect_survivors_equal(saved, state());
}

TEST(Salvage, OfEveryBeginningIsTrueAndNeverTakesAFileInsideForTheFile) {
  const std::string good = pt_bytes(state());
  const std::uint64_t first = payload_of(good, "data/0");
  std::uint64_t before = 0;
  for (std::uint64_t size = first; size < good.size(); ++size) {
    const Salvaged saved = salvage(as_file(good.substr(0, static_cast<std::size_t>(size))));
    EXPECT_EQ(saved.tensors + saved.lost.size(), 5u) << size;
    EXPECT_GE(saved.tensors, before) << size;
    before = saved.tensors;
    expect_survivors_equal(saved, state());
  }
  EXPECT_EQ(before, 5u);
}

TEST(Salvage, WithoutADirectoryStillFindsDamage) {
  const std::string good = pt_bytes(state());
  const std::string cut = good.substr(0, good.size() - 30);
  const Salvaged saved = salvage(as_file(with_damage(cut, payload_of(good, "data/0") + 5)));
  ASSERT_EQ(saved.lost.size(), 1u);
  EXPECT_EQ(saved.lost[0].path, "a");
  EXPECT_NE(saved.lost[0].reason.find("CRC-32"), std::string::npos);
  expect_survivors_equal(saved, state());
}

TEST(Salvage, FindsTheRecordsBehindADamagedHeader) {
  const std::string good = pt_bytes(state());
  const zip::Reader zip(as_file(good), {});
  const std::string cut = good.substr(0, good.size() - 30);
  const Salvaged saved = salvage(as_file(with_damage(cut, zip.find("data/3")->header_offset)));
  ASSERT_EQ(saved.lost.size(), 1u);
  EXPECT_EQ(saved.lost[0].path, "list.1");
  expect_survivors_equal(saved, state());
}

TEST(Salvage, SaysWhenNothingCanBeSaved) {
  const std::string good = pt_bytes(state());
  EXPECT_ERROR(salvage(as_file(with_damage(good, payload_of(good, "data.pkl") + 3))), Code::corrupt, "data.pkl");
  EXPECT_ERROR(salvage(as_file(good.substr(0, 100))), Code::corrupt, "");
  EXPECT_ERROR(salvage(as_file("\x80\x02}q\x01.")), Code::unsupported, "pickle");
}

TEST(Salvage, OfSafetensorsKeepsTheTensorsThatAreWhole) {
  const std::string good = assemble(
      plan_safetensors(Value{{"a", bytes(8, 1)}, {"b", bytes(16, 2)}}, {{"tied", "b"}, {"format", "pt"}}).plan);
  const Salvaged saved = salvage(as_file(good.substr(0, good.size() - 1)));
  EXPECT_EQ(saved.tensors, 1u);
  EXPECT_TRUE(saved.value.contains("a"));
  ASSERT_EQ(saved.lost.size(), 2u);
  EXPECT_EQ(saved.lost[0].path, "b");
  EXPECT_EQ(saved.lost[1].path, "tied");
  EXPECT_ERROR(salvage(as_file(good.substr(0, 20))), Code::corrupt, "header");
}

}  // namespace
}  // namespace torchkeep
