// SPDX-License-Identifier: BSD-3-Clause
// Texts, and references that outlive the GIL.
#include "python.h"

namespace torchkeep::python {

std::string to_text(PyObject* text) {
  Py_ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text, &size)) return {data, static_cast<std::size_t>(size)};
  PyErr_Clear();
  const nb::object bytes = own(PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass"));
  return {PyBytes_AS_STRING(bytes.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

nb::object from_text(std::string_view text) {
  return own(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogatepass"));
}

void drop(PyObject* object) noexcept {
#if PY_VERSION_HEX >= 0x030D0000
  if (!Py_IsInitialized() || Py_IsFinalizing()) return;
#else
  if (!Py_IsInitialized() || _Py_IsFinalizing()) return;
#endif
  const nb::gil_scoped_acquire gil;
  Py_DECREF(object);
}

Shared share(nb::object object) {
  return {object.release().ptr(), drop};
}

}  // namespace torchkeep::python
