// SPDX-License-Identifier: BSD-3-Clause
// Walks a Value without recursion and builds Python objects bottom-up.
#include "from_value.h"

#include <algorithm>
#include <deque>
#include <nanobind/stl/string.h>
#include <unordered_map>
#include <vector>

#include <torchkeep/state/walk.h>

#include "address_map.h"
#include "errors.h"
#include "info_maker.h"
#include "opaque_maker.h"
#include "tensor_maker.h"

namespace torchkeep::python {
namespace {

nb::object integer(const Integer& number) {
  if (const auto small = number.to_int64()) return own(PyLong_FromLongLong(*small));
  const std::string bytes = number.to_twos_complement();
  const nb::object data = own(PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
  static PyObject* const from_bytes =
      nb::object(nb::handle(reinterpret_cast<PyObject*>(&PyLong_Type)).attr("from_bytes")).release().ptr();
  return nb::borrow(from_bytes)(data, "little", nb::arg("signed") = true);
}

nb::object bytes_of(const Value& value) {
  const std::string& bytes = value.as_bytes();
  return own(PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

PyObject* collections_type(const char* name) {
  return nb::object(nb::module_::import_("collections").attr(name)).release().ptr();
}

bool is_container(Kind kind) {
  return (kind >= Kind::list && kind <= Kind::frozenset) || kind == Kind::opaque;
}

/// args, kwargs and state of an opaque object.
constexpr std::size_t kOpaqueParts = 3;

class Builder {
 public:
  explicit Builder(LeafMaker& leaves) : leaves_(leaves) {}

  /// Throws Error, whatever Python or PyTorch says of what stands in the file; and what a function of the user's
  /// throws.
  nb::object run(const Value& root) {
    try {
      return build(root);
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = place()});
    } catch (const nb::python_error& error) {
      if (leaves_.is_users_error()) throw;
      if (set_interruption(error)) throw nb::python_error();
      const Code code = error.matches(PyExc_MemoryError) ? Code::refused : Code::unsupported;
      throw error_from_python(error, code).at({.file = {}, .record = {}, .offset = {}, .key = place()});
    }
  }

 private:
  nb::object build(const Value& root) {
    nb::object result;
    if (make(root, result)) return result;
    for (;;) {
      Frame& frame = frames_.back();
      if (frame.built.size() < frame.count) {
        nb::object child;
        if (make(part(frame), child)) frames_.back().built.push_back(std::move(child));
        continue;
      }
      nb::object done = leave(frame);
      frames_.pop_back();
      if (frames_.empty()) return done;
      frames_.back().built.push_back(std::move(done));
    }
  }

  /// Where the part lies that is being built.
  std::string place() const {
    std::deque<Place> places(1);
    for (const Frame& frame : frames_) {
      const std::size_t i = frame.value.is_mapping() ? frame.built.size() / 2 : frame.built.size();
      const Parts parts(frame.value);
      if (i >= parts.size()) break;
      const Place& parent = places.back();
      places.push_back({&parent, parts.step(i), parent.depth + 1});
    }
    return places.back().text();
  }

  /// A value whose parts (keys and values of a mapping by turns; attributes last) are being built.
  struct Frame {
    Value value;
    Value attributes;
    bool comes_again = false;
    nb::object object;  ///< a list, a dict or a tensor, made first
    std::size_t count = 0;
    std::vector<nb::object> built;
    bool has_attributes() const noexcept { return !attributes.is_none(); }
  };

  bool make(const Value& value, nb::object& object) {
    switch (value.kind()) {
      case Kind::none:
        return set(object, nb::none());
      case Kind::boolean:
        return set(object, nb::bool_(value.as_boolean()));
      case Kind::integer:
        if (!value.as_integer().to_int64()) break;
        return set(object, integer(value.as_integer()));
      case Kind::real:
        return set(object, own(PyFloat_FromDouble(value.as_real())));
      case Kind::complex:
        return set(object, own(PyComplex_FromDoubles(value.as_complex().real(), value.as_complex().imag())));
      case Kind::dtype:
        return set(object, leaves_.dtype(value.as_dtype()));
      case Kind::device:
        return set(object, leaves_.device(value.as_device()));
      case Kind::back_reference:
        return set(object, open_object(value));
      default:
        break;
    }
    const bool comes_again = value.is_shared();
    if (comes_again) {
      if (const auto found = made_.find(value.id()); found != made_.end()) return set(object, found->second);
    }
    Value attributes = value.attributes();
    if (!make_leaf(value, attributes, object)) {
      enter(value, std::move(attributes), comes_again);
      return false;
    }
    if (comes_again) made_[value.id()] = object;
    return true;
  }

  bool make_leaf(const Value& value, const Value& attributes, nb::object& object) {
    if (value.is(Kind::string)) return set(object, from_text(value.as_string()));
    if (value.is(Kind::bytes)) return set(object, bytes_of(value));
    if (value.is(Kind::integer)) return set(object, integer(value.as_integer()));
    if (value.is(Kind::tensor)) return attributes.is_none() && set(object, leaves_.tensor(value));
    if (value.is(Kind::sparse_tensor) || value.is(Kind::nested_tensor)) return set(object, leaves_.compound(value));
    if (!value.is(Kind::bytearray)) return false;
    const std::string& bytes = value.as_bytes();
    return set(object, own(PyByteArray_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size()))));
  }

