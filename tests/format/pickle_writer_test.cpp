// SPDX-License-Identifier: BSD-3-Clause
// The pickle writer: the instructions it uses, and what it refuses.
#include <gtest/gtest.h>

#include "pickle/pickle.h"
#include "pickles.h"
#include "support/conformance.h"
#include "support/expect_error.h"

namespace torchkeep::pickle {
namespace {

using testing::text;
using namespace std::string_literals;

std::string pickle(const Value& value) {
  return write(value).bytes;
}
std::string program(std::string_view body) {
  return "\x80\x02" + std::string(body) + ".";
}

TEST(PickleWriter, WritesPlainValuesAsPythonDoes) {
  EXPECT_EQ(pickle(none), program("N"));
  EXPECT_EQ(pickle(true), program("\x88"));
  EXPECT_EQ(pickle(0), program("K\0"s));
  EXPECT_EQ(pickle(255), program("K\xff"));
  EXPECT_EQ(pickle(256), program("M\0\1"s));
  EXPECT_EQ(pickle(65536), program("J\0\0\1\0"s));
  EXPECT_EQ(pickle(-1), program("J\xff\xff\xff\xff"));
  EXPECT_EQ(pickle(std::int64_t{1} << 31), program("\x8a\5\0\0\0\x80\0"s));
  EXPECT_EQ(pickle(1.0), program("G\x3f\xf0\0\0\0\0\0\0"s));
  EXPECT_EQ(pickle("ab"), program(text("ab") + "q\0"s));
  EXPECT_EQ(pickle(List{}), program("]q\0"s));
  EXPECT_EQ(pickle(List{1}), program("]q\0K\1a"s));
  EXPECT_EQ(pickle(List{1, 2}), program("]q\0(K\1K\2e"s));
  EXPECT_EQ(pickle(Tuple{1, 2}), program("K\1K\2\x86q\0"s));
  EXPECT_EQ(pickle(Tuple{1, 2, 3, 4}), program("(K\1K\2K\3K\4tq\0"s));
  EXPECT_EQ(pickle(Value{{"a", 1}}), program("}q\0"s + text("a") + "q\1K\1s"));
  EXPECT_EQ(pickle(DType::float32), program("ctorch\nfloat32\nq\0"s));
}

TEST(PickleWriter, WritesAParameterAsFormatsDocumentShows) {
  Tensor tensor = Tensor::of<float>({2}, {0, 0});
  tensor.is_parameter = tensor.requires_grad = true;
  const std::string expected = "}q\0"s + text("p") +
                               "q\1"
                               "ctorch._utils\n_rebuild_parameter\nq\2"
                               "ctorch._utils\n_rebuild_tensor_v2\nq\3((" +
                               text("storage") +
                               "q\4"
                               "ctorch\nFloatStorage\nq\5" +
                               text("0") + text("cpu") + "q\6K\2tQ" +
                               "K\0K\2\x85K\1\x85\x89"
                               "ccollections\nOrderedDict\nq\7)RtR\x88h\7)R\x87Rq\10s"s;
  EXPECT_EQ(pickle(Value{{"p", tensor}}), program(expected));
}

TEST(PickleWriter, NamesRepeatedTextsAndObjectsThroughTheMemo) {
  const Value shared = List{1};
  EXPECT_EQ(pickle(Tuple{"exp_avg", "exp_avg", shared, shared}),
            program("("s + text("exp_avg") + "q\0h\0]q\1K\1ah\1tq\2"s));
}

TEST(PickleWriter, NamesRepeatedLongTextsThroughTheMemo) {
  const std::string letters(300, 'x');  // longer than texts that are known by their content
  const Value long_text = letters, bytes = Value::bytes("ab");
  const std::string long_form = "X\x2c\1\0\0"s + letters;
  EXPECT_EQ(pickle(List{long_text, long_text}), program("]q\0("s + long_form + "q\1h\1e"));
  EXPECT_EQ(pickle(List{letters, letters}), program("]q\0("s + long_form + "q\1" + long_form + "q\2e"));
  const std::string encoded = "c_codecs\nencode\nq\1"s + text("ab") + text("latin1") + "q\2\x86Rq\3";
  EXPECT_EQ(pickle(List{bytes, bytes}), program("]q\0("s + encoded + "h\3e"));
}

TEST(PickleWriter, BatchesThousandItems) {
  std::vector<Value> elements(2001, none);
  const std::string batch = "(" + std::string(1000, 'N') + "e";
  EXPECT_EQ(pickle(Value::sequence(Kind::list, elements)), program("]q\0"s + batch + batch + "(Ne"));
}

TEST(PickleWriter, WritesTheSameBytesForEqualValues) {
  const auto first = testing::conformance_states();
  const auto second = testing::conformance_states();
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(pickle(first[i].value), pickle(second[i].value)) << first[i].name;
}

TEST(PickleWriter, NumbersStoragesByFirstUseAndWritesEachOnce) {
  const Tensor a = Tensor::of<float>({2}, {1, 2});
  const Tensor b = Tensor::of<float>({2}, {3, 4});
  const Pickled pickled = write(List{b, a, b});
  ASSERT_EQ(pickled.storages.size(), 2u);
  EXPECT_EQ(pickled.storages[0].storage, b.storage);
  EXPECT_EQ(pickled.storages[1].storage, a.storage);
}

TEST(PickleWriter, RefusesWhatTheSafeLoaderCannotReadAndNamesThePlace) {
  for (const auto& [name, value, key] : testing::refused_states()) {
    try {
      write(value);
      ADD_FAILURE() << name << " was written";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::unsupported) << name;
      EXPECT_EQ(error.where().key, key) << name;
    }
  }
}

TEST(PickleWriter, RefusesOneStorageOfTwoSizes) {
  class Same final : public Storage {
   public:
    explicit Same(std::uint64_t nbytes) : nbytes_(nbytes) {}
    std::uint64_t nbytes() const noexcept override { return nbytes_; }
    void read(std::uint64_t, MutableBytes) const override {}
    const void* identity() const noexcept override { return "one place"; }

   private:
    std::uint64_t nbytes_;
  };
  const auto tensor = [](std::uint64_t nbytes) {
    Tensor made;
    made.storage = std::make_shared<Same>(nbytes);
    return made;
  };
  EXPECT_ERROR(write(Value{{"a", tensor(8)}, {"b", tensor(16)}}), Code::unsupported,
               "key 'b': its storage is 16 bytes long here and 8");
}

}  // namespace
}  // namespace torchkeep::pickle
