// SPDX-License-Identifier: BSD-3-Clause
// Objects of classes that are data: what they arrive as, and that whatever is not exactly such an object stays one.
#include <gtest/gtest.h>

#include <torchkeep/format/data_class.h>

#include "pickles.h"
#include "support/expect_error.h"

namespace torchkeep {
namespace {

using namespace testing;
using namespace std::string_literals;

Value run(std::string_view body) {
  return run_pickle(std::string(body) + ".", UnknownClasses::opaque);
}

std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
// REDUCE: global(arguments)
std::string made(std::string_view module, std::string_view name, std::string_view arguments) {
  return global(module, name) + "(" + std::string(arguments) + "tR";
}
// NEWOBJ without arguments, then BUILD
std::string with_state(std::string_view module, std::string_view name, std::string_view items) {
  return global(module, name) + ")\x81}(" + std::string(items) + "ub";
}
std::string bytes(std::string_view content) {
  return "C" + std::string(1, static_cast<char>(content.size())) + std::string(content);
}
std::string bytes(std::initializer_list<int> content) {
  std::string text;
  for (const int byte : content) text += static_cast<char>(byte);
  return bytes(text);
}

bool stays_an_object(std::string_view body) {
  return run(body).is(Kind::opaque);
}

// --- What arrives

TEST(DataClass, ANamespaceIsADictOfItsAttributes) {
  const Value expected{{"lr", 0.5}, {"tag", "x"}};
  const std::string items = text("lr") + "G" + std::string("\x3f\xe0\0\0\0\0\0\0", 8) + text("tag") + text("x");
  EXPECT_TRUE(run(with_state("argparse", "Namespace", items)) == expected);
  EXPECT_TRUE(run(global("types", "SimpleNamespace") + ")R}(" + items + "ub") == expected);
  EXPECT_TRUE(run(global("argparse", "Namespace") + ")\x81") == Value::mapping(Kind::dict));
}

TEST(DataClass, ANamespaceCanContainItself) {
  const Value value =
      run(global("argparse", "Namespace") + std::string(")\x81q\0}", 5) + text("me") + std::string("h\0sb", 4));
  ASSERT_TRUE(value.is(Kind::dict));
  EXPECT_TRUE(value["me"].is(Kind::back_reference));
  EXPECT_EQ(value["me"].label(), value.label());
}

TEST(DataClass, APathIsAStringAsPythonJoinsItsParts) {
  const auto path = [](std::string_view name, std::initializer_list<const char*> parts) {
    std::string arguments;
    for (const char* part : parts) arguments += text(part);
    return run(made("pathlib", name, arguments)).as_string();
  };
  EXPECT_EQ(path("PosixPath", {}), ".");
  EXPECT_EQ(path("PosixPath", {"/"}), "/");
  EXPECT_EQ(path("PosixPath", {"/", "a", "b"}), "/a/b");
  EXPECT_EQ(path("PurePosixPath", {"a", "b"}), "a/b");
  EXPECT_EQ(path("WindowsPath", {"C:\\", "a", "b"}), "C:\\a\\b");
  EXPECT_EQ(path("PureWindowsPath", {"C:", "a"}), "C:a");
  EXPECT_EQ(run(made("pathlib._local", "PosixPath", text("a"))).as_string(), "a");
}

TEST(DataClass, DatesAndTimesAreStringsOfIso8601) {
  const std::string day = bytes({7, 0xea, 2, 28, 3, 4, 5, 0, 0, 6});
  EXPECT_EQ(run(made("datetime", "datetime", day)).as_string(), "2026-02-28T03:04:05.000006");
  EXPECT_EQ(run(made("datetime", "date", bytes({7, 0xe8, 2, 29}))).as_string(), "2024-02-29");
  EXPECT_EQ(run(made("datetime", "time", bytes({1, 2, 3, 0, 0, 0}))).as_string(), "01:02:03");
  const auto zone = [](std::string_view days, std::string_view seconds) {
    return made("datetime", "timezone",
                made("datetime", "timedelta", std::string(days) + std::string(seconds) + "K\0"s));
  };
  EXPECT_EQ(run(zone("K\0"s, "K\0"s)).as_string(), "UTC");
  EXPECT_EQ(run(zone("J\xff\xff\xff\xff", number(86400 - 5400))).as_string(), "UTC-01:30");
  EXPECT_EQ(run(made("datetime", "datetime", day + zone("K\0"s, number(3600)))).as_string(),
            "2026-02-28T03:04:05.000006+01:00");
  EXPECT_TRUE(run(made("datetime", "timedelta", "K\1K\2K\3")) == Value(Tuple{1, 2, 3}));
}

TEST(DataClass, NumbersOfPythonsLibraryAreStrings) {
  EXPECT_EQ(run(made("fractions", "Fraction", "J\xfd\xff\xff\xffK\4")).as_string(), "-3/4");
  EXPECT_EQ(run(made("fractions", "Fraction", text("3/4"))).as_string(), "3/4");
  EXPECT_EQ(run(made("decimal", "Decimal", text("-1.50E+3"))).as_string(), "-1.50E+3");
  EXPECT_EQ(run(with_state("uuid", "UUID", text("int") + "\x8a\3\xcd\xab\0"s)).as_string(),
            "00000000-0000-0000-0000-00000000abcd");
  EXPECT_EQ(run(with_state("uuid", "UUID", text("int") + "K\xab")).as_string(), "00000000-0000-0000-0000-0000000000ab");
}

TEST(DataClass, ContainersAreListsTuplesAndDicts) {
  EXPECT_TRUE(run(global("collections", "deque") + ")R(K\1K\2e") == Value(List{1, 2}));
  EXPECT_TRUE(run(made("collections", "deque", ")K\2") + "(K\1K\2e") == Value(List{1, 2}));
  EXPECT_TRUE(run(made("__builtin__", "xrange", "K\0K\3K\1"s)) == Value(Tuple{0, 3, 1}));
  EXPECT_TRUE(run(made("builtins", "slice", "K\1K\2N")) == Value(Tuple{1, 2, Value()}));
  EXPECT_TRUE(run(global("easydict", "EasyDict") + ")\x81(" + text("a") + "K\1u") == (Value{{"a", 1}}));
  EXPECT_TRUE(run(with_state("UserDict", "IterableUserDict", text("data") + "}" + text("a") + "K\1s")) ==
              (Value{{"a", 1}}));
}

TEST(DataClass, AStructOfTheSystemIsATupleOfItsFields) {
  const std::string fields = "(" + text("Linux") + text("host") + "t";
  EXPECT_TRUE(run(made("posix", "uname_result", fields + "}")) == Value(Tuple{"Linux", "host"}));
  EXPECT_TRUE(run(made("platform", "uname_result", text("Linux") + text("host"))) == Value(Tuple{"Linux", "host"}));
  EXPECT_TRUE(stays_an_object(made("time", "struct_time", fields + "}" + text("tm_zone") + text("UTC") + "s")));
}

// A DictConfig's children know their parent, which is still being made when they are.
TEST(DataClass, AConfigurationOfOmegaConfIsADictOfItsContent) {
  const std::string parent = text("_parent") + std::string("h\0", 2);
  const std::string leaf = with_state("omegaconf.nodes", "AnyNode", text("_val") + "K\7" + parent);
  const std::string list =
      with_state("omegaconf.listconfig", "ListConfig", text("_content") + "](" + leaf + leaf + "e" + parent);
  const std::string content = "}(" + text("lr") + leaf + text("layers") + list + "u";
  const Value value = run(global("omegaconf.dictconfig", "DictConfig") + std::string(")\x81q\0}(", 6) +
                          text("_parent") + "N" + text("_content") + content + "ub");
  ASSERT_TRUE(value.is(Kind::dict));
  EXPECT_EQ(value["lr"].to<int>(), 7);
  EXPECT_EQ(value["layers"][1].to<int>(), 7);
}

TEST(DataClass, AMemberOfAnEnumSavedByItsNameIsThatName) {
  const Value value = run(made("builtins", "getattr", global("my", "Color") + text("RED")));
  ASSERT_TRUE(value.is(Kind::opaque));
  EXPECT_EQ(value.as_opaque().form, Opaque::Form::global);
  EXPECT_EQ(value.as_opaque().name, "Color.RED");
}

TEST(DataClass, WalkingAlongAttributesToAnAttackIsRefused) {
  const std::string to_os = made("builtins", "getattr", global("torch", "hub") + text("os"));
  EXPECT_ERROR(run(to_os), Code::refused, "refused global 'torch.hub.os'");
  EXPECT_ERROR(run(made("builtins", "getattr", global("my.module", "thing") + text("sys"))), Code::refused,
               "thing.sys");
}

TEST(DataClass, PyTorchsRuleKnowsNoneOfThem) {
  EXPECT_ERROR(run_pickle(global("argparse", "Namespace") + ")\x81.", UnknownClasses::refuse), Code::refused,
               "refused global 'argparse.Namespace'");
}

TEST(DataClass, AReaderThatHasPythonsOwnClassesGetsTheObjects) {
  pickle::ReadContext context;
  context.unknown_classes = UnknownClasses::opaque;
  context.keep_builtin_classes = true;
  const auto kept = [&](const std::string& body) { return pickle::read(as_bytes(body + "."), context); };
  EXPECT_TRUE(kept(global("argparse", "Namespace") + ")\x81").is(Kind::opaque));
  EXPECT_TRUE(kept(made("collections", "defaultdict", global("builtins", "list"))).is(Kind::opaque));
  EXPECT_TRUE(kept(made("collections", "defaultdict", global("my", "factory"))).is(Kind::dict));
  EXPECT_TRUE(kept(global("easydict", "EasyDict") + ")\x81").is(Kind::dict)) << "not Python's own";
}

// --- NumPy's arrays that are no tensors

std::string numpy_type(std::string_view code, int itemsize) {
  return global("numpy", "dtype") + "(" + text(code) + "\x89\x88tR(K\3" + text("<") + "NNN" + number(itemsize) +
         "K\4K\10tb";
}
std::string numpy_array(std::string_view shape, std::string_view type, std::string_view content,
                        bool is_fortran = false) {
  return made("numpy.core.multiarray", "_reconstruct", global("numpy", "ndarray") + "K\0\x85"s + bytes("b")) + "(K\1(" +
         std::string(shape) + "t" + std::string(type) + (is_fortran ? "\x88" : "\x89") + std::string(content) + "tb";
}

TEST(DataClass, AnArrayOfTextsIsAListOfThem) {
  const std::string letters = std::string("a\0\0\0b\0\0\0c\0\0\0\xac\x20\0\0", 16) + std::string(8, '\0');
  const Value row = run(numpy_array("K\3", numpy_type("U2", 8), bytes(letters)));
  EXPECT_TRUE(row == Value(List{"ab", "c\xe2\x82\xac", ""}));
  const std::string cells = std::string("x\0\0\0y\0\0\0z\0\0\0w\0\0\0", 16);
  EXPECT_TRUE(run(numpy_array("K\2K\2", numpy_type("U1", 4), bytes(cells))) ==
              Value(List{List{"x", "y"}, List{"z", "w"}}));
  EXPECT_TRUE(run(numpy_array("K\2K\2", numpy_type("U1", 4), bytes(cells), true)) ==
              Value(List{List{"x", "z"}, List{"y", "w"}}));
}

TEST(DataClass, AnArrayOfObjectsIsAListOfThem) {
  EXPECT_TRUE(run(numpy_array("K\2", numpy_type("O8", -1), "](K\1" + text("a") + "e")) == Value(List{1, "a"}));
  EXPECT_TRUE(run(numpy_array("K\0"s, numpy_type("O8", -1), "]")) == Value(List{}));
}

TEST(DataClass, ArraysThatDoNotFitTheirShapeStayObjects) {
  const std::string cells = bytes(std::string("x\0\0\0y\0\0\0", 8));
  EXPECT_TRUE(stays_an_object(numpy_array("K\3", numpy_type("U1", 4), cells)));
  EXPECT_TRUE(stays_an_object(numpy_array("K\2", numpy_type("U0", 0), cells)));
  EXPECT_TRUE(stays_an_object(numpy_array("K\1", numpy_type("U99999999999", 4), cells)));
  EXPECT_TRUE(stays_an_object(numpy_array("K\1", numpy_type("U1", 4), bytes("\xff\xff\xff\x7f")))) << "no code point";
  EXPECT_TRUE(stays_an_object(numpy_array("K\3", numpy_type("O8", -1), "]K\1a")));
  EXPECT_TRUE(
      stays_an_object(numpy_array("\x8a\10\0\0\0\0\0\0\0\x40\x8a\10\0\0\0\0\0\0\0\x40"s, numpy_type("U1", 4), cells)));
}

TEST(DataClass, AnEmptyArrayOfManyRowsCostsNoMoreThanAPickleMay) {
  const std::string huge = number(1'000'000'000) + "K\0"s;
  EXPECT_ERROR(run(numpy_array(huge, numpy_type("U1", 4), bytes(""))), Code::refused, "Limits::max_expansion");
}

// --- What is not exactly such an object

TEST(DataClass, ImpossibleDatesStayObjects) {
  const auto date = [](std::initializer_list<int> content) { return made("datetime", "date", bytes(content)); };
  EXPECT_TRUE(stays_an_object(date({7, 0xe9, 2, 29}))) << "no leap year";
  EXPECT_TRUE(stays_an_object(date({0, 0, 1, 1})));
  EXPECT_TRUE(stays_an_object(date({7, 0xea, 13, 1})));
  EXPECT_TRUE(stays_an_object(date({7, 0xea, 1, 0})));
  EXPECT_TRUE(stays_an_object(date({7, 0xea, 1})));
  EXPECT_TRUE(stays_an_object(made("datetime", "time", bytes({24, 0, 0, 0, 0, 0}))));
  EXPECT_TRUE(stays_an_object(made("datetime", "time", bytes({1, 0, 0, 0x0f, 0x42, 0x40}))))
      << "a million microseconds";
  EXPECT_TRUE(
      stays_an_object(made("datetime", "datetime", bytes({7, 0xea, 1, 1, 0, 0, 0, 0, 0, 0}) + text("nowhere"))));
  EXPECT_TRUE(stays_an_object(made("datetime", "timedelta", "K\1J\xff\xff\xff\xffK\0"s)));
  EXPECT_TRUE(stays_an_object(made("datetime", "timedelta", "K\1K\2")));
  EXPECT_TRUE(stays_an_object(made("datetime", "timezone", made("datetime", "timedelta", "K\2K\0K\0"s))));
}

TEST(DataClass, OtherArgumentsThanPythonsStayObjects) {
  EXPECT_TRUE(stays_an_object(made("argparse", "Namespace", "K\1")));
  EXPECT_TRUE(stays_an_object(with_state("argparse", "Namespace", "K\1K\2"))) << "a key that is no name";
  EXPECT_TRUE(stays_an_object(made("pathlib", "PosixPath", "K\1")));
  EXPECT_TRUE(stays_an_object(made("fractions", "Fraction", "K\1K\0"s)));
  EXPECT_TRUE(stays_an_object(made("fractions", "Fraction", text("1/0"))));
  EXPECT_TRUE(stays_an_object(made("fractions", "Fraction", text("__import__('os')"))));
  EXPECT_TRUE(stays_an_object(made("decimal", "Decimal", text("1.2.3"))));
  EXPECT_TRUE(stays_an_object(made("decimal", "Decimal", text("1E99999999999999999999"))));
  EXPECT_TRUE(stays_an_object(with_state("uuid", "UUID", text("int") + "J\xff\xff\xff\xff")));
  EXPECT_TRUE(stays_an_object(with_state("uuid", "UUID", text("hex") + "K\1")));
  EXPECT_TRUE(stays_an_object(made("collections", "deque", ")K\1") + "(K\1K\2e")) << "more than its maxlen";
  EXPECT_TRUE(stays_an_object(made("builtins", "range", "K\1K\2K\0"s)));
  EXPECT_TRUE(stays_an_object(made("posix", "uname_result", "K\1")));
  EXPECT_TRUE(stays_an_object(made("torch.torch_version", "TorchVersion", "K\1")));
  EXPECT_TRUE(stays_an_object(with_state("omegaconf.dictconfig", "DictConfig", text("content") + "}")));
}

TEST(DataClass, ALongPathOutOfFewBytesStaysAnObject) {
  std::string arguments = text(std::string(1000, 'x')) + std::string("q\0", 2);
  for (int i = 0; i < 100; ++i) arguments += std::string("h\0", 2);
  EXPECT_TRUE(stays_an_object(made("pathlib", "PosixPath", arguments)));
}

TEST(DataClass, WhatRefersToAPartThatWouldBeGoneStaysAnObject) {
  // The dict of the attributes refers to itself: as plain data the object and that dict would be one.
  const std::string state = std::string("}q\1(", 4) + text("data") + "]" + std::string("h\1a", 3) + "u";
  const Value value = run(global("collections", "UserDict") + ")\x81" + state + "b");
  ASSERT_TRUE(value.is(Kind::opaque));
  EXPECT_TRUE(value.clone() == value);
}

TEST(DataClass, TheTableNamesEachClassOnce) {
  for (const DataClass& row : data_classes()) {
    Opaque object;
    object.module = row.module;
    object.name = row.name;
    EXPECT_EQ(data_class_of(object), &row) << row.module << "." << row.name;
  }
}

}  // namespace
}  // namespace torchkeep