  void enter(const Value& value, Value attributes, bool comes_again) {
    Frame& frame = frames_.emplace_back();
    frame.value = value;
    frame.comes_again = comes_again;
    frame.attributes = std::move(attributes);
    frame.count = content_count(value) + frame.has_attributes();
    frame.built.reserve(frame.count);
    if (value.is(Kind::tensor)) frame.object = leaves_.tensor(value);
    if (value.is(Kind::list)) frame.object = own(PyList_New(0));
    if (value.is(Kind::dict)) frame.object = own(PyDict_New());
    if (value.is(Kind::ordered_dict)) {
      static PyObject* const type = collections_type("OrderedDict");
      frame.object = own(PyObject_CallNoArgs(type));
    }
    if (value.is(Kind::opaque)) frame.object = begin_opaque(value);
    if (value.label() != 0 && frame.object.is_valid()) labels_[value.label()] = frame.object;
  }

  static std::size_t content_count(const Value& value) {
    if (value.is_mapping()) return 2 * value.items().size();
    if (value.is(Kind::opaque)) {
      const Opaque& object = value.as_opaque();
      return kOpaqueParts + object.list_items.size() + 2 * object.dict_items.size();
    }
    return is_container(value.kind()) ? value.elements().size() : 0;
  }

  static const Value& part(const Frame& frame) {
    const std::size_t i = frame.built.size();
    if (frame.has_attributes() && i + 1 == frame.count) return frame.attributes;
    if (frame.value.is_mapping()) {
      const Entry& entry = frame.value.items()[i / 2];
      return i % 2 == 0 ? entry.key : entry.value;
    }
    if (!frame.value.is(Kind::opaque)) return frame.value.elements()[i];
    const Opaque& object = frame.value.as_opaque();
    const std::size_t at = i - kOpaqueParts;
    if (i < kOpaqueParts) return i == 0 ? object.args : i == 1 ? object.kwargs : object.state;
    if (at < object.list_items.size()) return object.list_items[at];
    const Entry& entry = object.dict_items[(at - object.list_items.size()) / 2];
    return (at - object.list_items.size()) % 2 == 0 ? entry.key : entry.value;
  }

  /// The container or object that a part of it refers back to, while that is being built.
  nb::object open_object(const Value& reference) const {
    const auto found = labels_.find(reference.label());
    if (found != labels_.end()) return found->second;
    throw Error(Code::unsupported,
                "an object that contains itself: only lists, dicts, namespaces and objects of unknown classes can");
  }

  nb::object leave(Frame& frame) {
    nb::object attributes;
    if (frame.has_attributes()) {
      attributes = std::move(frame.built.back());
      frame.built.pop_back();
    }
    nb::object object = finished(frame, attributes);
    if (frame.comes_again) made_[frame.value.id()] = object;
    return object;
  }

