// SPDX-License-Identifier: BSD-3-Clause
// A kind of checkpoint that is a folder with two files, as small as one can be: CONTRIBUTING.md shows it to those who
// add a kind.
#pragma once

#include <charconv>
#include <fmt/format.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/run/checkpoint_store.h>

namespace torchkeep::testing {

/// "toy-400": model.pt holds the entry "model", rest.pt everything else.
class ToyKind final : public CheckpointKind {
 public:
  std::string name(std::int64_t step) const override { return fmt::format("toy-{}", step); }
  std::optional<std::int64_t> parse(std::string_view name) const noexcept override { return number(name, "toy-"); }
  std::optional<std::int64_t> parse_pending(std::string_view name) const noexcept override {
    return number(name, ".toy-pending-");
  }
  FileKind made_of() const noexcept override { return FileKind::directory; }

  std::uint64_t size(Fs& fs, const std::string& path) const override {
    std::uint64_t size = 0;
    for (const char* const file : kFiles) {
      const auto status = fs.status(path + file);
      size += status ? status->size : 0;
    }
    return size;
  }
  std::unique_ptr<PendingCheckpoint> begin(Fs& fs, const std::string& path, const Value& checkpoint,
                                           const WriteRules& rules) const override {
    return std::make_unique<Pending>(*this, fs, path, checkpoint, rules);
  }
  void remove(Fs& fs, const std::string& path) const override {
    for (const std::string& file : fs.list(path)) fs.remove(path + "/" + file);
    fs.remove_directory(path);
  }

  Value open(Fs& fs, const std::string& path) const override { return load(fs, path); }
  Value structure(Fs& fs, const std::string& path) const override { return load(fs, path); }
  Value load(Fs& fs, const std::string& path) const override {
    Value whole = torchkeep::load(path + kFiles[1], {.fs = &fs});
    whole.set("model", torchkeep::load(path + kFiles[0], {.fs = &fs}));
    return whole;
  }
  void verify(Fs& fs, const std::string& path) const override {
    for (const char* const file : kFiles) torchkeep::verify(path + file, {.fs = &fs});
  }
  bool is_whole(Fs& fs, const std::string& path) const override {
    return CheckpointKind::is_whole(fs, path + kFiles[0]) && CheckpointKind::is_whole(fs, path + kFiles[1]);
  }

 private:
  static constexpr const char* kFiles[] = {"/model.pt", "/rest.pt"};

  static std::optional<std::int64_t> number(std::string_view name, std::string_view prefix) noexcept {
    if (!name.starts_with(prefix)) return std::nullopt;
    name.remove_prefix(prefix.size());
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    return error == std::errc() && end == name.data() + name.size() ? std::optional(step) : std::nullopt;
  }

  /// A hidden folder that is filled and renamed.
  class Pending final : public PendingCheckpoint {
   public:
    Pending(const ToyKind& kind, Fs& fs, const std::string& path, const Value& checkpoint, const WriteRules& rules)
        : kind_(kind), fs_(fs), path_(path), rest_(checkpoint), rules_(rules) {
      const std::size_t slash = path.rfind('/');
      parent_ = path.substr(0, slash);
      hidden_ = parent_ + "/.toy-pending-" + path.substr(path.rfind('-') + 1);
      model_ = rest_.get("model", none);
      rest_.erase("model");
      fs_.make_directory(hidden_);
    }
    ~Pending() override {
      if (published_) return;
      try {
        kind_.remove(fs_, hidden_);
      } catch (const Error&) {
        // What is left has a name that the next writer removes.
      }
    }
    void write(const Progress& on_progress) override {
      const SaveOptions options{.durable = rules_.durable, .fs = &fs_};
      save_plan(plan_pt(model_), hidden_ + kFiles[0], options, on_progress);
      save_plan(plan_pt(rest_), hidden_ + kFiles[1], options, on_progress);
    }
    void sync() override { fs_.sync_directory(hidden_); }
    void read_back() override { kind_.verify(fs_, hidden_); }
    void publish() override {
      size_ = kind_.size(fs_, hidden_);
      fs_.rename(hidden_, path_);
      published_ = true;
      if (rules_.durable) fs_.sync_directory(parent_);
    }
    std::uint64_t size() const noexcept override { return size_; }

   private:
    const ToyKind& kind_;
    Fs& fs_;
    std::string path_;
    std::string parent_;
    std::string hidden_;
    Value model_;
    Value rest_;
    WriteRules rules_;
    std::uint64_t size_ = 0;
    bool published_ = false;
  };
};

}  // namespace torchkeep::testing
