// SPDX-License-Identifier: BSD-3-Clause
// Reads the stream of torch.save before PyTorch 1.6.
#include "stream.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

#include "open/open.h"
#include "pickle/pickle.h"
#include "range_storage.h"
#include "show.h"

namespace torchkeep::legacy {
namespace {

constexpr std::uint64_t kMaxMagicBytes = 64;
constexpr std::uint64_t kMaxNoteBytes = 4096;
constexpr std::int64_t kVersion = 1001;
constexpr std::string_view kMagic = "119547037146038801333356";  // 0x1950a86a20f9469cfc6c

class StreamReader {
 public:
  StreamReader(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth)
      : file_(std::move(file)), options_(options), depth_(depth) {}

  OpenedFile run() {
    read_pickle(kMaxMagicBytes, {});
    check_version(read_pickle(kMaxNoteBytes, {}));
    if (!read_pickle(kMaxNoteBytes, {}).is(Kind::dict)) fail("expected a dict about the writing machine");
    OpenedFile opened;
    opened.format = FileFormat::torch_stream;
    opened.has_other_storages = true;
    opened.value = read_pickle(options_.limits.max_pickle_bytes,
                               [this](const pickle::StorageReference& reference) { return storage(reference); });
    const std::uint64_t place = position_;
    read_storages(read_pickle(options_.limits.max_pickle_bytes, {}), place);
    opened.end = position_;
    if (position_ != file_->size()) {
      opened.hidden.push_back(fmt::format("{} bytes behind the last storage", file_->size() - position_));
    }
    return opened;
  }

 private:
  struct Known {
    std::shared_ptr<detail::RangeStorage> storage;
    DType dtype;
    bool is_read = false;
  };

  [[noreturn]] void fail(std::string message, Code code = Code::corrupt) const {
    throw Error(code, std::move(message), {.file = file_->name(), .record = {}, .offset = position_, .key = {}});
  }

  Value read_pickle(std::uint64_t limit,
                    std::function<pickle::LoadedStorage(const pickle::StorageReference&)> load_storage) {
    pickle::ReadContext context = open::make_context(options_, depth_);
    context.where.file = file_->name();
    context.load_storage = std::move(load_storage);
    return open::read_pickle_at(*file_, position_, file_->size(), limit, context);
  }

  void check_version(const Value& version) const {
    if (!version.is(Kind::integer)) fail("expected the number of the layout's version");
    if (version.as_integer() != Integer(kVersion)) {
      fail(fmt::format("version {} of the layout; only {} is known", version.as_integer().to_decimal(), kVersion),
           Code::unsupported);
    }
  }

  pickle::LoadedStorage storage(const pickle::StorageReference& reference) {
    auto [place, is_new] = storages_.try_emplace(std::string(reference.key));
    Known& known = place->second;
    if (is_new) {
      known.dtype = reference.dtype.value_or(DType::uint8);
      known.storage = std::make_shared<detail::RangeStorage>(file_, reference.nbytes, std::string(reference.location));
    } else if (reference.nbytes == 0 && known.storage->nbytes() == 0) {
      return {known.storage, reference.dtype.value_or(DType::uint8)};  // PyTorch takes empty ones of any type for one
    } else if (reference.dtype && *reference.dtype != known.dtype) {
      throw Error(Code::corrupt, fmt::format("storage '{}' is {} here and {} elsewhere", detail::show(reference.key),
                                             to_string(*reference.dtype), to_string(known.dtype)));
    } else if (known.storage->nbytes() != reference.nbytes) {
      throw Error(Code::corrupt, fmt::format("storage '{}' has {} bytes here and {} elsewhere",
                                             detail::show(reference.key), reference.nbytes, known.storage->nbytes()));
    }
    return {known.storage, known.dtype};
  }

  void read_storages(const Value& keys, std::uint64_t place) {
    if (!keys.is(Kind::list)) fail("expected the list of storages");
    for (const Value& key : keys.elements()) {
      const auto found = key.is(Kind::string) ? storages_.find(key.as_string()) : storages_.end();
      if (found == storages_.end()) fail("the list of storages names one that no tensor uses");
      if (found->second.is_read) fail(fmt::format("storage '{}' is listed twice", detail::show(found->first)));
      read_storage(found->first, found->second);
    }
    for (const auto& [key, known] : storages_) {
      if (known.is_read) continue;
      position_ = place;
      fail(fmt::format("storage '{}' is not in the list of storages", detail::show(key)));
    }
  }

  void read_storage(const std::string& key, Known& known) {
    if (file_->size() - position_ < sizeof(std::int64_t)) fail("the file ends before its last storage");
    std::int64_t numel = 0;
    file_->read_at(position_, std::as_writable_bytes(std::span(&numel, 1)));
    const std::uint64_t nbytes = known.storage->nbytes();
    if (numel < 0 || nbytes / itemsize(known.dtype) != static_cast<std::uint64_t>(numel)) {
      fail(fmt::format("storage '{}' says {} elements, the tensors over it expect {}", detail::show(key), numel,
                       nbytes / itemsize(known.dtype)));
    }
    position_ += sizeof(numel);
    if (nbytes > file_->size() - position_) {
      fail(fmt::format("storage '{}' has {} bytes, but the file ends after {}", detail::show(key), nbytes,
                       file_->size() - position_));
    }
    known.storage->set_begin(position_);
    known.is_read = true;
    position_ += nbytes;
  }

  std::shared_ptr<const ReadAt> file_;
  const PtReadOptions& options_;
  int depth_;
  std::uint64_t position_ = 0;
  std::map<std::string, Known, std::less<>> storages_;
};

}  // namespace

bool is_stream(const ReadAt& file) {
  try {
    const std::uint64_t end = pickle::find_end(file, 0, std::min(file.size(), kMaxMagicBytes), kMaxMagicBytes);
    std::string bytes(static_cast<std::size_t>(end), '\0');
    file.read_at(0, std::as_writable_bytes(std::span(bytes)));
    const Value magic = pickle::read(as_bytes(bytes), {});
    return magic.is(Kind::integer) && magic.as_integer().to_decimal() == kMagic;
  } catch (const Error& error) {
    if (error.code() == Code::io) throw;
    return false;
  }
}

OpenedFile read_stream(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  return StreamReader(std::move(file), options, depth).run();
}

}  // namespace torchkeep::legacy
