// SPDX-License-Identifier: BSD-3-Clause
// Which format a file has, by its first bytes; and what it is when it is none of them.
#include <algorithm>
#include <fmt/format.h>

#include <torchkeep/format/safetensors.h>

#include "legacy/stream.h"
#include "open.h"
#include "pt/kind.h"
#include "tar/tar.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kSniffed = 512;
constexpr std::size_t kIndexHead = 65536;  // within which an index names its weight_map

[[noreturn]] void fail(const ReadAt& file, Code code, std::string message) {
  throw Error(code, std::move(message), {.file = file.name(), .record = {}, .offset = {}, .key = {}});
}

std::string read_start(const ReadAt& file, std::uint64_t most = kSniffed) {
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), most)), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(start)));
  return start;
}

bool begins_json(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{';
}

// A header that does not fit into the file: the reader says so.
bool is_cut_off_safetensors(std::string_view start) {
  constexpr std::uint64_t kMaxHeader = 100'000'000;
  return start.size() >= 10 && start.substr(8).starts_with("{\"") &&
         ByteReader(as_bytes(start)).read<std::uint64_t>() <= kMaxHeader;
}

// An instruction that pickle.dump puts first, of any protocol. Protocols 0 and 1 have no header.
bool may_be_pickle(std::string_view start) {
  if (start[0] == '\x80') return start.size() > 1 && start[1] <= 5;
  return "(cdiIJKLMNFGSTUVXlt]})"sv.find(start[0]) != std::string_view::npos;
}

/// A file that is something else, told by how it begins.
struct Other {
  std::string_view start;
  std::string_view what;
};
constexpr Other kOthers[] = {
    {"version https://git-lfs.github.com/"sv, "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
    {"\x1f\x8b"sv, "gzip data: decompress it first"},
    {"\x28\xb5\x2f\xfd"sv, "Zstandard data: decompress it first"},
    {"BZh"sv, "bzip2 data: decompress it first"},
    {"\xfd"
     "7zXZ"sv,
     "xz data: decompress it first"},
    {"PK\x05\x06"sv, "an empty zip"},
    {"\x93NUMPY"sv, "a NumPy array (.npy)"},
    {"\x89HDF\r\n"sv, "an HDF5 file"},
    {"GGUF"sv, "a GGUF file"},
    {"PYTORCH1"sv, "a preview of PyTorch's zip format that no release reads"},
    {"<!DOCTYPE"sv, "a web page: what was downloaded is not the file"},
    {"<!doctype"sv, "a web page: what was downloaded is not the file"},
    {"<html"sv, "a web page: what was downloaded is not the file"},
};

[[noreturn]] void fail_other(const ReadAt& file, std::string_view start) {
  if (start.empty()) fail(file, Code::corrupt, "the file is empty");
  for (const Other& other : kOthers) {
    if (start.starts_with(other.start)) fail(file, Code::unsupported, std::string(other.what));
  }
  if (begins_json(start)) {
    fail(file, Code::unsupported, "JSON text; of that kind only the index of a sharded safetensors file can be loaded");
  }
  fail(file, Code::corrupt,
       "not a checkpoint of any format torchkeep knows: no zip, pickle, tar or safetensors begins like this");
}

}  // namespace

FileFormat open::recognize_start(const ReadAt& file) {
  const std::string start = read_start(file);
  if (start.starts_with("PK\x03\x04")) return FileFormat::torch_zip;
  if (tar::is_tar(as_bytes(start))) return FileFormat::torch_tar;
  if (looks_like_safetensors(file) || is_cut_off_safetensors(start)) return FileFormat::safetensors;
  if (begins_json(start) && read_start(file, kIndexHead).find("\"weight_map\"") != std::string::npos) {
    return FileFormat::safetensors_index;
  }
  const bool is_other = std::any_of(std::begin(kOthers), std::end(kOthers),
                                    [&](const Other& other) { return start.starts_with(other.start); });
  if (start.empty() || is_other || !may_be_pickle(start)) fail_other(file, start);
  return legacy::is_stream(file) ? FileFormat::torch_stream : FileFormat::pickle;
}

FileFormat recognize(const ReadAt& file, const Limits& limits) {
  const FileFormat format = open::recognize_start(file);
  if (format != FileFormat::torch_zip) return format;
  // Not owned: the reader does not outlive this call.
  const std::shared_ptr<const ReadAt> borrowed(std::shared_ptr<const ReadAt>(), &file);
  return pt::classify(zip::Reader(borrowed, limits));
}

}  // namespace torchkeep
