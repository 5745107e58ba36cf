// SPDX-License-Identifier: BSD-3-Clause
// Reads the tar archive that torch.save wrote before PyTorch 0.1.10.
#include "tar.h"

#include <fmt/format.h>
#include <unordered_map>

#include "open/open.h"
#include "pickle/allow_list.h"
#include "range_storage.h"

namespace torchkeep::tar {
namespace {

constexpr std::uint64_t kMaxNoteBytes = 4096;  // of the pickle in front of a storage or tensor

class TarReader {
 public:
  TarReader(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth)
      : file_(std::move(file)), options_(options), depth_(depth) {}

  OpenedFile run() {
    Members members = find_members(*file_);
    enter("storages", members.storages);
    for (std::int64_t n = read_count(); n > 0; --n) read_storage();
    read_views(read_pickle(options_.limits.max_pickle_bytes));
    expect_end();
    enter("tensors", members.tensors);
    for (std::int64_t n = read_count(); n > 0; --n) read_tensor();
    expect_end();
    enter("pickle", members.pickle);
    OpenedFile opened;
    opened.format = FileFormat::torch_tar;
    opened.hidden = std::move(members.hidden);
    opened.has_other_storages = true;
    opened.value = read_pickle(options_.limits.max_pickle_bytes);
    return opened;
  }

 private:
  [[noreturn]] void fail(std::string message, Code code = Code::corrupt) const {
    throw Error(code, std::move(message),
                {.file = file_->name(), .record = member_, .offset = position_ - begin_, .key = {}});
  }

  void enter(const char* name, Member member) {
    member_ = name;
    begin_ = member.begin;
    position_ = member.begin;
    end_ = member.begin + member.size;
  }
  void expect_end() const {
    if (position_ != end_) fail(fmt::format("{} bytes behind the last one that is needed", end_ - position_));
  }

  Value read_pickle(std::uint64_t limit) {
    pickle::ReadContext context = open::make_context(options_, depth_);
    context.where.file = file_->name();
    context.where.record = member_;
    context.base = begin_;
    context.load_numbered = [this](std::int64_t key) { return numbered(key); };
    return open::read_pickle_at(*file_, position_, end_, limit, std::move(context));
  }

  template <class T>
  T read_number() {
    if (end_ - position_ < sizeof(T)) fail("the member ends in the middle of a number");
    T value{};
    file_->read_at(position_, std::as_writable_bytes(std::span(&value, 1)));
    position_ += sizeof(T);
    return value;
  }

  std::int64_t read_count() {
    const std::int64_t count = to_int(read_pickle(kMaxNoteBytes));
    if (count < 0) fail(fmt::format("{} items", count));
    return count;
  }

  std::int64_t to_int(const Value& value) const {
    const auto number = value.is(Kind::integer) ? value.as_integer().to_int64() : std::nullopt;
    if (!number) fail("expected an int");
    return *number;
  }

  // A tuple (or, in hand-made files, a list) of so many parts.
  std::vector<Value> parts(const Value& value, std::size_t count) const {
    const bool fits = (value.is(Kind::tuple) || value.is(Kind::list)) && value.size() == count;
    if (!fits) fail(fmt::format("expected a tuple of {} parts", count));
    return {value.elements().begin(), value.elements().end()};
  }

  DType storage_dtype(const Value& type) const {
    if (type.is(Kind::opaque) && type.as_opaque().form == Opaque::Form::global) {
      const pickle::Global global = pickle::look_up(type.as_opaque().module, type.as_opaque().name);
      if (global.role == pickle::Role::storage_class && global.dtype) return *global.dtype;
    }
    fail("expected the class of a storage");
  }

