// SPDX-License-Identifier: BSD-3-Clause
// A board in a folder. A value is a file that is published (renamed into place), so that a reader finds the old value
// or the whole new one. A counter is a file per rank with what that rank added: no two ranks change one file.
#include <charconv>
#include <fmt/format.h>
#include <mutex>

#include <torchkeep/files/publish.h>
#include <torchkeep/peers/peers.h>

#include "checks.h"

namespace torchkeep {
namespace {

/// A name for a file: letters, digits, '-' and '_' stay, the rest is written as %XX; so no two keys share one.
std::string file_name(std::string_view key) {
  std::string name;
  for (const char c : key) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (plain)
      name += c;
    else
      name += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return name;
}

class FolderPeers final : public Peers {
 public:
  FolderPeers(Fs& fs, std::string folder, std::size_t rank, std::size_t world)
      : fs_(fs), folder_(std::move(folder)), rank_(rank), world_(world) {
    if (!folder_.ends_with('/')) folder_ += '/';
  }
  std::size_t rank() const noexcept override { return rank_; }
  std::size_t world() const noexcept override { return world_; }

  void put(const std::string& key, std::string_view value) override {
    detail::require_small(key, value);
    write(file_name(key) + ".value", value);
  }
  std::optional<std::string> get(const std::string& key) override { return read(file_name(key) + ".value"); }

  std::int64_t add(const std::string& key, std::int64_t n) override {
    const std::lock_guard guard(adding_);
    const std::string name = file_name(key);
    if (n != 0) write(counter(name, rank_), std::to_string(added(name, rank_) + n));
    std::int64_t sum = 0;
    for (std::size_t rank = 0; rank < world_; ++rank) sum += added(name, rank);
    return sum;
  }

 private:
  static std::string counter(const std::string& name, std::size_t rank) {
    return fmt::format("{}.count-{}", name, rank);
  }

  /// What a rank added to a counter.
  std::int64_t added(const std::string& name, std::size_t rank) {
    const auto written = read(counter(name, rank));
    if (!written) return 0;
    std::int64_t number = 0;
    const char* const end = written->data() + written->size();
    const auto result = std::from_chars(written->data(), end, number);
    if (result.ec == std::errc() && result.ptr == end) return number;
    throw Error(Code::corrupt, fmt::format("expected a number, found '{}'", *written),
                {.file = folder_ + counter(name, rank), .record = {}, .offset = {}, .key = {}});
  }

  void write(const std::string& name, std::string_view value) {
    publish(fs_, folder_ + name, as_bytes(value), {.durable = false, .replace_link = true});
  }

  std::optional<std::string> read(const std::string& name) {
    std::unique_ptr<ReadAt> file;
    try {
      file = fs_.open_read(folder_ + name);
    } catch (const Error& error) {
      if (error.code() == Code::not_found) return std::nullopt;
      throw;
    }
    std::string value(static_cast<std::size_t>(file->size()), '\0');
    file->read_at(0, std::as_writable_bytes(std::span(value)));
    return value;
  }

  Fs& fs_;
  std::string folder_;
  std::size_t rank_;
  std::size_t world_;
  std::mutex adding_;
};

}  // namespace

std::unique_ptr<Peers> folder_peers(Fs& fs, const std::string& folder, std::size_t rank, std::size_t world) {
  detail::require_rank(rank, world);
  make_directories(fs, folder, false);
  return std::make_unique<FolderPeers>(fs, folder, rank, world);
}

}  // namespace torchkeep
