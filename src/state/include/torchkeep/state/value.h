// SPDX-License-Identifier: BSD-3-Clause
// Value: what a checkpoint holds. A small handle to an immutable, shared tree of Python's plain data and tensors.
#pragma once

#include <complex>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/state/handle.h>
#include <torchkeep/state/integer.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep {

class Value;
struct Entry;

/// What a Value is; Python's types and the few of PyTorch that checkpoints hold.
enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  real,
  complex,
  string,
  bytes,
  bytearray,
  list,
  tuple,
  size,  // size is torch.Size
  dict,
  ordered_dict,
  counter,  // the mappings; counter is collections.Counter
  set,
  frozenset,
  dtype,
  device,
  tensor,
  sparse_tensor,
  nested_tensor,
  opaque,          // an object of a class torchkeep does not interpret
  back_reference,  // stands where an object contains itself
};

/// The name of a kind as a Python user knows it: "dict", "int", "torch.Tensor".
std::string_view to_string(Kind kind) noexcept;

/// torch.device, by its text: "cpu", "cuda:0".
struct Device {
  std::string name;
  bool operator==(const Device&) const = default;
};

/// How a C++ type becomes a Value and comes back. Specialise it for your own types:
///   static Value to_value(const T&);      static T from_value(const Value&);
template <class T>
struct Convert;

/// Types with Convert<T>::to_value.
template <class T>
concept ToValue = requires(const T& object) {
  { Convert<T>::to_value(object) } -> std::same_as<Value>;
};
/// Types with Convert<T>::from_value.
template <class T>
concept FromValue = requires(const Value& value) {
  { Convert<T>::from_value(value) } -> std::same_as<T>;
};

struct Opaque;
struct SparseTensor;
struct NestedTensor;

namespace detail {
struct Node;
struct KeyPath;
struct NodeAccess;
void destroy_node(Counted* node) noexcept;
void destroy_key_path(Counted* path) noexcept;
using NodeHandle = Handle<Node, destroy_node>;
using KeyPathHandle = Handle<const KeyPath, destroy_key_path>;

template <class T>
concept PlainInteger =
    std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> && !std::same_as<T, wchar_t> &&
    !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;
}  // namespace detail

/// A handle to one node of a tree of plain data. Copying a Value copies the handle; changing one (set, append, erase)
/// changes this handle's tree only (copy on write). A Value read out of another by operator[] remembers its key path,
/// so that errors can name it: "checkpoint.pt: key 'optimizer.state.0': expected ...".
class Value {
 public:
  /// None.
  Value() noexcept = default;
  /// A dict with string keys, in this order: Value{{"epoch", 1}, {"loss", 0.5}}.
  Value(std::initializer_list<std::pair<std::string, Value>> entries);
  Value(const char* text);  // NOLINT: a text is a Value
  Value(std::nullptr_t) = delete;
  /// Anything with a Convert: bool, integers, double, std::string, std::complex, vectors, maps, Tensor, List, Tuple ...
  template <class T>
  requires(!std::same_as<T, Value> && ToValue<T>) Value(const T& object)
      : Value(Convert<T>::to_value(object)) {}  // NOLINT

  /// Makers for what has no C++ type of its own.
  static Value string(std::string text);
  static Value bytes(std::string data, Kind kind = Kind::bytes);  ///< kind: bytes or bytearray
  /// kind: list, tuple, size, set or frozenset. Throws invalid_argument for an unhashable or duplicate set element.
  static Value sequence(Kind kind, std::vector<Value> elements);
  /// kind: dict, ordered_dict or counter. A repeated key keeps its first place and the last value, as in Python.
  static Value mapping(Kind kind);
  static Value mapping(Kind kind, std::vector<Entry> entries);
  /// See Kind::back_reference: the container with this label, which must enclose it (or stand before it).
  static Value back_reference(std::uint64_t label);

  Kind kind() const noexcept;
  bool is(Kind kind) const noexcept { return this->kind() == kind; }
  bool is_none() const noexcept { return is(Kind::none); }
  bool is_mapping() const noexcept;   ///< dict, ordered_dict, counter
  bool is_sequence() const noexcept;  ///< list, tuple, size

  /// This value as a C++ type. Throws Error (mismatch) naming the key path, what is there and what was asked for.
  /// double accepts integers; integers must fit; nothing else is converted.
  template <FromValue T>
  T to() const {
    return Convert<T>::from_value(*this);
  }

  /// The value under a string key of a mapping. Never inserts; throws not_found (no such key; the error lists what
  /// is there) or mismatch (not a mapping).
  Value operator[](std::string_view key) const;
  /// The value under an integer key of a mapping, or the i-th element of a sequence (negative counts from the end).
  Value operator[](std::int64_t index) const;
  template <detail::PlainInteger I>
  Value operator[](I index) const {
    return std::in_range<std::int64_t>(index) ? (*this)[static_cast<std::int64_t>(index)] : at(Value(index));
  }
  /// The value under any key.
  Value at(const Value& key) const;
  /// The value under `key`, or nothing when there is none. Throws mismatch when this is not a mapping.
  std::optional<Value> find(const Value& key) const;
  bool contains(const Value& key) const { return find(key).has_value(); }
  /// The value under `key`, or `fallback`.
  Value get(const Value& key, Value fallback) const;