  void read_storage() {
    const std::vector<Value> fields = parts(read_pickle(kMaxNoteBytes), 3);
    if (!fields[1].is(Kind::string)) fail("expected the location of a storage");
    if (fields[1].as_string() == "meta") fail("a storage with bytes on the device meta");
    const DType dtype = storage_dtype(fields[2]);
    const auto numel = read_number<std::int64_t>();
    const std::uint64_t available = (end_ - position_) / itemsize(dtype);
    if (numel < 0 || static_cast<std::uint64_t>(numel) > available) {
      fail(fmt::format("a storage of {} elements, but the member ends after {}", numel, available));
    }
    const std::uint64_t nbytes = static_cast<std::uint64_t>(numel) * itemsize(dtype);
    auto storage = std::make_shared<detail::RangeStorage>(file_, nbytes, fields[1].as_string());
    storage->set_begin(position_);
    position_ += nbytes;
    add(to_int(fields[0]), pickle::LoadedStorage{std::move(storage), dtype, 0, numel});
  }

  void read_views(const Value& views) {
    if (!views.is(Kind::list) && !views.is(Kind::tuple)) fail("expected the list of views");
    for (const Value& view : views.elements()) {
      const std::vector<Value> fields = parts(view, 4);
      pickle::LoadedStorage storage = find_storage(to_int(fields[1]));
      const std::int64_t first = to_int(fields[2]);
      const std::int64_t count = to_int(fields[3]);
      if (first < 0 || count < 0 || first > *storage.count || count > *storage.count - first) {
        fail(fmt::format("a view of {} elements from {} on, of a storage of {}", count, first, *storage.count));
      }
      storage.first += first;
      storage.count = count;
      add(to_int(fields[0]), std::move(storage));
    }
  }

  void read_tensor() {
    const std::vector<Value> fields = parts(read_pickle(kMaxNoteBytes), 3);
    const pickle::LoadedStorage storage = find_storage(to_int(fields[1]));
    const auto dimensions = read_number<std::int32_t>();
    read_number<std::int32_t>();
    if (dimensions < 0 || static_cast<std::uint64_t>(dimensions) > options_.limits.max_dimensions) {
      fail(fmt::format("{} dimensions; the limit is {} (Limits::max_dimensions)", dimensions,
                       options_.limits.max_dimensions),
           Code::refused);
    }
    Tensor tensor;
    for (std::int32_t i = 0; i < dimensions; ++i) tensor.sizes.push_back(read_number<std::int64_t>());
    for (std::int32_t i = 0; i < dimensions; ++i) tensor.strides.push_back(read_number<std::int64_t>());
    tensor.storage_offset = read_number<std::int64_t>();
    tensor.dtype = storage.dtype;
    tensor.storage = storage.storage;
    try {
      pickle::place_in_view(tensor, storage, options_.limits);
    } catch (const Error& error) {
      fail(error.message(), error.code());
    }
    add(to_int(fields[0]), std::move(tensor));
  }

  void add(std::int64_t key, std::variant<pickle::LoadedStorage, Tensor> object) {
    if (!objects_.emplace(key, std::move(object)).second) fail(fmt::format("two objects of the number {}", key));
  }
  std::variant<pickle::LoadedStorage, Tensor> numbered(std::int64_t key) const {
    const auto found = objects_.find(key);
    if (found == objects_.end()) throw Error(Code::corrupt, fmt::format("nothing has the number {}", key));
    return found->second;
  }
  pickle::LoadedStorage find_storage(std::int64_t key) const {
    const auto found = objects_.find(key);
    if (found == objects_.end() || !std::holds_alternative<pickle::LoadedStorage>(found->second)) {
      fail(fmt::format("no storage has the number {}", key));
    }
    return std::get<pickle::LoadedStorage>(found->second);
  }

  std::shared_ptr<const ReadAt> file_;
  const PtReadOptions& options_;
  int depth_;
  std::string member_;
  std::uint64_t begin_ = 0;  // of the member
  std::uint64_t position_ = 0;
  std::uint64_t end_ = 0;
  std::unordered_map<std::int64_t, std::variant<pickle::LoadedStorage, Tensor>> objects_;
};

}  // namespace

OpenedFile read(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth) {
  return TarReader(std::move(file), options, depth).run();
}

}  // namespace torchkeep::tar
