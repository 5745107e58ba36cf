// SPDX-License-Identifier: BSD-3-Clause
// Memory of PyTorch's.
#include "storages.h"

#include <cstring>
#include <fmt/format.h>

namespace torchkeep::python {

Keep::~Keep() {
#if PY_VERSION_HEX >= 0x030D0000
  if (!Py_IsInitialized() || Py_IsFinalizing()) return;
#else
  if (!Py_IsInitialized() || _Py_IsFinalizing()) return;
#endif
  const nb::gil_scoped_acquire gil;
  for (PyObject* object : objects_) Py_DECREF(object);
}

void TorchStorage::read(std::uint64_t offset, MutableBytes out) const {
  if (offset > nbytes_ || out.size() > nbytes_ - offset) {
    throw Error(Code::invalid_argument,
                fmt::format("bytes [{}, +{}) lie outside a storage of {} bytes", offset, out.size(), nbytes_));
  }
  if (!out.empty()) std::memcpy(out.data(), data_ + offset, out.size());
}

}  // namespace torchkeep::python
