// SPDX-License-Identifier: BSD-3-Clause
// How long work tells its caller how far it is, and is ended by him.
#pragma once

#include <cstdint>
#include <functional>

namespace torchkeep {

/// Told of the bytes done and the bytes in all, about once per MiB or more. What it throws ends the work and comes out
/// of the call.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

}  // namespace torchkeep
