// SPDX-License-Identifier: BSD-3-Clause
// at::Tensor <-> the tensor leaf: live storages on the way in, fresh memory on the way out.
#include <fmt/format.h>

#include <ATen/ATen.h>

#include <torchkeep/state/watched.h>
#include <torchkeep/torch/tensor.h>

#include "compat.h"
#include "device_copies.h"
#include "errors.h"
#include "tensor_io.h"

namespace torchkeep {

namespace {

/// The memory of live tensors; keeps LibTorch's storage alive.
template <class Base>
class LiveMemory : public Base {
 public:
  explicit LiveMemory(c10::Storage storage) : storage_(std::move(storage)), location_(storage_.device().str()) {}

  std::uint64_t nbytes() const noexcept override { return storage_.nbytes(); }
  const std::byte* data() const noexcept override {
    return storage_.device().is_cpu() ? static_cast<const std::byte*>(storage_.data()) : nullptr;
  }
  std::byte* writable() const noexcept override { return const_cast<std::byte*>(data()); }
  const void* identity() const noexcept override { return storage_.unsafeGetStorageImpl(); }
  const std::string& location() const noexcept override { return location_; }

  void read(std::uint64_t offset, MutableBytes out) const override {
    if (offset > nbytes() || out.size() > nbytes() - offset) {
      throw Error(Code::invalid_argument,
                  fmt::format("bytes {} to {} of a tensor storage of {} bytes", offset, offset + out.size(), nbytes()));
    }
    if (out.empty()) return;
    if (const std::byte* bytes = data()) {
      std::memcpy(out.data(), bytes + offset, out.size());
    } else {
      from_device(offset, out.size())->read(out);
    }
  }
  std::unique_ptr<StorageReader> reader() const override {
    return storage_.device().is_cpu() ? nullptr : from_device(0, nbytes());
  }
  void settle() const override {
    if (storage_.device().is_cpu()) return;
    at_the_edge([&] { synchronize_current_stream(storage_.device()); });
  }

 private:
  std::unique_ptr<StorageReader> from_device(std::uint64_t offset, std::uint64_t size) const {
    return at_the_edge([&] {
      return std::make_unique<DeviceReader>(device_copies(storage_.device()),
                                            static_cast<const std::byte*>(storage_.data()) + offset, size);
    });
  }

  c10::Storage storage_;
  std::string location_;
};

using LiveStorage = LiveMemory<Storage>;

/// The same, with the version counter of the tensor that training writes to.
class CountedStorage final : public LiveMemory<WatchedStorage> {
 public:
  CountedStorage(const at::Tensor& tensor, bool trained)
      : LiveMemory(tensor.storage()), tensor_(tensor), trained_(trained) {}

  Mark mark() const override {
    const c10::StorageImpl* const now = tensor_.storage().unsafeGetStorageImpl();
    // Inference tensors have no counter.
    const auto version =
        tensor_.is_inference() ? 0 : tensor_.unsafeGetTensorImpl()->version_counter().current_version();
    return {.version = version, .data = now->data(), .nbytes = now->nbytes()};
  }
  bool is_trained() const noexcept override { return trained_; }

 private:
  at::Tensor tensor_;
  bool trained_;
};

[[noreturn]] void fail_kind(const at::Tensor& tensor, std::string_view kind) {
  throw Error(Code::unsupported, fmt::format("a {} tensor of shape {} cannot be kept: only strided tensors with memory "
                                             "of their own can",
                                             kind, shape_text(tensor.sizes())));
}

void check_supported(const at::Tensor& tensor) {
  if (!tensor.defined()) throw Error(Code::invalid_argument, "an undefined tensor has no value");
  if (tensor.is_nested()) {
    throw Error(Code::unsupported, "a nested tensor cannot be kept: only strided tensors can");
  }
  if (tensor.layout() != at::kStrided) fail_kind(tensor, c10::str(tensor.layout()));
  if (tensor.is_quantized()) fail_kind(tensor, "quantized");
  if (tensor.is_meta()) fail_kind(tensor, "meta");
  if (!tensor.has_storage()) fail_kind(tensor, "storage-less");
}

Tensor leaf_over(const at::Tensor& tensor, StoragePtr storage) {
  Tensor leaf;
  leaf.dtype = to_dtype(tensor.scalar_type());
  leaf.sizes = tensor.sizes().vec();
  leaf.strides = tensor.strides().vec();
  leaf.storage_offset = tensor.storage_offset();
  leaf.storage = std::move(storage);
  leaf.is_conj = tensor.is_conj();
  leaf.is_neg = tensor.is_neg();
  return leaf;
}

void set_flags(at::Tensor& tensor, const Tensor& leaf) {
  if (leaf.is_conj) tensor._set_conj(true);
  if (leaf.is_neg) tensor._set_neg(true);
}

/// Where the elements lie. Throws Error where a LibTorch tensor cannot have them.
ByteRange readable(const Tensor& leaf) {
  if (leaf.quantizer != nullptr) {
    throw Error(Code::unsupported, "a quantized tensor cannot become a LibTorch tensor");
  }
  return leaf.extent();
}

/// A uint8 tensor with the bytes [begin, begin + size) of a storage, in memory of its own.
at::Tensor read_bytes(const Storage& storage, ByteRange extent) {
  at::Tensor bytes = at::empty({static_cast<std::int64_t>(extent.size)}, at::kByte);
  if (extent.size > 0) storage.read(extent.begin, {static_cast<std::byte*>(bytes.data_ptr()), extent.size});
  return bytes;
}

/// The leaf's view of `bytes`, whose first element is the storage's byte `begin`.
at::Tensor view_of(const at::Tensor& bytes, std::uint64_t begin, const Tensor& leaf) {
  at::Tensor tensor = at::empty({0}, to_scalar_type(leaf.dtype));
  const auto offset =
      leaf.numel() == 0 ? 0 : leaf.storage_offset - static_cast<std::int64_t>(begin / itemsize(leaf.dtype));
  tensor.set_(bytes.storage(), offset, leaf.sizes, leaf.strides);
  set_flags(tensor, leaf);
  if (leaf.requires_grad) tensor.set_requires_grad(true);
  return tensor;
}

/// Turns leaves into tensors; a storage that several of them view is copied once.
class SharingReader {
 public:
  at::Tensor read(const Value& value) {
    const Tensor& leaf = value.as_tensor();
    return placed(value, [&] {
      readable(leaf);
      at::Tensor& bytes = copies_[leaf.storage->identity()];
      if (!bytes.defined()) bytes = read_bytes(*leaf.storage, {0, leaf.storage->nbytes()});
      return view_of(bytes, 0, leaf);
    });
  }

