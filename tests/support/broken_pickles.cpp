// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: pickles, of which each stands in a zip of torch.save.
#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;
using namespace std::string_literals;

BrokenFile pickled(const std::string& name, std::string_view body, std::optional<Code> code, const char* message = "",
                   const PtReadOptions& options = {}) {
  return {"pickle." + name, torch_zip(pickle(body)), code, message, options};
}

std::string repeated(std::string_view part, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += part;
  return out;
}

std::vector<BrokenFile> instructions() {
  constexpr Code corrupt = Code::corrupt, refused = Code::refused, unsupported = Code::unsupported;
  return {
      {"pickle.empty", torch_zip(""), corrupt, "without STOP"},
      {"pickle.no_stop", torch_zip("\x80\x02N"), corrupt, "without STOP"},
      {"pickle.protocol_6", torch_zip("\x80\x06N."), unsupported, "pickle protocol 6"},
      pickled("stop_on_an_empty_stack", "", corrupt, "the stack is empty"),
      pickled("unknown_instruction", "\xff", corrupt, "unknown instruction 0xff"),
      pickled("pop_of_nothing", "0", corrupt, "the stack is empty"),
      pickled("dup_of_nothing", "2", corrupt, "the stack is empty"),
      pickled("tuple3_of_two", "NN\x87", corrupt, "the stack is empty"),
      pickled("tuple_reaches_below_a_mark", "N(\x85", corrupt, "the stack is empty"),
      pickled("no_mark", "t", corrupt, "no mark"),
      pickled("append_to_a_dict", "}Na", corrupt, "APPEND to a dict"),
      pickled("set_item_on_a_list", "]NNs", corrupt, "SETITEM on a list"),
      pickled("set_item_on_a_tensor", tensor(storage("0", 4), 0, {4}, {1}) + "NNs", corrupt, "SETITEM on a tensor"),
      pickled("add_items_to_a_list", "](N\x90", corrupt, "ADDITEMS to a list"),
      pickled("key_without_value", "}(Nu", corrupt, "a key without a value"),
      pickled("unhashable_key", "}]Ns", corrupt, "cannot be the key"),
      pickled("unhashable_element", "\x8f(]\x90", corrupt, "cannot be the key"),
      pickled("memo_never_set", "h\5", corrupt, "memo index 5 was never set"),
      pickled("memo_of_four_billion", "Nr\xff\xff\xff\xff", refused, "memo index 4294967295 in a pickle"),
      pickled("memo_of_a_huge_text_index", "Np9999999999999999999\n", refused, "memo index 9999999999999999999"),
      pickled("memo_index_over_64_bits", "Np99999999999999999999999\n", corrupt, "is not a number"),
      pickled("length_past_the_end", "X\xff\xff\xff\x7f", corrupt, "ends in the middle"),
      pickled("length_of_64_bits", "\x8e" + u64(~0ull), corrupt, "ends in the middle"),
      pickled("bytearray_of_64_bits", "\x96" + u64(1ull << 62), corrupt, "ends in the middle"),
      pickled("negative_length", "T\xff\xff\xff\xff", corrupt, "a negative length"),
      pickled("negative_long", "\x8b\0\0\0\x80"s, corrupt, "a negative length"),
      pickled("text_not_utf8", "X\1\0\0\0\xff"s, corrupt, "not UTF-8"),
      pickled("text_overlong_utf8", "X\2\0\0\0\xc0\x80"s, corrupt, "not UTF-8"),
      pickled("name_not_utf8", "c\xff\n\xff\n", corrupt, "not UTF-8"),
      pickled("line_without_end", "I1", corrupt, "a line without an end"),
      pickled("int_of_letters", "Ione\n", corrupt, "is not an int"),
      pickled("int_of_nothing", "I\n", corrupt, "is not an int"),
      pickled("int_of_5000_digits", "L" + std::string(5000, '9') + "L\n", refused, "a decimal int of 5000 digits"),
      pickled("float_of_letters", "Fone\n", corrupt, "is not a number"),
      pickled("text_without_quotes", "Sone\n", corrupt, "a broken escape"),
      pickled("text_with_half_an_escape", "S'\\x4'\n", corrupt, "a broken escape"),
      pickled("unicode_past_the_last_plane", "V\\U00110000\n", corrupt, "a broken escape"),
      pickled("extension", "\x82\1", refused, "an extension code"),
      pickled("buffer_outside", "\x97", unsupported, "buffers outside"),
      pickled("reduce_of_a_list", "])R", refused, "a call of a list"),
      pickled("reduce_of_a_tensor", tensor(storage("0", 4), 0, {4}, {1}) + ")R", refused, "a call of a tensor"),
      pickled("reduce_without_arguments", global("collections", "OrderedDict") + "NR", corrupt, "not a tuple"),
      pickled("newobj_without_arguments", global("collections", "OrderedDict") + "N\x81", corrupt, "NEWOBJ without"),
      pickled("obj_without_class", "(o", corrupt, "OBJ without a class"),
      pickled("build_of_a_list", "]}b", unsupported, "BUILD of a list"),
      pickled("build_of_nothing", "}b", corrupt, "the stack is empty"),
      pickled("attributes_of_a_number", global("collections", "OrderedDict") + ")RK\1b", corrupt, "not a dict"),
      pickled("two_builds", global("collections", "OrderedDict") + ")R}b}b", unsupported, "a second BUILD"),
      pickled("stack_global_of_numbers", "K\1K\2\x93", corrupt, "a global's name is not a text"),
      pickled("name_of_two_kilobytes", "c" + std::string(2000, 'a') + "\nb\n", refused,
              "a global's name of 2001 bytes"),
      pickled("storage_without_fields", tuple({text("storage")}) + "Q", corrupt, "a storage id of 1 fields"),
      pickled("storage_of_no_class", tuple({text("storage"), "N", text("0"), text("cpu"), number(4)}) + "Q", corrupt,
              "a storage id is"),
      pickled("storage_of_negative_size", storage("0", -1), corrupt, "a storage id is"),
      pickled("storage_of_the_universe", storage("0", 0x7fffffffffffffff), corrupt, "a storage of 9223372036854775807"),
      pickled("storage_of_another_file", storage("../../data/0", 4), corrupt, "record 'data/../../data/0' is missing"),
      pickled("storage_on_the_device_meta",
              tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("meta"), number(4)}) + "Q",
              corrupt, "a storage with bytes on the device meta"),
      pickled("storage_elsewhere_on_the_disk", storage("/etc/passwd", 4), corrupt, "is missing"),
      pickled("storage_key_with_nul", storage("0\0"s, 4), corrupt, "is missing"),
      pickled("storage_of_an_unknown_class", storage("0", 4, "EvilStorage"), corrupt, "a storage id is"),
  };
}

