// SPDX-License-Identifier: BSD-3-Clause
// Walks Python objects without recursion: containers that are not finished stand on a stack of frames.
#include "to_value.h"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <unordered_map>
#include <utility>
#include <vector>

#include "address_map.h"
#include "tensor_reader.h"
#include "torch_bridge.h"

namespace torchkeep::python {
namespace {

/// The containers and leaves that are not built in, found once.
struct Types {
  PyTypeObject* counter;
  PyTypeObject* ordered_dict;

  static const Types& get() {
    static const Types types{of_collections("Counter"), of_collections("OrderedDict")};
    return types;
  }

 private:
  static PyTypeObject* of_collections(const char* name) {
    return reinterpret_cast<PyTypeObject*>(nb::object(nb::module_::import_("collections").attr(name)).release().ptr());
  }
};

Integer to_integer(PyObject* number) {
  int overflow = 0;
  const long long small = PyLong_AsLongLongAndOverflow(number, &overflow);
  if (overflow == 0) {
    if (small == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
    return small;
  }
  const nb::object object = nb::borrow(number);
  const nb::object size = nb::int_(nb::cast<std::size_t>(object.attr("bit_length")()) / 8 + 1);
  const nb::object bytes = object.attr("to_bytes")(size, "little", nb::arg("signed") = true);
  return Integer::from_twos_complement(bytes_of(bytes.ptr()));
}

std::string type_name(PyObject* object) {
  const nb::object type = nb::borrow(reinterpret_cast<PyObject*>(Py_TYPE(object)));
  const std::string module = to_text(nb::str(type.attr("__module__")).ptr());
  const std::string name = to_text(nb::str(type.attr("__qualname__")).ptr());
  return module == "builtins" ? name : module + "." + name;
}

/// What to do with an object of a class that is not plain data.
std::string advice(PyObject* object) {
  if (nb::hasattr(object, "state_dict")) return "save its state_dict()";
  if (PyCallable_Check(object)) return "code is not saved; leave it out";
  if (PyDict_Check(object)) return "save dict(...) of it";
  if (PyList_Check(object)) return "save list(...) of it";
  if (PyTuple_Check(object)) return "save tuple(...) of it";
  if (PyFloat_Check(object)) return "save float(...) of it";
  if (PyLong_Check(object)) return "save int(...) of it";
  if (PyUnicode_Check(object)) return "save str(...) of it";
  if (nb::hasattr(object, "__array__") && !nb::hasattr(object, "__torch_function__"))
    return "save torch.as_tensor(...) or .item() of it";
  if (nb::isinstance(nb::borrow(object), nb::module_::import_("enum").attr("Enum"))) return "save its value";
  if (nb::isinstance(nb::borrow(object), nb::module_::import_("os").attr("PathLike"))) return "save str(...) of it";
  const std::string type = type_name(object);
  if (type == "torchkeep._opaque.Opaque" || type == "torchkeep.Opaque")
    return "opaque=\"drop\" leaves such objects out, opaque=\"keep\" saves what they say as a dict";
  if (type == "argparse.Namespace" || type == "types.SimpleNamespace") return "save vars(...) of it";
  return "save plain data and tensors, or say with default= what stands for it";
}

[[noreturn]] void refuse(PyObject* object) {
  throw Error(Code::unsupported,
              fmt::format("an object of class {}, which is not plain data; {}", type_name(object), advice(object)));
}

class Converter {
 public:
  explicit Converter(const ReaderOptions& options) : options_(options) {}

  Value run(PyObject* root) {
    try {
      return convert(root);
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = key_path()});
    }
  }

 private:
  /// A container: of `children` (keys and values of a mapping by turns; attributes last), `values` are converted.
  struct Frame {
    nb::object object;
    Kind kind;
    bool has_attributes = false;
    Value tensor;  ///< of Kind::tensor, whose only child are its attributes
    std::vector<nb::object> children;
    std::vector<Value> values;
  };

  Value convert(PyObject* root) {
    Value result;
    if (make(root, result)) return result;
    for (;;) {
      Frame& frame = frames_.back();
      if (frame.values.size() < frame.children.size()) {
        Value child;
        if (make(frame.children[frame.values.size()].ptr(), child)) frames_.back().values.push_back(std::move(child));
        continue;
      }
      Value done = leave(frame);
      frames_.pop_back();
      if (frames_.empty()) return done;
      frames_.back().values.push_back(std::move(done));
    }
  }