  /// Number of entries or elements of a container, of bytes in a string; throws mismatch for other kinds.
  std::size_t size() const;
  bool empty() const { return size() == 0; }
  /// The entries of a mapping in insertion order. Valid while this handle lives and is not changed.
  std::span<const Entry> items() const&;
  std::span<const Entry> items() && = delete;
  /// The elements of a list, tuple, size, set or frozenset. Valid while this handle lives and is not changed.
  std::span<const Value> elements() const&;
  std::span<const Value> elements() && = delete;

  /// Adds an entry or replaces the value of an existing one (which keeps its place). Throws mismatch on a
  /// non-mapping, invalid_argument for an unhashable key.
  void set(const Value& key, Value value) &;
  /// Removes an entry; true if it was there.
  bool erase(const Value& key) &;
  /// Adds to the end of a list.
  void append(Value value) &;

  /// Python attributes of the object: a dict, or None when it has none. An OrderedDict from Module.state_dict()
  /// carries {"_metadata": ...}; a Parameter may carry any.
  Value attributes() const;
  void set_attributes(Value attributes) &;

  /// Typed access without a copy; each throws mismatch for another kind.
  bool as_boolean() const;
  const Integer& as_integer() const&;
  double as_real() const;
  std::complex<double> as_complex() const;
  const std::string& as_string() const&;  ///< UTF-8; lone surrogates as Python's "surrogatepass" writes them
  const std::string& as_bytes() const&;   ///< bytes or bytearray
  DType as_dtype() const;
  const Device& as_device() const&;
  const Tensor& as_tensor() const&;
  const SparseTensor& as_sparse_tensor() const&;
  const NestedTensor& as_nested_tensor() const&;
  const Opaque& as_opaque() const&;

  /// Nonzero on a container that a back reference inside it points to; the back reference carries the same label.
  std::uint64_t label() const noexcept;
  void set_label(std::uint64_t label) &;
  /// A label no other value of this process has.
  static std::uint64_t new_label() noexcept;

  /// The node's address: equal for handles to one shared object (Python's `is`).
  const void* id() const noexcept { return node_.address(); }
  /// False: no other handle leads to this node, so a walk over a tree cannot meet it twice.
  bool is_shared() const noexcept { return node_.use_count() > 1; }

  /// Equal bits: same kinds, keys, order, types, tensor dtypes, shapes, strides, offsets and bytes (of NaNs too),
  /// same flags, same sharing of storages and of containers. Iterative; each node is visited once.
  bool operator==(const Value& other) const;

  /// A snapshot: every storage copied into owned memory once; all sharing is kept.
  Value clone() const;

  /// Where this handle was read from ("optimizer.state.0"; empty at the root) and the file, if any.
  std::string key_path() const;
  Where where() const;
  /// The same value, reporting `file` in errors from here on.
  Value from_file(std::string file) const;
  /// Throws Error with this value's place: "expected <expected>, found <kind and size of this>".
  [[noreturn]] void fail_kind(std::string_view expected) const;
  /// Throws Error with this value's place.
  [[noreturn]] void fail(Code code, std::string message) const;

 private:
  friend struct detail::NodeAccess;
  explicit Value(detail::NodeHandle node) noexcept : node_(std::move(node)) {}
  detail::Node& own();
  Value child(const Value& value, std::string_view step) const;

  detail::NodeHandle node_;  // null is None
  detail::KeyPathHandle path_;
};

/// None, by name.
inline const Value none;

/// One entry of a mapping.
struct Entry {
  Value key;
  Value value;
};

/// An object of a class that torchkeep does not interpret: shown, kept, never called. How Python would rebuild it:
/// `callable(*args)` (or `callable.__new__(callable, *args)`), then its state, list items and dict items.
struct Opaque {
  enum class Form : std::uint8_t { global, reduce, newobj, persistent };  ///< global: the bare name, e.g. a function
  std::string module;
  std::string name;
  Form form = Form::reduce;
  Value args;    ///< a tuple; None for a bare global; the id of a persistent object
  Value kwargs;  ///< a dict (NEWOBJ_EX), or None
  Value state;   ///< argument of BUILD; None when there was none
  std::vector<Value> list_items;
  std::vector<Entry> dict_items;
};

/// A sparse tensor over dense leaves. layout is "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr" or "sparse_bsc".
struct SparseTensor {
  std::string layout = "sparse_coo";
  Value indices;  ///< COO: (sparse dims, nnz) int64. Otherwise the compressed index (crow or ccol).
  Value plain;    ///< the plain index (col or row) of the compressed layouts; None for COO
  Value values;
  std::vector<std::int64_t> sizes;
  std::optional<bool> is_coalesced;  ///< COO only

  /// Reads the indices. Throws Error (corrupt) unless the parts fit each other and every index lies inside the shape,
  /// in the order that the layout promises.
  void validate() const;
};

/// A nested (strided, ragged) tensor: one flat buffer and a row of sizes, strides and an offset per part.
struct NestedTensor {
  Value buffer;
  Value sizes;
  Value strides;
  Value offsets;

  /// Reads sizes, strides and offsets. Throws Error (corrupt) unless every part lies inside the buffer, (refused) when
  /// they repeat it so often that a small file would make gigabytes.
  void validate() const;
};

}  // namespace torchkeep

#include <torchkeep/state/convert.h>  // IWYU pragma: export
