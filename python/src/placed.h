// SPDX-License-Identifier: BSD-3-Clause
// What stands in for parts of a Value that are still in a file.
#pragma once

#include <torchkeep/state/storage.h>

#include "address_map.h"
#include "python.h"

namespace torchkeep::python {

struct Placed {
  AddressMap<PyObject*> tensors;    ///< by Value::id(): the live tensor that has the bytes
  AddressMap<StoragePtr> storages;  ///< by Storage::identity(): the same bytes in memory
};

}  // namespace torchkeep::python
