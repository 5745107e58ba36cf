// SPDX-License-Identifier: BSD-3-Clause
// The catalogue: the formats of torch.save before PyTorch 1.6.
#include <functional>

#include "support/broken_files.h"
#include "support/file_parts.h"

namespace torchkeep::testing {
namespace {

using namespace parts;

BrokenFile changed(const char* name, std::optional<Code> code, const char* message,
                   const std::function<void(Stream&)>& change, const PtReadOptions& options = {}) {
  Stream stream = parts::stream();
  change(stream);
  return {std::string("stream.") + name, stream.bytes(), code, message, options};
}

BrokenFile changed_tar(const char* name, std::optional<Code> code, const char* message,
                       const std::function<void(Tar&)>& change) {
  Tar tar = torch_tar();
  change(tar);
  return {std::string("tar.") + name, tar.bytes(), code, message};
}

std::string viewed(std::string_view view, std::int64_t numel = 4) {
  return tuple({text("storage"), global("torch", "FloatStorage"), text("7"), text("cpu"), number(numel), view}) + "Q";
}

std::string view_of(std::int64_t first, std::int64_t count) {
  return tuple({text("8"), number(first), number(count)});
}

}  // namespace

std::vector<BrokenFile> broken_streams() {
  constexpr Code corrupt = Code::corrupt;
  const auto object = [](std::string body) { return [body](Stream& s) { s.object = pickle(body); }; };
  return {
      changed("honest", std::nullopt, "", [](Stream&) {}),
      changed("view_of_a_storage", std::nullopt, "", object(tensor(viewed(view_of(2, 2)), 0, {2}, {1}))),
      changed("bytes_behind", std::nullopt, "", [](Stream& s) { s.storages += "more"; }),
      changed("of_a_class_with_its_source", std::nullopt, "",
              object(tensor(viewed("N"), 0, {4}, {1}) + "0" +
                     tuple({text("module"), global("my", "Net"), text("net.py"), text("class Net: pass")}) +
                     "Q)\x81}b" + "0" + tensor(viewed("N"), 0, {4}, {1}))),
      changed("version_1002", Code::unsupported, "version 1002 of the layout",
              [](Stream& s) { s.version = pickle("M\xea\3"); }),
      changed("version_of_no_number", corrupt, "expected the number", [](Stream& s) { s.version = pickle("N"); }),
      changed("machine_of_no_dict", corrupt, "expected a dict", [](Stream& s) { s.machine = pickle("]"); }),
      changed("machine_of_ten_kilobytes", Code::refused, "a pickle of more than 4096 bytes",
              [](Stream& s) { s.machine = pickle("}" + text(std::string(10'000, 'x')) + "0"); }),
      changed("nothing_behind_the_magic_number", corrupt, "without STOP",
              [](Stream& s) { s.version = s.machine = s.object = s.keys = s.storages = ""; }),
      changed("object_without_end", corrupt, "without STOP", [](Stream& s) { s.object.pop_back(); }),
      changed("no_list_of_storages", corrupt, "without STOP", [](Stream& s) { s.keys = s.storages = ""; }),
      changed("list_of_storages_is_a_dict", corrupt, "expected the list", [](Stream& s) { s.keys = pickle("}"); }),
      changed("list_names_an_unknown_storage", corrupt, "one that no tensor uses",
              [](Stream& s) { s.keys = pickle("]" + text("9") + "a"); }),
      changed("list_names_a_number", corrupt, "one that no tensor uses", [](Stream& s) { s.keys = pickle("]K\7a"); }),
      changed("list_names_one_twice", corrupt, "listed twice",
              [](Stream& s) { s.keys = pickle("]" + text("7") + "a" + text("7") + "a"), s.storages += s.storages; }),
      changed("list_is_empty", corrupt, "storage '7' is not in the list", [](Stream& s) { s.keys = pickle("]"); }),
      changed("storage_of_other_length", corrupt, "says 3 elements, the tensors over it expect 4",
              [](Stream& s) { s.storages = u64(3) + "0123456789ab"; }),
      changed("storage_of_negative_length", corrupt, "says -1 elements",
              [](Stream& s) { s.storages = u64(~0ull) + "0123456789ab"; }),
      changed("storage_cut_off", corrupt, "but the file ends after 15", [](Stream& s) { s.storages.pop_back(); }),
      changed("storage_length_cut_off", corrupt, "ends before its last storage",
              [](Stream& s) { s.storages = u64(4).substr(0, 7); }),
      changed("storage_of_the_universe", corrupt, "but the file ends after 16",
              [](Stream& s) {
                s.object = pickle(tensor(viewed("N", 1ll << 60), 0, {4}, {1}));
                s.storages = u64(1ull << 60) + "0123456789abcdef";
              }),
      changed("magic_number_that_changed", corrupt, "the magic number of torch.save, damaged",
              [](Stream& s) { s.magic[5] ^= 1; }),
      changed("storage_of_two_types", corrupt, "storage '7' is int32 here and float32 elsewhere",
              object(tuple({viewed("N", 4), storage("7", 4, "IntStorage")}))),
      changed("storage_of_two_sizes", corrupt, "bytes here and 16 elsewhere",
              object(tuple({viewed("N", 4), viewed("N", 2)}))),
      changed("view_past_its_storage", corrupt, "a view of 3 elements from 2 on, of a storage of 4",
              object(tensor(viewed(view_of(2, 3)), 0, {2}, {1}))),
      changed("view_before_its_storage", corrupt, "a view of 3 elements from -1 on",
              object(tensor(viewed(view_of(-1, 3)), 0, {2}, {1}))),
      changed("view_of_no_numbers", corrupt, "a view of a storage is", object(viewed(tuple({text("8"), "N", "N"})))),
      changed("tensor_past_its_view", corrupt, "reaches past its view of 2 elements",
              object(tensor(viewed(view_of(1, 2)), 0, {3}, {1}))),
      changed("tensor_before_its_view", corrupt, "storage offset -1",
              object(tensor(viewed(view_of(1, 2)), -1, {2}, {1}))),
      changed("class_that_is_a_text", std::nullopt, "",
              [](Stream& s) {
                s.object = pickle(tuple({text("module"), text("os"), text("net.py"), text("x")}) + "Q");
                s.keys = pickle("]"), s.storages = "";
              }),
      changed("class_that_is_a_text_refused", Code::unsupported, "a persistent id that is not a storage",
              [](Stream& s) {
                s.object = pickle(tuple({text("module"), text("os"), text("net.py"), text("x")}) + "Q");
                s.keys = pickle("]"), s.storages = "";
              },
              {.unknown_classes = UnknownClasses::refuse}),
  };
}

std::vector<BrokenFile> broken_tars() {
  constexpr Code corrupt = Code::corrupt, refused = Code::refused, unsupported = Code::unsupported;
  const Tar honest = torch_tar();
  std::string wrong_sum = honest.bytes();
  wrong_sum[0] = 'S';
  const std::string three = tar_member("storages", honest.storages) + tar_member("tensors", honest.tensors) +
                            tar_member("pickle", honest.object);
  const auto tensors = [&](std::string_view head, const std::string& rest) {
    return [head = std::string(head), rest](Tar& t) { t.tensors = pickle(number(1)) + head + rest; };
  };
  const std::string head = pickle(tuple({number(2), number(1), global("torch", "FloatTensor")}));
  const auto storages = [](std::string views) {
    return [views](Tar& t) { t.storages.replace(t.storages.size() - 4, 4, pickle(views)); };
  };
  return {
      changed_tar("honest", std::nullopt, "", [](Tar&) {}),
      changed_tar("view", std::nullopt, "", storages("](" + number(9) + number(1) + number(0) + number(2) + "ta")),
      {"tar.with_sys_info", tar_member("sys_info", pickle("}")) + three, std::nullopt},
      {"tar.with_times", tar_member("x", "20 mtime=1500000000.5\n", 'x') + three, std::nullopt},
      {"tar.checksum", wrong_sum, corrupt, "a tar header with a wrong checksum"},
      {"tar.cut_off", honest.bytes().substr(0, 540), corrupt, "but the file ends after 28"},
      {"tar.two_members_of_one_name", three + tar_member("pickle", honest.object), corrupt,
       "two members named 'pickle'"},
      {"tar.path_that_leaves", tar_member("../../etc/passwd", "x") + three, refused, "named '../../etc/passwd'"},
      {"tar.absolute_path", tar_member("/etc/passwd", "x") + three, refused, "named '/etc/passwd'"},
      {"tar.link", tar_member("pickle", "", '2') + three, unsupported, "a tar member of type '2'"},
      {"tar.renamed_by_a_header", tar_member("x", "15 path=pickle\n", 'x') + three, unsupported,
       "another name or size"},
      {"tar.resized_by_a_header", tar_member("x", "11 size=99\n", 'x') + three, unsupported, "another name or size"},
      {"tar.no_pickle", tar({{"storages", honest.storages}, {"tensors", honest.tensors}}), corrupt,
       "without a member 'pickle'"},
      {"tar.something_else", tar({{"readme.txt", "hello"}}), corrupt, "without a member 'storages'"},
      changed_tar("negative_number_of_storages", corrupt, "-1 items", [](Tar& t) { t.storages = pickle(number(-1)); }),
      changed_tar("a_billion_storages", corrupt, "without STOP",
                  [](Tar& t) { t.storages = pickle(number(1'000'000'000)); }),
      changed_tar("storage_of_no_class", corrupt, "expected the class of a storage",
                  [](Tar& t) {
                    t.storages = pickle(number(1)) + pickle(tuple({number(1), text("cpu"), "N"})) + u64(4);
                  }),
      changed_tar("storage_past_the_member", corrupt, "a storage of 1152921504606846976 elements",
                  [](Tar& t) {
                    t.storages = pickle(number(1)) +
                                 pickle(tuple({number(1), text("cpu"), global("torch", "FloatStorage")})) +
                                 u64(1ull << 60);
                  }),
      changed_tar("storage_of_negative_length", corrupt, "a storage of -1 elements",
                  [](Tar& t) {
                    t.storages = pickle(number(1)) +
                                 pickle(tuple({number(1), text("cpu"), global("torch", "FloatStorage")})) + u64(~0ull);
                  }),
      changed_tar("view_of_nothing", corrupt, "no storage has the number 77",
                  storages("](" + number(9) + number(77) + number(0) + number(2) + "ta")),
      changed_tar("view_past_its_storage", corrupt, "a view of 3 elements from 2 on",
                  storages("](" + number(9) + number(1) + number(2) + number(3) + "ta")),
      changed_tar("view_that_overflows", corrupt, "of a storage of 4",
                  storages("](" + number(9) + number(1) + number(1) + number(0x7fffffffffffffff) + "ta")),
      changed_tar("bytes_behind_the_views", corrupt, "bytes behind the last one", [](Tar& t) { t.storages += "x"; }),
      changed_tar("tensor_of_two_billion_dimensions", refused, "2147483647 dimensions",
                  tensors(head, u32(0x7fffffff) + u32(0))),
      changed_tar("tensor_of_negative_dimensions", refused, "-1 dimensions", tensors(head, u32(0xffffffff) + u32(0))),
      changed_tar("tensor_past_its_storage", corrupt, "needs 5 elements",
                  tensors(head, u32(1) + u32(0) + u64(5) + u64(1) + u64(0))),
      changed_tar("tensor_of_negative_size", corrupt, "negative size",
                  tensors(head, u32(1) + u32(0) + u64(~0ull) + u64(1) + u64(0))),
      changed_tar("tensor_cut_off", corrupt, "in the middle of a number", tensors(head, u32(2) + u32(0) + u64(2))),
      changed_tar("two_objects_of_one_number", corrupt, "two objects of the number 1",
                  tensors(pickle(tuple({number(1), number(1), "N"})), u32(0) + u32(0) + u64(0))),
      changed_tar("object_of_no_number", corrupt, "nothing has the number 5",
                  [](Tar& t) { t.object = pickle(number(5) + "Q"); }),
  };
}

}  // namespace torchkeep::testing
