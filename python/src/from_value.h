// SPDX-License-Identifier: BSD-3-Clause
// Value -> Python objects.
#pragma once

#include <torchkeep/state/value.h>

#include "placed.h"
#include "python.h"

namespace torchkeep::python {

/// The objects torch.load(weights_only=True) would return; objects of other classes become what opaque_maker.h says.
/// Tensors take over the Value's memory, which must be the
/// reader's own and be used for nothing else. `map_location` is torch.load's (None: where it was saved from). `placed`,
/// where given, has what stands in for parts that are still in a file.
nb::object from_value(const Value& value, nb::handle map_location, const Placed* placed = nullptr);

/// The same, to look at names, shapes and dtypes: tensors are on the device "meta", and may be the same object.
nb::object structure_of(const Value& value);

/// The same structure with a torchkeep.TensorInfo for every tensor; needs no PyTorch.
nb::object describe_value(const Value& value);

}  // namespace torchkeep::python
