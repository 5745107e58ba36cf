// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint that is a single .pt file.
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/files/publish.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/run/checkpoint_store.h>
#include <torchkeep/run/names.h>

namespace torchkeep {
namespace {

class PtFileKind final : public CheckpointKind {
 public:
  std::string name(std::int64_t step) const override { return names::checkpoint(step); }
  std::optional<std::int64_t> parse(std::string_view name) const noexcept override {
    return names::parse_checkpoint(name);
  }

  std::optional<std::int64_t> parse_pending(std::string_view name) const noexcept override {
    const auto target = temporary_target(name);
    return target ? parse(*target) : std::nullopt;
  }
  FileKind made_of() const noexcept override { return FileKind::regular; }

  std::uint64_t size(Fs& fs, const std::string& path) const override {
    const auto status = fs.status(path);
    return status ? status->size : 0;
  }

  std::unique_ptr<PendingCheckpoint> begin(Fs& fs, const std::string& path, const Value& checkpoint,
                                           const WriteRules& rules) const override {
    return begin_plan(plan_pt(checkpoint), path, {.durable = rules.durable, .fs = &fs, .replace_link = true});
  }

  void remove(Fs& fs, const std::string& path) const override { fs.remove(path); }
};

}  // namespace

const CheckpointKind& pt_file_kind() noexcept {
  static const PtFileKind kind;
  return kind;
}

}  // namespace torchkeep
