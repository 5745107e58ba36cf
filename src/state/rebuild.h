// SPDX-License-Identifier: BSD-3-Clause
// A Value from another, with other tensors.
#pragma once

#include <functional>

#include <torchkeep/state/value.h>

namespace torchkeep::detail {

/// Gets every dense tensor of the Value, those in sparse tensors and quantizers included.
using TensorChange = std::function<void(Tensor&)>;

/// A copy of all containers, sharing what was shared, whose tensors went through `change`.
Value rebuild(const Value& value, const TensorChange& change);

}  // namespace torchkeep::detail
