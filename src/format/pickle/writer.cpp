// SPDX-License-Identifier: BSD-3-Clause
// Writes a Value as torch.save pickles it, using only what PyTorch's safe loader reads. It does not recurse: containers
// that are not finished stand on a stack of frames.
#include <algorithm>
#include <charconv>
#include <deque>
#include <fmt/format.h>
#include <limits>
#include <unordered_map>

#include "emitter.h"
#include "pickle.h"
#include "tensor_writer.h"
#include "text.h"

namespace torchkeep::pickle {
namespace {

constexpr std::size_t kBatch = 1000;  // items per MARK, as CPython

class Writer {
 public:
  explicit Writer(std::uint32_t first_number) : tensors_(out_, first_number) {}

  Pickled run(const Value& root) {
    try {
      write(root);
      while (!frames_.empty()) advance();
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = key_path()});
    }
    return {std::move(out_).finish(), tensors_.take_storages()};
  }

 private:
  /// A container of which `next` children are written: items (keys and values count one each), then attributes.
  struct Frame {
    const Value* value;
    std::size_t next = 0;
    Value attributes;
  };

  std::string key_path() const;
  void write(const Value& value);
  void write_leaf(const Value& value);
  void advance();
  void open(const Value& value);
  void close(const Frame& frame);
  void remember(const Value& value, std::uint32_t number);

  void text(std::string_view text);
  void bytes(std::string_view bytes);
  void device(const std::string& name);
  void size(std::span<const Value> elements);
  void tensor(const Value& value);
  void layout(std::string_view name);
  void sparse(const SparseTensor& tensor);
  void nested(const NestedTensor& tensor);
  void part(const Value& value);

  Emitter out_;
  std::deque<Frame> frames_;                                 // a deque: frames point to the attributes of others
  AddressMemo objects_;                                      // by Value::id()
  std::unordered_map<std::uint64_t, std::uint32_t> labels_;  // in the memo, by Value::label()
  TensorWriter tensors_;
};

[[noreturn]] void fail(std::string message) {
  throw Error(Code::unsupported, std::move(message));
}

bool is_container(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::ordered_dict ||
         kind == Kind::counter || kind == Kind::set;
}

std::size_t child_count(const Value& value) {
  return value.is_mapping() ? 2 * value.items().size() : value.elements().size();
}

const Value& child(const Value& value, std::size_t i) {
  if (!value.is_mapping()) return value.elements()[i];
  const Entry& entry = value.items()[i / 2];
  return i % 2 == 0 ? entry.key : entry.value;
}

// A storage saved by itself, as the reader gives it.
bool is_storage(const Opaque& object) {
  return object.form == Opaque::Form::persistent && object.args.is(Kind::tensor);
}

// The name of a torch.layout, "torch.strided".
std::optional<std::string_view> layout_of(const Opaque& object) {
  const bool is_layout = object.module == "torch.serialization" && object.name == "_get_layout" &&
                         object.args.is(Kind::tuple) && object.args.size() == 1;
  if (!is_layout || !object.args.elements()[0].is(Kind::string)) return std::nullopt;
  return object.args.elements()[0].as_string();
}

std::string show_step(const Value& container, std::size_t i) {
  if (!container.is_mapping()) return fmt::format("{}", i);
  const Value& key = container.items()[i / 2].key;
  if (key.is(Kind::string)) return key.as_string();
  if (key.is(Kind::integer)) return key.as_integer().to_decimal();
  return fmt::format("<{}>", to_string(key.kind()));
}

void check_attributes(const Value& value, const Value& attributes) {
  if (!value.is(Kind::ordered_dict) && !value.is(Kind::tensor)) {
    fail(fmt::format("Python attributes of a {} cannot be saved", to_string(value.kind())));
  }
  if (!attributes.is(Kind::dict)) fail("attributes are not a dict");
  for (const Entry& entry : attributes.items()) {
    if (!entry.key.is(Kind::string)) fail("an attribute whose name is not a str");
  }
}

// The place of the child that is being written.
std::string Writer::key_path() const {
  std::string path;
  for (const Frame& frame : frames_) {
    if (frame.next == 0) continue;
    if (!path.empty()) path += '.';
    const bool in_items = is_container(frame.value->kind()) && frame.next <= child_count(*frame.value);
    path += in_items ? show_step(*frame.value, frame.next - 1) : "<attributes>";
  }
  return path;
}

void Writer::remember(const Value& value, std::uint32_t number) {
  if (value.is_shared()) objects_.insert(value.id(), number);
  if (value.label() != 0) labels_[value.label()] = number;
}

// A leaf that takes more room than a reference to it. Shorter texts the emitter knows again by their content.
bool is_long_leaf(const Value& value) {
  return value.is(Kind::bytes) || (value.is(Kind::string) && value.size() > Emitter::kMaxSharedText);
}

