// SPDX-License-Identifier: BSD-3-Clause
// The files of a folder that ranks write together.
#include <fmt/format.h>
#include <random>

#include <torchkeep/checkpoint/sharded.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/files/stores.h>

#include "write_plan.h"

namespace torchkeep {
namespace {

Fs& fs_of(const SaveOptions& options) {
  return options.fs != nullptr ? *options.fs : any_store();
}

}  // namespace

void write_rank_file(RankFile& rank_file, File& file, const WriteProgress& on_progress) {
  write_plan(rank_file.plan, file, on_progress);
  complete(rank_file);
}

void save_rank_file(RankFile& rank_file, const std::string& folder, const SaveOptions& options,
                    const WriteProgress& on_progress) {
  if (rank_file.list.file.name.empty()) return complete(rank_file);
  publish_plan(rank_file.plan, folder + "/" + rank_file.list.file.name, options,
               [&](File& file) { write_rank_file(rank_file, file, on_progress); });
}

void save_manifest(const std::shared_ptr<const Manifest>& manifest, const std::string& folder,
                   const SaveOptions& options) {
  save_plan(plan_manifest(manifest), fmt::format("{}/{}", folder, kManifestName), options);
}

void save_dcp_metadata(const Manifest& manifest, const std::string& folder, const SaveOptions& options) {
  const auto fill = [&](File& file) {
    std::uint64_t position = 0;
    write_dcp_metadata(manifest, [&](Bytes bytes) {
      file.write_at(position, bytes);
      position += bytes.size();
    });
  };
  publish(fs_of(options), folder + "/.metadata", fill, {.durable = options.durable});
}

std::string new_save_id() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", device() & 0xffffffffU);
  return id;
}

void save_folder(const Value& state, const std::string& folder, const std::string& save, const FolderOptions& options,
                 const WriteProgress& on_progress) {
  Fs& fs = fs_of(options.save);
  RankFile file;
  try {
    file = plan_rank_file({state, {}}, {.save = save});
  } catch (const Error& error) {
    throw error.at({.file = folder, .record = {}, .offset = {}, .key = {}});
  }
  make_directories(fs, folder, options.save.durable);
  if (!fs.list(folder).empty()) {
    throw Error(Code::invalid_argument, "the folder is not empty: a checkpoint needs a folder of its own",
                {.file = folder, .record = {}, .offset = {}, .key = {}});
  }
  save_rank_file(file, folder, options.save, on_progress);
  ManifestBuilder builder(file.list.of);
  builder.add(file.list);
  const auto manifest = std::make_shared<const Manifest>(std::move(builder).finish());
  save_manifest(manifest, folder, options.save);
  if (options.dcp) save_dcp_metadata(*manifest, folder, options.save);
}

}  // namespace torchkeep
