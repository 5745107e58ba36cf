// SPDX-License-Identifier: BSD-3-Clause
// Texts, and references that outlive the GIL.
#include "python.h"

#include <dlfcn.h>

#include <torchkeep/base/error.h>

namespace torchkeep::python {

std::string to_text(PyObject* text) {
  Py_ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text, &size)) return {data, static_cast<std::size_t>(size)};
  PyErr_Clear();
  const nb::object bytes = own(PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass"));
  return std::string(bytes_of(bytes.ptr()));
}

nb::object from_text(std::string_view text) {
  const auto size = static_cast<Py_ssize_t>(text.size());
  if (PyObject* const decoded = PyUnicode_DecodeUTF8(text.data(), size, "surrogatepass")) return nb::steal(decoded);
  if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError) == 0) throw nb::python_error();
  PyErr_Clear();
  return own(PyUnicode_DecodeUTF8(text.data(), size, "backslashreplace"));
}

std::string to_path(nb::handle path) {
  nb::object name = own(PyOS_FSPath(path.ptr()));
  if (PyUnicode_Check(name.ptr()) != 0) {
    PyObject* const encoded = PyUnicode_EncodeFSDefault(name.ptr());
    if (encoded == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) != 0) {
      PyErr_Clear();
      throw Error(Code::invalid_argument,
                  "expected a path that os.fsencode takes, found " + to_text(nb::repr(name).ptr()));
    }
    name = own(encoded);
  }
  return std::string(bytes_of(name.ptr()));
}

nb::object from_path(std::string_view path) {
  return own(PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size())));
}

bool is_interpreter_alive() noexcept {
  // Public since 3.13, and under another name before; one extension serves both (the stable ABI of 3.12).
  using IsFinalizing = int();
  static auto* const is_finalizing = reinterpret_cast<IsFinalizing*>([] {
    void* const found = ::dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
    return found != nullptr ? found : ::dlsym(RTLD_DEFAULT, "_Py_IsFinalizing");
  }());
  return Py_IsInitialized() != 0 && (is_finalizing == nullptr || is_finalizing() == 0);
}

void drop(PyObject* object) noexcept {
  if (!is_interpreter_alive()) return;
  const nb::gil_scoped_acquire gil;
  Py_DECREF(object);
}

Shared share(nb::object object) {
  return {object.release().ptr(), drop};
}

}  // namespace torchkeep::python