  /// Makes the Value of a leaf or of something made before; otherwise opens a frame and returns false.
  bool make(PyObject* object, Value& value) {
    PyTypeObject* const type = Py_TYPE(object);
    if (object == Py_None) return true;
    if (type == &PyUnicode_Type) return remembered(object, value, [&] { return Value::string(to_text(object)); });
    if (type == &PyBool_Type) return set(value, detail::make_boolean(object == Py_True));
    if (type == &PyLong_Type) return set(value, detail::make_integer(to_integer(object)));
    if (type == &PyFloat_Type) return set(value, detail::make_real(PyFloat_AsDouble(object)));
    if (type == &PyComplex_Type) {
      return set(value, detail::make_complex({PyComplex_RealAsDouble(object), PyComplex_ImagAsDouble(object)}));
    }
    if (type == &PyBytes_Type) {
      return set(value, Value::bytes(std::string(bytes_of(object))));
    }
    if (type == &PyByteArray_Type) {
      return remembered(object, value, [&] {
        return Value::bytes({PyByteArray_AsString(object), static_cast<std::size_t>(PyByteArray_Size(object))},
                            Kind::bytearray);
      });
    }
    return (is_seen_again(object) && known(object, value)) || make_object(object, type, value);
  }

  /// The Value of something made before, or a reference back to a container that is being made.
  bool known(PyObject* object, Value& value) {
    if (const auto found = made_.find(object); found != made_.end()) return set(value, found->second);
    const auto open = open_.find(object);
    if (open == open_.end()) return false;
    if (open->second == 0) open->second = Value::new_label();
    return set(value, Value::back_reference(open->second));
  }

  bool make_object(PyObject* object, PyTypeObject* type, Value& value) {
    if (type == &PyDict_Type) return enter(object, Kind::dict);
    if (type == &PyList_Type) return enter(object, Kind::list);
    if (type == &PyTuple_Type) return enter(object, Kind::tuple);
    if (type == Types::get().ordered_dict) return enter(object, Kind::ordered_dict);
    if (type == &PySet_Type) return enter(object, Kind::set);
    if (type == &PyFrozenSet_Type) return enter(object, Kind::frozenset);
    if (type == Types::get().counter) return enter(object, Kind::counter);
    if (torch_ == nullptr) torch_ = Torch::if_imported();
    if (torch_ == nullptr) return make_stand_in(object, value);
    if (torch_->is_tensor(type)) return make_tensor(object, value);
    if (type == torch_->size) return enter(object, Kind::size);
    if (type == torch_->dtype_type) {
      const auto dtype = torch_->dtype_of(object);
      if (!dtype)
        throw Error(Code::unsupported, fmt::format("{}: a dtype torchkeep does not know", nb::repr(object).c_str()));
      return set(value, detail::make_dtype(*dtype));
    }
    if (type == torch_->device) return set(value, detail::make_device({to_text(own(PyObject_Str(object)).ptr())}));
    if (type == torch_->layout) return set(value, layout(object));
    if (type == torch_->typed_storage || type == torch_->untyped_storage) return make_storage(object, value);
    return make_stand_in(object, value);
  }

  /// What the caller gives for an object that is no plain data. An object that is met again has the same stand-in.
  bool make_stand_in(PyObject* object, Value& value) {
    constexpr int kMostInARow = 16;
    nb::object& known = stand_ins_[object];
    if (!known.is_valid()) {
      if (++stand_ins_in_a_row_ > kMostInARow)
        throw Error(Code::unsupported, "default= gives objects that are no plain data either, again and again");
      const nb::object answer = ask_for_stand_in(object);
      if (answer[0].is_none() && options_.leaves_out != nullptr) return set(value, left_out());
      if (!nb::cast<bool>(answer[0])) refuse(object);
      known = answer[1];
      if (known.ptr() == object)
        throw Error(Code::unsupported,
                    fmt::format("default= gave back the {} that it was called for", type_name(object)));
      alive_.push_back(nb::borrow(object));
      alive_.push_back(known);
    }
    const nb::object stand_in = known;
    const bool is_made = make(stand_in.ptr(), value);
    stand_ins_in_a_row_ = 0;
    return is_made;
  }
  nb::object ask_for_stand_in(PyObject* object) const {
    if (options_.stand_in.is_valid()) return options_.stand_in(nb::borrow(object));
    return nb::module_::import_("torchkeep._stand_in").attr("exact")(nb::borrow(object));
  }