void Writer::write(const Value& value) {
  const Kind kind = value.kind();
  const bool is_object = is_container(kind) || is_long_leaf(value) || kind == Kind::tensor ||
                         kind == Kind::sparse_tensor || kind == Kind::nested_tensor || kind == Kind::size ||
                         kind == Kind::bytearray;
  if (!is_object) return write_leaf(value);
  if (value.is_shared()) {
    if (const auto* number = objects_.find(value.id())) return out_.get(*number);
  }
  Value attributes = value.attributes();
  if (!attributes.is_none()) check_attributes(value, attributes);
  const bool is_open_ended = is_container(kind) || !attributes.is_none();
  if (is_open_ended) frames_.push_back({&value, 0, std::move(attributes)});
  if (is_container(kind)) return open(value);
  write_leaf(value);
  if (!is_open_ended) remember(value, out_.put());
}

// What stands before a container's children.
void Writer::open(const Value& value) {
  switch (value.kind()) {
    case Kind::list:
      out_.op(Op::empty_list);
      return remember(value, out_.put());
    case Kind::dict:
      out_.op(Op::empty_dict);
      return remember(value, out_.put());
    case Kind::ordered_dict:
      out_.empty_ordered_dict();
      return remember(value, out_.put());
    case Kind::counter:
      out_.global(Name::counter);
      return out_.op(Op::empty_dict);
    case Kind::set:
      out_.global(Name::set);
      return out_.op(Op::empty_list);
    default:
      if (value.size() > 3) out_.op(Op::mark);
  }
}

// A tree's nodes lie all over the memory, and waiting for one after the other would take most of the time of writing
// many small tensors. So children to come are asked for early: first their nodes, later what these point to.
void prefetch_children(const Value& container, std::size_t next, std::size_t count) {
  constexpr std::size_t kNodesAhead = 24;
  constexpr std::size_t kContentsAhead = 12;
  if (next + kNodesAhead < count) {
    const void* id = child(container, next + kNodesAhead).id();  // null for numbers and None
    if (const auto* node = static_cast<const char*>(id); node != nullptr)
      for (const int line : {0, 64, 128}) __builtin_prefetch(node + line);
  }
  if (next + kContentsAhead >= count) return;
  const Value& value = child(container, next + kContentsAhead);
  if (value.is(Kind::string)) {
    __builtin_prefetch(value.as_string().data());
  } else if (value.is(Kind::tensor)) {
    const Tensor& tensor = value.as_tensor();
    __builtin_prefetch(tensor.storage.get());
    __builtin_prefetch(tensor.sizes.data());
    __builtin_prefetch(tensor.strides.data());
  }
}

// Ends the instruction begun for the last child, and begins the next one or closes the container.
void Writer::advance() {
  Frame& frame = frames_.back();
  const Value& value = *frame.value;
  const bool has_items = is_container(value.kind());
  const std::size_t count = has_items ? child_count(value) : 0;
  const std::size_t width = value.is_mapping() ? 2 : 1;
  const bool is_batched = has_items && !value.is(Kind::tuple);
  const std::size_t next = frame.next;
  if (is_batched && next != 0 && next <= count) {
    const Op one = width == 2 ? Op::set_item : Op::append;
    const Op many = width == 2 ? Op::set_items : Op::appends;
    if (count == width && next == count)
      out_.op(one);
    else if (next % (kBatch * width) == 0 || next == count)
      out_.op(many);
  }
  if (next < count) {
    if (is_batched && count > width && next % (kBatch * width) == 0) out_.op(Op::mark);
    ++frame.next;
    prefetch_children(value, next, count);
    return write(child(value, next));
  }
  if (next == count && !frame.attributes.is_none()) {
    ++frame.next;
    return write(frame.attributes);
  }
  close(frame);
  frames_.pop_back();
}

// What stands behind a container's children.
void Writer::close(const Frame& frame) {
  const Value& value = *frame.value;
  switch (value.kind()) {
    case Kind::list:
    case Kind::dict:
      return;
    case Kind::ordered_dict:
      if (!frame.attributes.is_none()) out_.op(Op::build);
      return;
    case Kind::tuple:
      out_.tuple(value.size());
      break;
    case Kind::tensor:
      out_.op(Op::tuple);
      out_.op(Op::reduce);
      break;
    default:
      out_.op(Op::tuple1);
      out_.op(Op::reduce);
  }
  remember(value, out_.put());
}

