// SPDX-License-Identifier: BSD-3-Clause
// Files to begin with: honest ones of every format, and the catalogue of broken ones.
#include "promises.h"
#include "support/broken_files.h"
#include "support/dcp_folder.h"
#include "support/file_parts.h"
#include "support/pt_files.h"
#include "support/rank_folder.h"
#include "targets.h"

namespace torchkeep::fuzz {
namespace {

using namespace testing::parts;

constexpr std::size_t kMaxSeed = 16384;  // larger ones are bombs, and slow

// Objects that the catalogue does not have, as the instructions that push them.
std::vector<std::string> objects() {
  const std::string plain = tensor(storage("0", 4), 0, {4}, {1});
  const std::string ordered = global("collections", "OrderedDict") + ")R";
  const std::string size = call(global("torch", "Size"), {numbers({2, 2})});
  const std::string coo = call(global("torch.serialization", "_get_layout"), {text("torch.sparse_coo")});
  const auto utils = [](const char* name) { return global("torch._utils", name); };
  return {
      plain,
      call(utils("_rebuild_parameter"), {plain, "\x88", ordered}),
      call(utils("_rebuild_parameter_with_state"), {plain, "\x88", ordered, empty_dict()}),
      call(utils("_rebuild_tensor"), {storage("0", 4), number(0), numbers({2}), numbers({2})}),
      call(utils("_rebuild_tensor_v3"), {storage("0", 16, "UntypedStorage"), number(0), numbers({8}), numbers({1}),
                                         "\x89", ordered, global("torch", "float16")}),
      call(utils("_rebuild_qtensor"),
           {storage("0", 16, "QInt8Storage"), number(0), numbers({16}), numbers({1}),
            tuple({global("torch", "per_tensor_affine"), "G" + std::string(8, '\0'), number(0)}), "\x89", ordered}),
      call(utils("_rebuild_sparse_tensor"), {coo, tuple({plain, plain, size})}),
      call(utils("_rebuild_nested_tensor"), {plain, plain, plain, plain}),
      call(utils("_rebuild_meta_tensor_no_storage"),
           {global("torch", "float32"), numbers({2, 2}), numbers({2, 1}), "\x89"}),
      call(global("torch._tensor", "_rebuild_from_type_v2"),
           {utils("_rebuild_tensor"), global("torch", "Tensor"),
            tuple({storage("0", 4), number(0), numbers({4}), numbers({1})}), empty_dict()}),
      call(global("numpy.core.multiarray", "_reconstruct"), {global("numpy", "ndarray"), numbers({0}), "C\1b"}) +
          tuple({number(1), numbers({2}),
                 call(global("numpy", "dtype"), {text("f4"), "\x89", "\x88"}) +
                     tuple({number(3), text("<"), "N", "N", "N", number(-1), number(-1), number(0)}) + "b",
                 "\x89", std::string("C\10") + "01234567"}) +
          "b",
      call(global("torch.storage", "_load_from_bytes"), {"B" + u32(3) + "abc"}),
      call(global("collections", "Counter"), {empty_dict() + entry(text("a"), number(2))}),
      call(global("collections", "defaultdict"), {global("builtins", "list")}),
      call(global("builtins", "set"), {"](" + number(1) + number(2) + "e"}),
      call(global("builtins", "complex"), {"G" + std::string(8, '\0'), number(1)}),
      call(global("_codecs", "encode"), {text("abc"), text("latin1")}),
      call(global("torch", "device"), {text("cuda"), number(1)}),
      ordered + entry(text("a"), "N") + empty_dict() + entry(text("_metadata"), ordered) + "b",
      global("my.module", "Config") + ")\x81" + empty_dict() + entry(text("lr"), "N") + "b",
      "]q\1h\1a",
      "(lp0\nI1\nag0\na",
      "\x8f(K\1K\2\x90",
      "(K\1K\2\x91",
      "\x96" + u64(3) + "abc",
      "\x8a\x0a" + std::string(10, '\x7f'),
  };
}

std::vector<std::string> pickles() {
  std::vector<std::string> all;
  for (const std::string& object : objects()) {
    all.push_back(pickle(object));
    all.push_back(pickle(empty_dict() + entry(text("x"), object) + entry(text("y"), "N")));
  }
  return all;
}

// Folders whose .metadata is honest, or lies in one place.
std::vector<std::string> metadata_files() {
  std::vector<std::string> all;
  const auto add = [&all](auto&& change) {
    testing::DcpFolder folder = testing::sample_dcp_folder();
    change(folder);
    all.push_back(folder.metadata_bytes());
  };
  add([](auto&) {});
  add([](auto& folder) { folder.paths = testing::DcpFolder::Paths{{"w", "model/#1/w"}, {"n", "step"}}; });
  add([](auto& folder) { folder.paths = testing::DcpFolder::Paths{{"w", "a"}, {"n", "a/b"}}; });
  add([](auto& folder) { folder.tensors[0].chunks.pop_back(); });
  add([](auto& folder) { folder.tensors[0].chunks[1] = Box({3, 0}, {3, 4}); });
  add([](auto& folder) { folder.tensors[0].shape = {24}; });
  add([](auto& folder) { folder.tensors[0].dtype = "int32"; });
  add([](auto& folder) { folder.items[0].file = "../x"; });
  add([](auto& folder) { folder.items[0].length = std::int64_t{1} << 62; });
  add([](auto& folder) { folder.items[0].transform = "stream.zstd/1"; });
  add([](auto& folder) { folder.values.clear(); });
  add([](auto& folder) { folder.metadata_class = "megatron.core\nMetadata"; });
  all.push_back(testing::sample_rank_folder().files.at(std::string(kManifestName)));
  return all;
}

bool fits(std::string_view target, const testing::BrokenFile& file) {
  const std::string_view part = std::string_view(file.name).substr(0, file.name.find('.'));
  if (file.bytes.size() > kMaxSeed) return false;
  if (target == "load" || target == "round_trip" || target == "load_into") return true;
  if (target == "compounds") return part == "sparse" || part == "nested" || part == "meta";
  if (target == "zip") return part == "zip";
  if (target == "pickle") return part == "raw";
  return target == part;
}

std::vector<std::string> metrics() {
  const std::string honest = R"({"step": 1, "loss": 1.5, "lr": 0.1})"
                             "\n"
                             R"({"step": 2, "loss": 0.5, "lr": 0.01})"
                             "\n";
  std::vector<std::string> all{honest, "", "\n\n", "{", "[1]\n", honest + honest};
  for (const char* value : {"1.7e308", "-1.7e308", "NaN", "Infinity", "-Infinity", "1e999", "5e-324", "0", "-0.0",
                            "9223372036854775807", "true", "\"text\"", "[1]", "{}", "null"}) {
    all.push_back(honest + R"({"step": 3, "loss": )" + value + "}\n" + R"({"step": 4, "loss": -1.7e308})" + "\n");
    all.push_back(std::string(R"({"step": )") + value + R"(, "loss": 1})" + "\n" + honest);
  }
  return all;
}

std::vector<std::string> run_directories() {
  const std::string good = testing::pt_bytes(
      {{"model", {{"w", Tensor::of<float>({2}, {1, 2})}}}, {"torchkeep", {{"step", 1}, {"metrics", {{"loss", 0.5}}}}}});
  const std::string cut = good.substr(0, good.size() / 2);
  std::vector<std::string> all;
  for (const std::string& log : metrics())
    all.push_back(pack({{"step-00000001.pt", good}, {"metrics.jsonl", log}, {"saves.jsonl", log}}));
  for (const char* name : {".lock", "pin-00000001", "pin-00000009", "finished-00000001", "step-00000003.pt",
                           "step-00000002.pt.broken", "step-99999999999999999999.pt", "step--1.pt", "other"})
    all.push_back(pack({{"step-00000001.pt", good}, {"step-00000002.pt", cut}, {name, good}}));
  return all;
}

}  // namespace

std::vector<std::string> seeds(std::string_view target) {
  if (target == "dcp") return metadata_files();
  if (target == "run_directory") return run_directories();
  if (target == "plot") return metrics();
  std::vector<std::string> all;
  for (const testing::BrokenFile& file : testing::broken_files()) {
    if (fits(target, file)) all.push_back(file.bytes);
  }
  const bool any_format = target == "load" || target == "round_trip" || target == "load_into";
  for (const std::string& bytes : pickles()) {
    if (target == "pickle") all.push_back(bytes);
    if (any_format) all.push_back(torch_zip(bytes));
  }
  if (target == "zip" || any_format) {
    all.push_back(testing::pt_bytes({{"weight", Tensor::of<float>({2, 2}, {1, 2, 3, 4})}, {"epoch", 3}}));
  }
  return all;
}

}  // namespace torchkeep::fuzz