  /// What is left out until drop_objects() takes it away.
  Value left_out() {
    stand_ins_in_a_row_ = 0;
    *options_.leaves_out = true;
    Opaque opaque;
    opaque.module = "torchkeep";
    opaque.name = "Opaque";
    opaque.form = Opaque::Form::global;
    return detail::make_opaque(std::move(opaque));
  }

  /// As PyTorch pickles a torch.layout: by its name.
  static Value layout(PyObject* object) {
    Opaque opaque;
    opaque.module = "torch.serialization";
    opaque.name = "_get_layout";
    opaque.args = Value(Tuple{Value::string(to_text(own(PyObject_Str(object)).ptr()))});
    return detail::make_opaque(std::move(opaque));
  }

  /// A storage by itself: the tensor of all its elements says everything about it.
  bool make_storage(PyObject* object, Value& value) {
    if (!reader_) reader_.emplace(*torch_, options_);
    const nb::object tensor = torch_->helpers.attr("tensor_of_storage")(nb::borrow(object));
    Opaque opaque;
    opaque.module = "torch.storage";
    opaque.name = Py_TYPE(object) == torch_->untyped_storage ? "UntypedStorage" : "TypedStorage";
    opaque.form = Opaque::Form::persistent;
    opaque.args = reader_->read(tensor.ptr());
    alive_.push_back(tensor);
    return remembered(object, value, [&] { return detail::make_opaque(std::move(opaque)); });
  }

  bool make_tensor(PyObject* object, Value& value) {
    if (!reader_) reader_.emplace(*torch_, options_);
    Value tensor = reader_->read(object);
    nb::object attributes = attributes_of(object);
    if (!attributes.is_valid()) {
      if (is_seen_again(object)) {
        alive_.push_back(nb::borrow(object));
        made_.emplace(object, tensor);
      }
      return set(value, std::move(tensor));
    }
    Frame& frame = open(object, Kind::tensor);
    frame.tensor = std::move(tensor);
    frame.has_attributes = true;
    frame.children.push_back(std::move(attributes));
    return false;
  }

  /// The attributes a user gave a tensor, or nothing.
  static nb::object attributes_of(PyObject* tensor) {
#ifdef Py_LIMITED_API
    nb::object attributes = nb::steal(PyObject_GenericGetDict(tensor, nullptr));
    if (!attributes.is_valid()) PyErr_Clear();  // of a class without any
    if (!attributes.is_valid() || PyDict_Size(attributes.ptr()) == 0) return {};
    return attributes;
#else  // before 3.12 this spares making a dict for every tensor
    PyObject* const* const place = _PyObject_GetDictPtr(tensor);
    if (place == nullptr || *place == nullptr || PyDict_Size(*place) == 0) return {};
    return nb::borrow(*place);
#endif
  }

  bool enter(PyObject* object, Kind kind) {
    Frame& frame = open(object, kind);
    switch (kind) {
      case Kind::dict:
        return enter_dict(frame);
      case Kind::counter:
      case Kind::ordered_dict:
        return enter_items(frame);
      default:
        break;
    }
    const bool is_tuple = PyTuple_Check(object) != 0;
    const nb::object elements =
        is_tuple || PyList_Check(object) != 0 ? nb::borrow(object) : own(PySequence_List(object));
    const Py_ssize_t count = is_tuple ? PyTuple_Size(elements.ptr()) : PyList_Size(elements.ptr());
    frame.children.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
      frame.children.push_back(
          nb::borrow(is_tuple ? PyTuple_GetItem(elements.ptr(), i) : PyList_GetItem(elements.ptr(), i)));
    }
    return false;
  }

  bool enter_dict(Frame& frame) {
    frame.children.reserve(2 * static_cast<std::size_t>(PyDict_Size(frame.object.ptr())) + 1);
    Py_ssize_t position = 0;
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    while (PyDict_Next(frame.object.ptr(), &position, &key, &value)) {
      frame.children.push_back(nb::borrow(key));
      frame.children.push_back(nb::borrow(value));
    }
    return false;
  }

