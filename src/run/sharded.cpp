// SPDX-License-Identifier: BSD-3-Clause
// Folders that ranks write and read together.
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

#include <torchkeep/run/sharded.h>
#include <torchkeep/state/rewrite.h>
#include <torchkeep/state/walk.h>

#include "dcp_shares.h"

namespace torchkeep {
namespace {

constexpr std::size_t kNamed = 10;  // offenders in one error

Where at_path(const std::string& path) {
  return {.file = path, .record = {}, .offset = {}, .key = {}};
}

/// The folder above, and the name in it.
std::pair<std::string, std::string> split(const std::string& folder) {
  std::string path = folder;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::filesystem::path whole(path);
  if (path.empty() || whole.filename().empty()) {
    throw Error(Code::invalid_argument, "expected the path of a folder that is to be made", at_path(folder));
  }
  const std::string parent = whole.parent_path().string();
  return {parent.empty() ? "." : parent, whole.filename().string()};
}

/// Why a saved tensor is not the one that `wanted` is a part of; empty when it is.
std::string misfit(const Tensor& saved, const Tensor& wanted) {
  if (saved.dtype != wanted.dtype) {
    return fmt::format("expected {}, found {}", to_string(wanted.dtype), to_string(saved.dtype));
  }
  const auto& global = wanted.shard->global;
  if (saved.sizes == global) return {};
  return fmt::format("expected the whole tensor to be [{}], found [{}]", fmt::join(global, ", "),
                     fmt::join(saved.sizes, ", "));
}

/// The part of a whole tensor, in memory.
Tensor part_of(const Tensor& saved, const Tensor& wanted) {
  Tensor part = saved;
  part.sizes = wanted.sizes;
  for (std::size_t d = 0; d < wanted.sizes.size(); ++d) {
    part.storage_offset += wanted.shard->offset[d] * saved.strides[d];
  }
  const std::string bytes = part.contiguous_bytes();
  Tensor cut = Tensor::from_bytes(saved.dtype, part.sizes, as_bytes(bytes));
  cut.requires_grad = saved.requires_grad;
  cut.is_parameter = saved.is_parameter;
  cut.shard = wanted.shard;
  return cut;
}

/// The tensors with a Shard, by their key paths.
std::map<std::string, Tensor> parts_in(const Value& like) {
  std::map<std::string, Tensor> parts;
  walk(like, [&](const Visit& visit) {
    if (visit.value.is(Kind::tensor) && visit.value.as_tensor().shard) {
      parts.emplace(visit.place.text(), visit.value.as_tensor());
    }
    return Next::inside;
  });
  return parts;
}

void require_fit(const Value& checkpoint, const std::map<std::string, Tensor>& parts) {
  std::vector<std::string> problems;
  for (const auto& [path, wanted] : parts) {
    const auto saved = find_path(checkpoint, path);
    std::string problem;
    if (!saved)
      problem = "not in the checkpoint";
    else if (!saved->is(Kind::tensor))
      problem = "no tensor in the checkpoint";
    else
      problem = misfit(saved->as_tensor(), wanted);
    if (!problem.empty()) problems.push_back(fmt::format("'{}': {}", path, problem));
  }
  if (problems.empty()) return;
  const std::size_t more = problems.size() > kNamed ? problems.size() - kNamed : 0;
  problems.resize(std::min(problems.size(), kNamed));
  throw Error(Code::mismatch,
              fmt::format("{}{}", fmt::join(problems, "; "), more > 0 ? fmt::format("; and {} more", more) : ""));
}

}  // namespace

Value cut_to(const Value& checkpoint, const Value& like) {
  const std::map<std::string, Tensor> parts = parts_in(like);
  require_fit(checkpoint, parts);
  const Value cut = rewrite(checkpoint, [&](const Visit& visit) -> Edit {
    if (!visit.value.is(Kind::tensor)) return {};
    const auto part = parts.find(visit.place.text());
    if (part == parts.end()) return {};
    return {.what = Edit::What::replace, .value = Value(part_of(visit.value.as_tensor(), part->second))};
  });
  return cut.clone();
}

void save_sharded(const RankState& state, const std::string& folder, RankGroup& group, const FolderOptions& options) {
  const auto [parent, name] = split(folder);
  Fs& fs = options.save.fs != nullptr ? *options.save.fs : posix_fs();
  DcpShares shares(fs, group.rank(), group.world(), options);
  shares.state = &state;
  RankFolder files(fs, parent, shares, {}, name);
  const SaveOutcome outcome =
      group.save(0, new_save_id(), [&](const RankAction& action) { return files.perform(action); });
  if (!outcome.committed) throw Error(Code::io, "the save was abandoned: " + outcome.why, at_path(folder));
}

Value load_sharded(const std::string& folder, const Value& like, RankGroup& group, const LoadOptions& options) {
  const auto [parent, name] = split(folder);
  Fs& fs = options.fs != nullptr ? *options.fs : posix_fs();
  DcpShares shares(fs, group.rank(), group.world());
  RankFolder files(fs, parent, shares, {}, name);
  Value loaded;
  shares.read = [&](const std::string& path) {
    LoadIntoOptions open;
    open.unknown_classes = options.unknown_classes;
    open.limits = options.limits;
    open.fs = &fs;
    const Value opened = open_checkpoint(path, open);
    loaded = cut_to(opened, like);
  };
  const ResumeOutcome outcome = group.resume([&](const RankAction& action) { return files.perform(action); });
  if (!outcome.checkpoint) throw Error(Code::not_found, "there is no such checkpoint", at_path(folder));
  return loaded;
}

}  // namespace torchkeep