 private:
  std::map<const void*, at::Tensor> copies_;
};

}  // namespace

DType to_dtype(c10::ScalarType type) {
  for (const compat::DTypeRow& row : compat::kDTypes) {
    if (row.theirs == type) return row.ours;
  }
  throw Error(Code::unsupported,
              fmt::format("LibTorch's element type {} is unknown to torchkeep", c10::toString(type)));
}

c10::ScalarType to_scalar_type(DType dtype) {
  for (const compat::DTypeRow& row : compat::kDTypes) {
    if (row.ours == dtype) return row.theirs;
  }
  throw Error(Code::unsupported, fmt::format("LibTorch has no element type {}", to_string(dtype)));
}

Tensor to_leaf(const at::Tensor& tensor) {
  Tensor leaf = detached_leaf(tensor);
  leaf.requires_grad = tensor.requires_grad();
  return leaf;
}

Tensor detached_leaf(const at::Tensor& tensor) {
  return at_the_edge([&] {
    check_supported(tensor);
    return leaf_over(tensor, std::make_shared<LiveStorage>(tensor.storage()));
  });
}

Tensor counted_leaf(const at::Tensor& tensor, bool trained) {
  return at_the_edge([&] {
    check_supported(tensor);
    return leaf_over(tensor, std::make_shared<CountedStorage>(tensor, trained));
  });
}

at::Tensor to_torch(const Tensor& leaf) {
  return at_the_edge([&] {
    const ByteRange extent = readable(leaf);
    return view_of(read_bytes(*leaf.storage, extent), extent.begin, leaf);
  });
}

at::Tensor borrow(const Tensor& leaf) {
  return at_the_edge([&] {
    const ByteRange extent = readable(leaf);
    const Bytes memory = leaf.memory();
    if (memory.empty() || reinterpret_cast<std::uintptr_t>(memory.data()) % itemsize(leaf.dtype) != 0) {
      at::Tensor copy = view_of(read_bytes(*leaf.storage, extent), extent.begin, leaf);
      return copy.detach();
    }
    void* bytes = const_cast<std::byte*>(memory.data());  // from_blob takes no const; nobody writes through it
    at::Tensor tensor = at::from_blob(
        bytes, leaf.sizes, leaf.strides, [keep = leaf.storage](void*) {},
        at::TensorOptions(to_scalar_type(leaf.dtype)));
    set_flags(tensor, leaf);
    return tensor;
  });
}

bool read_in_place(const Tensor& leaf, const at::Tensor& tensor, LiveReader& reader) {
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided || !tensor.is_non_overlapping_and_dense()) return false;
  if (leaf.numel() == 0 || leaf.is_meta() || leaf.storage->data() != nullptr) return false;
  const Tensor live = detached_leaf(tensor);
  return why_not_in_place(leaf, live).empty() && reader.add(leaf, live).is_read;
}

Value Convert<at::Tensor>::to_value(const at::Tensor& tensor) {
  return tensor.defined() ? Value(to_leaf(tensor)) : Value();
}

at::Tensor Convert<at::Tensor>::from_value(const Value& value) {
  return placed(value, [&] { return to_torch(value.as_tensor()); });
}

Value Convert<std::vector<at::Tensor>>::to_value(const std::vector<at::Tensor>& tensors) {
  return Value::sequence(Kind::list, std::vector<Value>(tensors.begin(), tensors.end()));
}

std::vector<at::Tensor> Convert<std::vector<at::Tensor>>::from_value(const Value& value) {
  if (!value.is_sequence()) value.fail_kind("list of tensors");
  SharingReader reader;
  std::vector<at::Tensor> tensors;
  tensors.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) tensors.push_back(reader.read(value[static_cast<std::int64_t>(i)]));
  return tensors;
}

Value Convert<std::map<std::string, at::Tensor>>::to_value(const std::map<std::string, at::Tensor>& tensors) {
  Value dict = Value::mapping(Kind::dict);
  for (const auto& [name, tensor] : tensors) dict.set(name, tensor);
  return dict;
}

std::map<std::string, at::Tensor> Convert<std::map<std::string, at::Tensor>>::from_value(const Value& value) {
  if (!value.is_mapping()) value.fail_kind("dict of tensors");
  SharingReader reader;
  std::map<std::string, at::Tensor> tensors;
  for (const Entry& entry : value.items()) tensors.emplace(entry.key.as_string(), reader.read(value.at(entry.key)));
  return tensors;
}

}  // namespace torchkeep