// Little pickles that ask for much.
std::vector<BrokenFile> bombs() {
  constexpr Code refused = Code::refused;
  const std::string thousand = "(" + repeated("N", 1000) + "lq\1";
  const std::string long_text = text(std::string(100'000, 'x')) + "q\1";
  const std::string set = global("builtins", "set") + "q\2";
  const std::string encode = global("_codecs", "encode") + "q\2" + text("latin1") + "q\3";
  const PtReadOptions tight{.limits = {.max_expansion = 16, .max_free_bytes = 1 << 20}};
  std::string laughs = "]q\0"s, powers = "K\1q\0"s;
  for (char i = 0; i < 60; ++i) {
    laughs += "](h"s + i + "h" + i + "eq" + static_cast<char>(i + 1);
    powers += "h"s + i + "h" + i + "\x86q" + static_cast<char>(i + 1);
  }
  return {
      pickled("billion_laughs", laughs, std::nullopt),
      pickled("billion_laughs_as_a_key",
              "}q\x64" + powers +
                  "q\x65"
                  "0h\x64h\x65Ns",
              refused, "a dict key has more than"),
      pickled("list_inside_itself", "]q\0h\0a"s, std::nullopt),
      pickled("dict_inside_itself", "}q\0"s + text("self") + "h\0s"s, std::nullopt),
      pickled("tuple_inside_its_list", "]q\0h\0\x85q\1a"s, std::nullopt),
      pickled("nested_100_000_deep", repeated("]", 100'000) + repeated("a", 99'999), std::nullopt),
      pickled("objects_over_the_limit", repeated("]", 100), refused, "Limits::max_objects",
              {.limits = {.max_objects = 50}}),
      pickled("many_copies_of_one_list", thousand + set + repeated("h\2h\1\x85R0", 10'000), refused,
              "Limits::max_expansion", tight),
      pickled("many_copies_of_one_text", long_text + encode + repeated("h\2h\1h\3\x86R0", 2000), refused,
              "Limits::max_expansion", tight),
      pickled("one_text_in_many_places", "]q\0("s + long_text + repeated("h\1", 10'000) + "e", std::nullopt, "", tight),
      pickled("one_text_duplicated", "](" + long_text + repeated("2", 10'000) + "e", std::nullopt, "", tight),
      pickled("one_bytes_in_many_places",
              "](B" + u32(100'000) + std::string(100'000, 'x') + "q\1" + repeated("h\1", 10'000) + "e", std::nullopt,
              "", tight),
      pickled("one_long_int_in_many_places",
              "](\x8b" + u32(100'000) + std::string(100'000, 'x') + "q\1" + repeated("h\1", 10'000) + "e", std::nullopt,
              "", tight),
      pickled("many_objects_of_a_long_name", global("m", std::string(900, 'n')) + "q\1" + repeated("h\1)R0", 20'000),
              refused, "Limits::max_expansion", tight),
      pickled("frame_of_64_bits", "\x95" + u64(~0ull) + "N", std::nullopt),
  };
}

}  // namespace

std::vector<BrokenFile> broken_pickles() {
  std::vector<BrokenFile> files = instructions();
  for (BrokenFile& file : bombs()) files.push_back(std::move(file));
  return files;
}

// Objects of data classes with content that no honest one has: each stays an object, or costs what it may cost.
std::vector<BrokenFile> broken_data() {
  const auto data = [](const std::string& name, const std::string& body, std::optional<Code> code = std::nullopt,
                       const char* message = "") {
    return BrokenFile{"data." + name, torch_zip(pickle(body)), code, message};
  };
  const std::string array = global("numpy.core.multiarray", "_reconstruct") + global("numpy", "ndarray") + "K\0\x85"s +
                            text("b") + "\x87R(K\1";
  const std::string texts =
      global("numpy", "dtype") + "(" + text("U1") + "\x89\x88tR(K\3" + text("<") + "NNNK\4K\4K\10tb\x89";
  const std::string huge = "J" + u32(1'000'000'000);
  return {
      data("date_of_february_30", global("datetime", "date") + text("\x07\x6a\x02\x1e") + "\x85R"),
      data("namespace_with_a_number_for_a_name", global("argparse", "Namespace") + ")\x81}K\1K\2sb"),
      data("namespace_inside_itself", global("argparse", "Namespace") + ")\x81q\0}"s + text("me") + "h\0sb"s),
      data("deque_inside_itself", global("collections", "deque") + ")Rq\0h\0a"s),
      data("user_dict_whose_state_holds_itself",
           global("collections", "UserDict") + ")\x81}q\0"s + text("data") + "h\0sb"s),
      data("path_of_many_copies", global("pathlib", "PosixPath") + "(" + text(std::string(1000, 'x')) + "q\0"s +
                                      repeated("h\0"s, 100'000) + "tR"),
      data("fraction_over_zero", global("fractions", "Fraction") + "K\1K\0\x86R"s),
      data("decimal_of_code", global("decimal", "Decimal") + text("__import__('os')") + "\x85R"),
      data("texts_of_another_shape", array + "K\7\x85" + texts + text("x") + "tb"),
      data("texts_of_a_billion_empty_rows", array + huge + "K\0\x86"s + texts + text("") + "tb", Code::refused,
           "Limits::max_expansion"),
      data("objects_of_another_shape", array + "K\7\x85" + global("numpy", "dtype") + text("O8") + "\x85R\x89]tb"),
  };
}

std::vector<BrokenFile> attacks() {
  const std::string run = text("echo pwned") + "\x85R";
  std::vector<BrokenFile> files;
  const auto add = [&files](const std::string& name, const std::string& body, const std::string& global) {
    files.push_back({"attack." + name, torch_zip(pickle(body)), Code::refused, "refused global '" + global + "'"});
  };
  const std::pair<const char*, const char*> kNames[] = {{"os", "system"},
                                                        {"posix", "system"},
                                                        {"nt", "system"},
                                                        {"os", "popen"},
                                                        {"os", "execv"},
                                                        {"subprocess", "Popen"},
                                                        {"subprocess", "call"},
                                                        {"subprocess", "check_output"},
                                                        {"builtins", "eval"},
                                                        {"builtins", "exec"},
                                                        {"builtins", "compile"},
                                                        {"builtins", "open"},
                                                        {"__builtin__", "eval"},
                                                        {"__builtin__", "execfile"},
                                                        {"__builtin__", "apply"},
                                                        {"builtins", "__import__"},
                                                        {"builtins", "breakpoint"},
                                                        {"sys", "exit"},
                                                        {"shutil", "rmtree"},
                                                        {"socket", "socket"},
                                                        {"runpy", "run_path"},
                                                        {"pty", "spawn"},
                                                        {"importlib", "import_module"},
                                                        {"ctypes", "CDLL"},
                                                        {"webbrowser", "open"},
                                                        {"pip", "main"},
                                                        {"pdb", "run"},
                                                        {"timeit", "timeit"},
                                                        {"asyncio.subprocess", "create_subprocess_shell"},
                                                        {"bdb", "Bdb"},
                                                        {"io", "open"},
                                                        {"cProfile", "run"},
                                                        {"tempfile", "mktemp"},
                                                        {"urllib.request", "urlopen"},
                                                        {"requests.api", "get"},
                                                        {"torch.serialization", "os.system"},
                                                        {"numpy.testing", "sys.exit"},
                                                        {"builtins", "eval.__call__"},
                                                        {"pickle", "loads"},
                                                        {"_pickle", "loads"},
                                                        {"torch.hub", "load"},
                                                        {"torch", "load"},
                                                        {"numpy", "load"},
                                                        {"numpy.testing._private.utils", "runstring"},
                                                        {"commands", "getoutput"},
                                                        {"code", "interact"},
                                                        {"distutils.file_util", "write_file"},
                                                        {"torch.jit.unsupported_tensor_ops", "execWrapper"},
                                                        {"logging.config", "listen"},
                                                        {"zipimport", "zipimporter"}};
  for (const auto& [module, name] : kNames) {
    add(std::string("global_") + module + "." + name, global(module, name) + run, std::string(module) + "." + name);
  }
  add("stack_global", text("os") + text("system") + "\x93" + run, "os.system");
  add("inst", "(" + text("x") + "ios\nsystem\n", "os.system");
  add("obj", "(" + global("os", "system") + text("x") + "o", "os.system");
  add("newobj", global("os", "system") + ")\x81", "os.system");
  add("name_without_a_call", "]" + global("os", "system") + "a", "os.system");
  add("popped_before_the_end", global("os", "system") + run + "0}", "os.system");
  add("inside_a_storage_id", tuple({text("storage"), global("os", "system")}) + "Q", "os.system");
  add("as_state_of_an_object", global("m", "C") + ")\x81" + global("os", "system") + "b", "os.system");
  files.push_back({"attack.raw_pickle", "cos\nsystem\n(S'echo pwned'\ntR.", Code::refused,
                   "at byte 0: refused global 'os.system'"});
  files.push_back({"attack.magic_number_by_eval",
                   "\x80\2c__builtin__\neval\n" + text("0x1950A86A20F9469CFC6C") + "\x85R.", Code::refused,
                   "refused global '__builtin__.eval'"});
  Stream stream = parts::stream();
  stream.object = pickle(global("os", "system") + run);
  files.push_back({"attack.stream", stream.bytes(), Code::refused, "refused global 'os.system'"});
  Tar tar = torch_tar();
  tar.object = pickle(global("os", "system") + run);
  files.push_back({"attack.tar", tar.bytes(), Code::refused, "pickle at byte 2: refused global 'os.system'"});
  files.push_back({"attack.looked_into",
                   torch_zip(pickle(global("os", "system") + run)),
                   std::nullopt,
                   "",
                   {.unknown_classes = UnknownClasses::inspect}});
  add("walk_along_attributes",
      global("builtins", "getattr") + "(" + global("torch", "hub") + text("os") + "tR" + text("system") + "\x86",
      "torch.hub.os");
  files.push_back(
      {"attack.uname_is_none", torch_zip(pickle(global("posix", "uname_result") + "(K\1K\2t}\x86R")), std::nullopt});
  files.push_back({"attack.unknown_class", torch_zip(pickle(global("my.module", "Config") + ")\x81}b")), std::nullopt});
  files.push_back({"attack.unknown_class_refused",
                   torch_zip(pickle(global("my.module", "Config") + ")\x81}b")),
                   Code::refused,
                   "refused global 'my.module.Config'",
                   {.unknown_classes = UnknownClasses::refuse}});
  return files;
}

}  // namespace torchkeep::testing