void Writer::write_leaf(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return out_.op(Op::none);
    case Kind::boolean:
      return out_.boolean(value.as_boolean());
    case Kind::integer:
      if (!out_.integer(value.as_integer()))
        fail("an int of more than 255 bytes: PyTorch's safe loader cannot read it");
      return;
    case Kind::real:
      return out_.real(value.as_real());
    case Kind::complex:
      out_.global(Name::complex);
      out_.real(value.as_complex().real());
      out_.real(value.as_complex().imag());
      out_.op(Op::tuple2);
      return out_.op(Op::reduce);
    case Kind::string:
      return text(value.as_string());
    case Kind::bytes:
      return bytes(value.as_bytes());
    case Kind::bytearray:
      out_.global(Name::bytearray);
      bytes(value.as_bytes());
      out_.op(Op::tuple1);
      return out_.op(Op::reduce);
    case Kind::size:
      return size(value.elements());
    case Kind::dtype:
      return out_.global(value.as_dtype());
    case Kind::device:
      return device(value.as_device().name);
    case Kind::tensor:
      return tensor(value);
    case Kind::sparse_tensor:
      return sparse(value.as_sparse_tensor());
    case Kind::nested_tensor:
      return nested(value.as_nested_tensor());
    case Kind::back_reference: {
      const auto label = labels_.find(value.label());
      if (label == labels_.end())
        fail("a reference to an object that is not finished yet: only lists and dicts can contain themselves");
      return out_.get(label->second);
    }
    case Kind::opaque:
      if (is_storage(value.as_opaque()))
        return tensors_.storage(value.as_opaque().args.as_tensor(), value.as_opaque().name == "UntypedStorage");
      if (const auto layout = layout_of(value.as_opaque())) return this->layout(*layout);
      fail(fmt::format("an object of class {}.{}: PyTorch's safe loader would refuse it", value.as_opaque().module,
                       value.as_opaque().name));
    default:
      fail(fmt::format("a {}: PyTorch's safe loader would refuse it", to_string(value.kind())));
  }
}

void Writer::text(std::string_view text) {
  if (text.size() > std::numeric_limits<std::uint32_t>::max()) fail("a str of 4 GiB or more");
  if (!is_utf8(text)) fail("a str that is not UTF-8; save it as bytes");
  out_.text(text);
}

void Writer::bytes(std::string_view bytes) {
  const std::string text = latin1_to_utf8(bytes);
  if (text.size() > std::numeric_limits<std::uint32_t>::max()) fail("bytes of 4 GiB or more; save them as a tensor");
  out_.global(Name::encode);
  out_.text_once(text);
  out_.text("latin1");
  out_.op(Op::tuple2);
  out_.op(Op::reduce);
}

// "cuda:1" is device('cuda', 1)
void Writer::device(const std::string& name) {
  const std::size_t colon = name.find(':');
  std::int64_t index = 0;
  const bool has_index = colon != std::string::npos;
  if (has_index) {
    const auto result = std::from_chars(name.data() + colon + 1, name.data() + name.size(), index);
    if (result.ec != std::errc() || result.ptr != name.data() + name.size())
      fail(fmt::format("a device called '{}'", name));
  }
  out_.global(Name::device);
  out_.text(std::string_view(name).substr(0, colon));
  if (has_index) out_.integer(index);
  out_.tuple(has_index ? 2 : 1);
  out_.op(Op::reduce);
}

void Writer::size(std::span<const Value> elements) {
  std::vector<std::int64_t> sizes;
  for (const Value& element : elements) {
    const auto size = element.is(Kind::integer) ? element.as_integer().to_int64() : std::nullopt;
    if (!size) fail("a torch.Size whose elements are not ints of 64 bits");
    sizes.push_back(*size);
  }
  out_.global(Name::size);
  out_.integers(sizes);
  out_.op(Op::tuple1);
  out_.op(Op::reduce);
}

// A tensor; of one with attributes, what stands before them. close() adds the rest.
void Writer::tensor(const Value& value) {
  const Tensor& tensor = value.as_tensor();
  const bool has_attributes = !frames_.empty() && frames_.back().value == &value;
  if (has_attributes)
    tensors_.begin_with_attributes(tensor);
  else if (tensor.is_parameter)
    tensors_.parameter(tensor);
  else
    tensors_.tensor(tensor, tensor.requires_grad);
}

// A tensor that is part of a sparse or nested one.
void Writer::part(const Value& value) {
  if (!value.is(Kind::tensor) || !value.attributes().is_none()) {
    fail(fmt::format("a part that is a {}, not a plain tensor", to_string(value.kind())));
  }
  write(value);
}

void Writer::layout(std::string_view name) {
  out_.global(Name::get_layout);
  out_.text_once(name);
  out_.op(Op::tuple1);
  out_.op(Op::reduce);
}

void Writer::sparse(const SparseTensor& tensor) {
  const bool coo = tensor.layout == "sparse_coo";
  out_.global(Name::rebuild_sparse_tensor);
  layout("torch." + tensor.layout);
  out_.op(Op::mark);
  part(tensor.indices);
  if (!coo) part(tensor.plain);
  part(tensor.values);
  out_.global(Name::size);
  out_.integers(tensor.sizes);
  out_.op(Op::tuple1);
  out_.op(Op::reduce);
  if (coo && tensor.is_coalesced) out_.boolean(*tensor.is_coalesced);
  out_.op(Op::tuple);
  out_.op(Op::tuple2);
  out_.op(Op::reduce);
}

void Writer::nested(const NestedTensor& tensor) {
  out_.global(Name::rebuild_nested_tensor);
  out_.op(Op::mark);
  part(tensor.buffer);
  part(tensor.sizes);
  part(tensor.strides);
  part(tensor.offsets);
  out_.op(Op::tuple);
  out_.op(Op::reduce);
}

}  // namespace

Pickled write(const Value& value, std::uint32_t first_number) {
  return Writer(first_number).run(value);
}

}  // namespace torchkeep::pickle