  // An OrderedDict keeps an order of its own, which its items() follow.
  bool enter_items(Frame& frame) {
    PyObject* const object = frame.object.ptr();
    const nb::object items = own(PyMapping_Items(object));
    const Py_ssize_t count = PyList_Size(items.ptr());
    frame.children.reserve(2 * static_cast<std::size_t>(count) + 1);
    for (Py_ssize_t i = 0; i < count; ++i) {
      PyObject* const item = PyList_GetItem(items.ptr(), i);
      frame.children.push_back(nb::borrow(PyTuple_GetItem(item, 0)));
      frame.children.push_back(nb::borrow(PyTuple_GetItem(item, 1)));
    }
    static const Name kDict("__dict__");
    if (frame.kind != Kind::ordered_dict) return false;
    nb::object attributes = attribute(object, kDict);
    if (PyDict_Size(attributes.ptr()) == 0) return false;
    frame.has_attributes = true;
    frame.children.push_back(std::move(attributes));
    return false;
  }

  Frame& open(PyObject* object, Kind kind) {
    alive_.push_back(nb::borrow(object));
    open_.emplace(object, 0);
    Frame& frame = frames_.emplace_back();
    frame.object = nb::borrow(object);
    frame.kind = kind;
    return frame;
  }

  Value leave(Frame& frame) {
    Value attributes;
    if (frame.has_attributes) {
      attributes = std::move(frame.values.back());
      frame.values.pop_back();
    }
    Value value = finished(frame);
    if (!attributes.is_none()) value.set_attributes(std::move(attributes));
    const auto open = open_.find(frame.object.ptr());
    if (open->second != 0) value.set_label(open->second);
    open_.erase(open);
    made_.emplace(frame.object.ptr(), value);
    return value;
  }

  static Value finished(Frame& frame) {
    switch (frame.kind) {
      case Kind::tensor:
        return std::move(frame.tensor);
      case Kind::dict:
      case Kind::counter:
      case Kind::ordered_dict: {
        std::vector<Entry> entries(frame.values.size() / 2);
        for (std::size_t i = 0; i < entries.size(); ++i)
          entries[i] = {std::move(frame.values[2 * i]), std::move(frame.values[2 * i + 1])};
        return Value::mapping(frame.kind, std::move(entries));
      }
      default:
        return Value::sequence(frame.kind, std::move(frame.values));
    }
  }

  /// Whether the object can come again: more refers to it than its container and the frame that walks through that.
  static bool is_seen_again(PyObject* object) {
    return Py_REFCNT(object) > 2;
  }

  static bool set(Value& place, Value value) {
    place = std::move(value);
    return true;
  }
  template <class Make>
  bool remembered(PyObject* object, Value& value, Make make) {
    if (!is_seen_again(object)) return set(value, make());
    Value& known = made_[object];
    if (known.is_none()) {
      known = make();
      alive_.push_back(nb::borrow(object));
    }
    value = known;
    return true;
  }

  /// The place of what is being converted.
  std::string key_path() const {
    std::string path;
    for (const Frame& frame : frames_) {
      const std::size_t next = frame.values.size();
      if (!path.empty()) path += '.';
      const bool is_mapping =
          frame.kind == Kind::dict || frame.kind == Kind::ordered_dict || frame.kind == Kind::counter;
      if (frame.has_attributes && next + 1 == frame.children.size()) {
        path += "<attributes>";
      } else if (is_mapping) {
        const nb::object& key = frame.children[next / 2 * 2];
        path += PyUnicode_CheckExact(key.ptr()) || PyLong_CheckExact(key.ptr())
                    ? to_text(own(PyObject_Str(key.ptr())).ptr())
                    : "<" + type_name(key.ptr()) + ">";
      } else {
        path += fmt::format("{}", next);
      }
    }
    return path;
  }

  ReaderOptions options_;
  const Torch* torch_ = nullptr;
  std::optional<TensorReader> reader_;
  std::vector<Frame> frames_;
  AddressMap<Value> made_;
  std::unordered_map<PyObject*, std::uint64_t> open_;  ///< containers in frames_, and their labels (0: none yet)
  AddressMap<nb::object> stand_ins_;                   ///< by the address of what they stand in for
  int stand_ins_in_a_row_ = 0;
  std::vector<nb::object> alive_;  ///< what made_ and stand_ins_ know by address
};

}  // namespace

Value to_value(nb::handle object, const ReaderOptions& options) {
  const CollectionPause pause;
  Value value = Converter(options).run(object.ptr());
  if (options.device_copies.is_valid()) options.device_copies.attr("wait")();
  return value;
}

nb::object device_copies(std::optional<std::uint64_t> limit) {
  return nb::module_::import_("torchkeep._device_copies").attr("DeviceCopies")(limit);
}

}  // namespace torchkeep::python
