// SPDX-License-Identifier: BSD-3-Clause
// What all bindings share: strong references, interned names, attribute access that throws.
#pragma once

#include <memory>
#include <nanobind/nanobind.h>
#include <string>
#include <string_view>

namespace torchkeep::python {

namespace nb = nanobind;

/// Takes over a new reference; a null pointer is the Python exception that is set.
inline nb::object own(PyObject* object) {
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

inline void check(int result) {
  if (result < 0) throw nb::python_error();
}

/// An interned attribute name; made once, never destroyed (the interpreter ends before static objects do).
class Name {
 public:
  explicit Name(const char* text) : object_(PyUnicode_InternFromString(text)) {}
  PyObject* ptr() const noexcept { return object_; }

 private:
  PyObject* object_;
};

inline nb::object attribute(PyObject* object, const Name& name) {
  return own(PyObject_GetAttr(object, name.ptr()));
}

inline nb::object call_method(PyObject* object, const Name& name) {
  return own(PyObject_CallMethodObjArgs(object, name.ptr(), nullptr));
}
inline nb::object call(PyObject* function, PyObject* argument) {
  return own(PyObject_CallFunctionObjArgs(function, argument, nullptr));
}

/// The memory of a bytes object, as long as that lives.
inline std::string_view bytes_of(PyObject* bytes) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  check(PyBytes_AsStringAndSize(bytes, &data, &size));
  return {data, static_cast<std::size_t>(size)};
}

inline bool is_true(const nb::object& object) {
  const int truth = PyObject_IsTrue(object.ptr());
  check(truth);
  return truth != 0;
}

inline std::int64_t to_int64(PyObject* number) {
  const std::int64_t value = PyLong_AsLongLong(number);
  if (value == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

/// A str as UTF-8; lone surrogates as "surrogatepass" writes them.
std::string to_text(PyObject* text);
/// The inverse. Bytes that are no such string (names of records are bytes) are shown as "\\xNN".
nb::object from_text(std::string_view text);
/// A str, bytes or os.PathLike as the system takes it, as os.fsencode does. Throws Error (invalid_argument) for a str
/// that os.fsencode refuses.
std::string to_path(nb::handle path);
/// A path as os.fsdecode gives it: what is no UTF-8 in it is kept, as surrogates.
nb::object from_path(std::string_view path);

/// A Python object that may be dropped by any thread, with or without the GIL.
using Shared = std::shared_ptr<PyObject>;
Shared share(nb::object object);

/// False once the interpreter is going down: then nothing of it may be touched. With or without the GIL.
bool is_interpreter_alive() noexcept;
/// Drops a reference from any thread; nothing once the interpreter is going down.
void drop(PyObject* object) noexcept;

/// No cyclic garbage collection while this lives: building 100,000 objects would start it again and again, in vain.
class CollectionPause {
 public:
  CollectionPause() : was_enabled_(PyGC_Disable() != 0) {}
  CollectionPause(const CollectionPause&) = delete;
  CollectionPause& operator=(const CollectionPause&) = delete;
  ~CollectionPause() {
    if (was_enabled_) PyGC_Enable();
  }

 private:
  bool was_enabled_;
};

}  // namespace torchkeep::python