  nb::object finished(Frame& frame, const nb::object& attributes) {
    switch (frame.value.kind()) {
      case Kind::tensor:
        return leaves_.with_attributes(frame.value, frame.object, attributes);
      case Kind::list:
        for (const nb::object& element : frame.built) check(PyList_Append(frame.object.ptr(), element.ptr()));
        return frame.object;
      case Kind::dict:
      case Kind::ordered_dict:
        fill(frame.object, frame.built);
        if (attributes.is_valid()) set_attributes(frame.object, attributes);
        return frame.object;
      case Kind::counter: {
        const nb::object counts = own(PyDict_New());
        fill(counts, frame.built);
        static PyObject* const type = collections_type("Counter");
        return call(type, counts.ptr());
      }
      case Kind::opaque:
        return leaves_.opaque(frame.value, frame.object, frame.built);
      case Kind::set:
      case Kind::frozenset:
        check_hashes(frame.built, 1);
        return from_tuple(frame.value.kind(), tuple(frame.built));
      default:
        return from_tuple(frame.value.kind(), tuple(frame.built));
    }
  }

  nb::object from_tuple(Kind kind, nb::object tuple) {
    if (kind == Kind::size) return leaves_.size(tuple);
    if (kind == Kind::set) return hashed(PySet_New(tuple.ptr()));
    if (kind == Kind::frozenset) return hashed(PyFrozenSet_New(tuple.ptr()));
    return tuple;
  }

  static nb::object tuple(const std::vector<nb::object>& elements) {
    nb::object tuple = own(PyTuple_New(static_cast<Py_ssize_t>(elements.size())));
    for (std::size_t i = 0; i < elements.size(); ++i)
      check(PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i), nb::object(elements[i]).release().ptr()));
    return tuple;
  }

  /// Python's hashes of numbers are no secret: a file may choose keys that all share one, and each would be compared
  /// with all the others.
  static void check_hashes(const std::vector<nb::object>& items, std::size_t step) {
    constexpr std::size_t kMostAlike = 1000;
    if (items.size() / step <= kMostAlike) return;
    std::vector<Py_hash_t> hashes;
    hashes.reserve(items.size() / step);
    for (std::size_t i = 0; i < items.size(); i += step) {
      if (PyUnicode_Check(items[i].ptr())) continue;  // seeded
      const Py_hash_t hash = PyObject_Hash(items[i].ptr());
      if (hash == -1) throw nb::python_error();
      hashes.push_back(hash);
    }
    std::sort(hashes.begin(), hashes.end());
    for (std::size_t i = kMostAlike; i < hashes.size(); ++i) {
      if (hashes[i] == hashes[i - kMostAlike])
        throw Error(Code::refused, "more than 1000 keys that Python cannot tell apart by their hashes");
    }
  }

  static void fill(const nb::object& mapping, const std::vector<nb::object>& items) {
    check_hashes(items, 2);
    const bool is_plain = PyDict_CheckExact(mapping.ptr());
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const int status = is_plain ? PyDict_SetItem(mapping.ptr(), items[i].ptr(), items[i + 1].ptr())
                                  : PyObject_SetItem(mapping.ptr(), items[i].ptr(), items[i + 1].ptr());
      if (status != 0) fail_hash();
    }
  }
  static nb::object hashed(PyObject* container) {
    if (container == nullptr) fail_hash();
    return own(container);
  }
  /// Of a key or an element that Python cannot hash, an argparse.Namespace for one.
  [[noreturn]] static void fail_hash() {
    const nb::python_error error;
    throw Error(Code::corrupt, std::string("a key or an element of a set that cannot be one: ") +
                                   nb::cast<std::string>(nb::str(nb::borrow(error.value()))));
  }

  static void set_attributes(const nb::object& object, const nb::object& attributes) {
    Py_ssize_t position = 0;
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    while (PyDict_Next(attributes.ptr(), &position, &key, &value)) check(PyObject_SetAttr(object.ptr(), key, value));
  }

  static bool set(nb::object& place, nb::object object) {
    place = std::move(object);
    return true;
  }

  LeafMaker& leaves_;
  std::deque<Frame> frames_;     // a deque: parts of one frame are looked at while another is added
  AddressMap<nb::object> made_;  // what comes again, by Value::id()
  std::unordered_map<std::uint64_t, nb::object> labels_;
};

}  // namespace

nb::object from_value(const Value& value, nb::handle map_location, const Placed* placed) {
  const CollectionPause pause;
  TensorMaker leaves(map_location, placed);
  return Builder(leaves).run(value);
}

nb::object structure_of(const Value& value) {
  const CollectionPause pause;
  StructureMaker leaves;
  return Builder(leaves).run(value);
}

nb::object describe_value(const Value& value) {
  const CollectionPause pause;
  InfoMaker leaves;
  return Builder(leaves).run(value);
}

}  // namespace torchkeep::python
