// SPDX-License-Identifier: BSD-3-Clause
// The pickle machine: what each instruction does, and that nothing a file says can hurt.
#include <chrono>
#include <gtest/gtest.h>

#include "pickles.h"
#include "support/expect_error.h"

namespace torchkeep::pickle {
namespace {

using testing::number;
using testing::pickle_of;
using testing::run_pickle;
using testing::text;
using testing::u32;
using testing::u64;
using namespace std::string_view_literals;

// --- What the instructions mean

TEST(PickleReader, ReadsNumbersOfEveryForm) {
  EXPECT_TRUE(run_pickle("N.") == none);
  EXPECT_TRUE(run_pickle("\x88.") == Value(true));
  EXPECT_TRUE(run_pickle("\x89.") == Value(false));
  EXPECT_TRUE(run_pickle("I01\n.") == Value(true));
  EXPECT_TRUE(run_pickle("I00\n.") == Value(false));
  EXPECT_TRUE(run_pickle("I-17\n.") == Value(-17));
  EXPECT_TRUE(run_pickle("L123456789012345678901L\n.") == Value(Integer::from_decimal("123456789012345678901")));
  EXPECT_TRUE(run_pickle("F-2.5e3\n.") == Value(-2500.0));
  EXPECT_TRUE(run_pickle("K\xff.") == Value(255));
  EXPECT_TRUE(run_pickle("M\x01\x02.") == Value(0x201));
  EXPECT_TRUE(run_pickle("J\xfe\xff\xff\xff.") == Value(-2));
  EXPECT_TRUE(run_pickle("\x8a\x00."sv) == Value(0));
  EXPECT_TRUE(run_pickle("\x8a\x02\x00\x80."sv) == Value(-32768));
  EXPECT_TRUE(run_pickle("\x8a\x08\x05\x00\x00\x00\x00\x00\x00\x00."sv) == Value(5));  // as LibTorch pads
  EXPECT_TRUE(run_pickle("\x8b\x03\x00\x00\x00\x00\x00\x01."sv) == Value(65536));
  EXPECT_TRUE(run_pickle("G\xbf\xf8\x00\x00\x00\x00\x00\x00."sv) == Value(-1.5));
}

TEST(PickleReader, ReadsTextsOfEveryForm) {
  EXPECT_TRUE(run_pickle("X\x02\x00\x00\x00\xc3\xa9."sv) == Value("\xc3\xa9"));
  EXPECT_TRUE(run_pickle("\x8c\x01z.") == Value("z"));
  EXPECT_TRUE(run_pickle("\x8d" + u64(3) + "abc.") == Value("abc"));
  EXPECT_TRUE(run_pickle("V\xe9\\u65e5\n.") == Value("\xc3\xa9\xe6\x97\xa5"));
  EXPECT_TRUE(run_pickle("S'it\\'s\\n'\n.") == Value("it's\n"));
  EXPECT_TRUE(run_pickle("U\x03xyz.") == Value("xyz"));
  EXPECT_TRUE(run_pickle("T\x02\x00\x00\x00hi."sv) == Value("hi"));
  EXPECT_TRUE(run_pickle("U\x01\xff.") == Value::bytes("\xff"));  // Python 2's str that is no text
  EXPECT_TRUE(run_pickle("C\x01\xff.") == Value::bytes("\xff"));
  EXPECT_TRUE(run_pickle("B" + u32(2) + "ab.") == Value::bytes("ab"));
  EXPECT_TRUE(run_pickle("\x8e" + u64(2) + "ab.") == Value::bytes("ab"));
  EXPECT_TRUE(run_pickle("\x96" + u64(2) + "ab.") == Value::bytes("ab", Kind::bytearray));
}

TEST(PickleReader, AnEmptyTextIsNotTakenForTheOneThatFollows) {
  // What protocol 0 writes for ["", "", "abc", "abc"].
  const Value value = run_pickle("(lp0\nV\np1\nag1\naVabc\np2\nag2\na.");
  EXPECT_TRUE(value == Value(List{"", "", "abc", "abc"}));
}

TEST(PickleReader, ReadsContainersOfEveryForm) {
  EXPECT_TRUE(run_pickle("].") == Value(List{}));
  EXPECT_TRUE(run_pickle("(K\1K\2l.") == Value(List{1, 2}));
  EXPECT_TRUE(run_pickle("]K\1a(K\2K\3e.") == Value(List{1, 2, 3}));
  EXPECT_TRUE(run_pickle(").") == Value(Tuple{}));
  EXPECT_TRUE(run_pickle("(K\1K\2K\3K\4t.") == Value(Tuple{1, 2, 3, 4}));
  EXPECT_TRUE(run_pickle("K\1K\2K\3\x87.") == Value(Tuple{1, 2, 3}));
  EXPECT_TRUE(run_pickle("(K\1K\2d.") == Value(Dict{{1, 2}}));
  EXPECT_TRUE(run_pickle("}K\1K\2s(K\3K\4K\5K\6u.") == Value(Dict{{1, 2}, {3, 4}, {5, 6}}));
  EXPECT_TRUE(run_pickle("\x8f(K\1K\2\x90.") == Value(Set{1, 2}));
  EXPECT_TRUE(run_pickle("(K\1\x91.") == Value::sequence(Kind::frozenset, {1}));
  EXPECT_TRUE(run_pickle("}(u.") == Value::mapping(Kind::dict));
}

TEST(PickleReader, ManipulatesStackAndMemoAsPythonDoes) {
  EXPECT_TRUE(run_pickle("K\1K\2"
                         "0.") == Value(1));
  EXPECT_TRUE(run_pickle("K\1(K\2K\3"
                         "1.") == Value(1));
  EXPECT_TRUE(run_pickle("K\1(0.") == Value(1));  // POP takes a mark that is on top
  EXPECT_TRUE(run_pickle("K\1"
                         "2\x86.") == Value(Tuple{1, 1}));
  EXPECT_TRUE(run_pickle("K\1p12\n0K\2g12\n\x86.") == Value(Tuple{2, 1}));
  EXPECT_TRUE(run_pickle("K\1\x94K\2\x94\x86h\0h\1\x86\x86."sv) == Value(Tuple{Tuple{1, 2}, Tuple{1, 2}}));
}

TEST(PickleReader, LastValueOfARepeatedKeyCounts) {
  const Value value = run_pickle("}(K\1K\2K\3K\4K\1K\5u.");
  EXPECT_TRUE(value == Value(Dict{{1, 5}, {3, 4}}));
}

TEST(PickleReader, IgnoresWhatFollowsStop) {
  EXPECT_TRUE(run_pickle("N.garbage") == none);
}

TEST(PickleReader, SharedObjectsStayOneNode) {
  const Value value = run_pickle("]q\0h\0\x86."sv);
  EXPECT_EQ(value.elements()[0].id(), value.elements()[1].id());
}

// --- Cycles

TEST(PickleReader, AListInItselfBecomesABackReference) {
  const Value value = run_pickle("]q\0h\0a."sv);
  ASSERT_TRUE(value.is(Kind::list));
  ASSERT_TRUE(value.elements()[0].is(Kind::back_reference));
  EXPECT_NE(value.label(), 0u);
  EXPECT_EQ(value.elements()[0].label(), value.label());
}

TEST(PickleReader, ATupleInItselfBecomesABackReference) {
  const Value value = run_pickle(
      "](0]q\0h\0\x85q\1"
      "0h\0h\1a0h\1."sv);
  ASSERT_TRUE(value.is(Kind::tuple));
  const Value list = value.elements()[0];
  EXPECT_EQ(list.elements()[0].label(), value.label());
}

TEST(PickleReader, CyclesAreDestroyedAndComparedWithoutRecursion) {
  std::string pickle = "]q";
  pickle += '\0';
  for (int i = 0; i < 100'000; ++i) pickle += "]";
  pickle += std::string("h\0a", 3);
  for (int i = 0; i < 100'000; ++i) pickle += "a";
  const Value value = run_pickle(pickle + ".");
  EXPECT_NE(value.label(), 0u);
}

// --- Damage

struct Broken {
  const char* name;
  std::string pickle;
  Code code;
  const char* text;
};

class BrokenPickle : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenPickle, IsRefused) {
  EXPECT_ERROR(run_pickle(GetParam().pickle), GetParam().code, GetParam().text);
}

std::string storage_id(std::string_view numel) {
  return "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + std::string(numel) + "tQ";
}

const Broken kBroken[] = {
    {"empty", "", Code::corrupt, "data.pkl at byte 0: the pickle ends without STOP"},
    {"no_stop", "\x80\x02K\x01", Code::corrupt, "at byte 4: the pickle ends without STOP"},
    {"only_stop", ".", Code::corrupt, "at byte 0: the stack is empty"},
    {"newest_protocol", "\x80\x06N.", Code::unsupported, "pickle protocol 6"},
    {"unknown_instruction", "\xfe.", Code::corrupt, "unknown instruction 0xfe"},
    {"pop_nothing", "0.", Code::corrupt, "the stack is empty"},
    {"pop_below_a_mark", "K\1(\x85.", Code::corrupt, "the stack is empty"},
    {"tuple_without_mark", "K\1t.", Code::corrupt, "no mark"},
    {"append_without_list", "K\1a.", Code::corrupt, "the stack is empty"},
    {"append_to_a_dict", "}K\1a.", Code::corrupt, "APPEND to a dict"},
    {"append_to_a_tuple", ")K\1a.", Code::corrupt, "APPEND to a tuple"},
    {"append_to_a_number", "K\2K\1a.", Code::corrupt, "APPEND to an int"},
    {"set_item_of_a_list", "]K\1K\2s.", Code::corrupt, "SETITEM on a list"},
    {"add_to_a_list", "](K\1\x90.", Code::corrupt, "ADDITEMS to a list"},
    {"key_without_a_value", "}(K\1u.", Code::corrupt, "a key without a value"},
    {"dict_with_odd_items", "(K\1d.", Code::corrupt, "a key without a value"},
    {"unhashable_key", "}]K\1s.", Code::corrupt, "cannot be the key"},
    {"unhashable_set_element", "\x8f(]\x90.", Code::corrupt, "cannot be the key"},
    {"memo_never_set", "h\7.", Code::corrupt, "memo index 7 was never set"},
    {"memo_bomb", "K\1r\xff\xff\xff\xff.", Code::refused, "memo index 4294967295 in a pickle of 8 bytes"},
    {"memo_bomb_in_text", "K\1p99999999999\n.", Code::refused, "memo index 99999999999"},
    {"memo_index_not_a_number", "K\1px\n.", Code::corrupt, "'x' is not a number"},
    {"put_of_nothing", std::string("q\0.", 3), Code::corrupt, "the stack is empty"},
    {"text_beyond_the_end", "X\xff\xff\xff\x7fok.", Code::corrupt, "ends in the middle"},
    {"text_of_eight_byte_length", "\x8d" + u64(~0ull) + ".", Code::corrupt, "ends in the middle"},
    {"negative_length", "T\xff\xff\xff\xff.", Code::corrupt, "a negative length"},
    {"negative_long", "\x8b\xff\xff\xff\xff.", Code::corrupt, "a negative length"},
    {"text_not_utf8", "X\1" + std::string(3, '\0') + "\xff.", Code::corrupt, "not UTF-8"},
    {"overlong_utf8", "X\2" + std::string(3, '\0') + "\xc0\x80.", Code::corrupt, "not UTF-8"},
    {"broken_escape", "V\\u12\n.", Code::corrupt, "a broken escape"},
    {"unquoted_string", "Sabc\n.", Code::corrupt, "a broken escape"},
    {"line_without_end", "I12", Code::corrupt, "a line without an end"},
    {"int_not_a_number", "Iabc\n.", Code::corrupt, "'abc' is not an int"},
    {"float_not_a_number", "Fabc\n.", Code::corrupt, "'abc' is not a number"},
    {"too_many_digits", "L" + std::string(5000, '9') + "L\n.", Code::refused, "a decimal int of 5000 digits"},
    {"extension", "\x82\x01.", Code::refused, "an extension code"},
    {"outside_buffer", "\x97.", Code::unsupported, "buffers outside the pickle"},
    {"os_system", "cos\nsystem\nX\4" + std::string(3, '\0') + "true\x85R.", Code::refused,
     "at byte 0: refused global 'os.system'"},
    {"eval", "c__builtin__\neval\n.", Code::refused, "refused global '__builtin__.eval'"},
    {"getattr", "cbuiltins\ngetattr\n.", Code::refused, "refused global 'builtins.getattr'"},
    {"stack_global", "\x8c\2os\x8c\6system\x93.", Code::refused, "refused global 'os.system'"},
    {"stack_global_of_numbers", "K\1K\2\x93.", Code::corrupt, "a global's name is not a text"},
    {"inst", "(ios\nsystem\n.", Code::refused, "refused global 'os.system'"},
    {"obj_without_class", "(o.", Code::corrupt, "OBJ without a class"},
    {"call_of_a_list", "])R.", Code::refused, "a call of a list"},
    {"call_of_a_dtype", "ctorch\nfloat32\n)R.", Code::unsupported, "torch.float32: cannot be called"},
    {"call_without_a_tuple", "ccollections\nOrderedDict\n]R.", Code::corrupt, "called with a list, not a tuple"},
    {"new_object_without_a_tuple", "ccollections\nOrderedDict\n]\x81.", Code::corrupt, "NEWOBJ without a tuple"},
    {"build_of_a_list", "]}b.", Code::unsupported, "BUILD of a list"},
    {"attributes_not_a_dict", "ccollections\nOrderedDict\n)RK\1b.", Code::corrupt, "attributes are an int"},
    {"two_builds", "ccollections\nOrderedDict\n)R}b}b.", Code::unsupported, "a second BUILD"},
    {"persistent_number", "K\1Q.", Code::unsupported, "a persistent id that is not a storage"},
    {"persistent_module", "(" + text("module") + "tQ.", Code::unsupported, "a persistent id that is not a storage"},
    {"persistent_text", "P1\n.", Code::unsupported, "a persistent id that is not a storage, but an int"},
    {"storage_of_few_fields", "(" + text("storage") + "tQ.", Code::corrupt, "a storage id of 1 fields"},
    {"storage_of_negative_size", storage_id(number(-1)) + ".", Code::corrupt, "a storage id is"},
    {"storage_of_huge_size", storage_id("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f") + ".", Code::corrupt,
     "a storage of 9223372036854775807"},
    {"storage_of_more_than_64_bits", storage_id("\x8a\x0a" + std::string(10, '\x7f')) + ".", Code::corrupt,
     "a storage id is"},
};

INSTANTIATE_TEST_SUITE_P(PickleReader, BrokenPickle, ::testing::ValuesIn(kBroken),
                         [](const auto& info) { return info.param.name; });

TEST(PickleReader, EveryTruncationOfAPickleIsAnError) {
  const std::string whole = pickle_of({"}q\0", text("a"), "]q\1(", number(1), text("b"), "e", "s"});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(run_pickle(whole.substr(0, size)), Error) << size;
  }
}

// --- Limits

TEST(PickleReader, CountsObjectsAgainstTheLimit) {
  EXPECT_ERROR(run_pickle("]]]].", UnknownClasses::refuse, {.max_objects = 3}), Code::refused,
               "more objects than the limit of 3 (Limits::max_objects)");
}

TEST(PickleReader, BillionLaughsStayAsSmallAsTheFile) {
  // Each list holds the one before twice: 2^60 leaves if it were a tree.
  std::string pickle("]q\0", 3);
  for (char i = 0; i < 60; ++i) pickle += std::string("](h") + i + "h" + i + "eq" + static_cast<char>(i + 1);
  const Value value = run_pickle(pickle + ".");
  EXPECT_EQ(value.size(), 2u);
  EXPECT_EQ(value.elements()[0].id(), value.elements()[1].id());
}

TEST(PickleReader, AppendingToManyListsInTurnTakesLinearTime) {
  // A list that grows moves within the pool; two that grow in turn must not copy each other's elements again and again.
  std::string pickle("]q\0]q\1", 6);
  for (int i = 0; i < 100'000; ++i) pickle += std::string("h\0Na0h\1Na0", 10);
  const Value value = run_pickle(pickle + std::string("h\0.", 3));
  EXPECT_EQ(value.size(), 100'000u);
}

TEST(PickleReader, NestingIsNotLimitedByTheStackOfTheProcess) {
  constexpr int kLevels = 1'000'000;
  const Value value = run_pickle(std::string(kLevels, ']') + std::string(kLevels - 1, 'a') + ".");
  EXPECT_EQ(value.size(), 1u);
}

// --- Objects of unknown classes

Value run_opaque(std::string_view pickle) {
  return run_pickle(pickle, UnknownClasses::opaque);
}

TEST(PickleReader, KeepsACallOfAnUnknownFunctionAsAnObject) {
  const std::string pickle = "cos\nsystem\n" + text("true") + "\x85R.";
  EXPECT_ERROR(run_opaque(pickle), Code::refused, "refused global 'os.system'");
  const Value value = run_pickle(pickle, UnknownClasses::inspect);
  const Opaque& object = value.as_opaque();
  EXPECT_EQ(object.module, "os");
  EXPECT_EQ(object.name, "system");
  EXPECT_EQ(object.form, Opaque::Form::reduce);
  EXPECT_TRUE(object.args == Value(Tuple{"true"}));
}

TEST(PickleReader, KeepsStateItemsAndKeywordsOfAnUnknownObject) {
  const Value value =
      run_opaque("cmy\nThing\nK\1\x85}" + text("k") + "K\2s\x92}" + text("state") + "K\3sb(K\4K\5eK\6K\7s.");
  const Opaque& object = value.as_opaque();
  EXPECT_EQ(object.form, Opaque::Form::newobj);
  EXPECT_TRUE(object.args == Value(Tuple{1}));
  EXPECT_TRUE(object.kwargs == (Value{{"k", 2}}));
  EXPECT_TRUE(object.state == (Value{{"state", 3}}));
  ASSERT_EQ(object.list_items.size(), 2u);
  EXPECT_TRUE(object.list_items[1] == Value(5));
  ASSERT_EQ(object.dict_items.size(), 1u);
  EXPECT_TRUE(object.dict_items[0].key == Value(6));
}

TEST(PickleReader, KeepsABareUnknownGlobal) {
  const Value value = run_opaque("]cmy\nfunction\na.");
  const Opaque& object = value.elements()[0].as_opaque();
  EXPECT_EQ(object.form, Opaque::Form::global);
  EXPECT_EQ(object.name, "function");
}

TEST(PickleReader, KeepsAnObjectThatContainsItself) {
  const Value value = run_opaque(std::string("cmy\nThing\n)\x81q\0}", 15) + text("me") + std::string("h\0sb.", 5));
  EXPECT_TRUE(value.as_opaque().state["me"].is(Kind::back_reference));
  EXPECT_EQ(value.as_opaque().state["me"].label(), value.label());
}

TEST(PickleReader, UnknownObjectsAreHashableAsInPython) {
  EXPECT_EQ(run_opaque("}cmy\nKey\n)RK\1s.").size(), 1u);
}

TEST(PickleReader, NeverCallsTheResultOfACall) {
  EXPECT_ERROR(run_opaque("cmy\nmake\n)R)R."), Code::refused, "a call of an object");
}

}  // namespace
}  // namespace torchkeep::pickle
