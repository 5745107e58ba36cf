// SPDX-License-Identifier: BSD-3-Clause
// The state of LibTorch's random generators.
#pragma once

#include <ATen/core/Generator.h>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// The state of the default generators: {"torch": uint8 tensor}, what torch.get_rng_state() returns, and, when there
/// are CUDA devices, "cuda": a list with one tensor per device, what torch.cuda.get_rng_state_all() returns.
Value rng_state();

/// How to load generator states.
struct RngLoadOptions {
  /// Accept a file with states of another number of CUDA devices: those that exist on both sides are set.
  bool any_devices = false;
};

/// Sets the default generators. All of `value` is checked first; throws Error (mismatch) for a state that is no
/// generator's and for another number of CUDA devices, (corrupt) for one the generator refuses; then nothing was set.
void load_rng_state(const Value& value, const RngLoadOptions& options = {});

/// The state of one generator, a uint8 tensor: Generator.get_state() of Python.
Value rng_state(const at::Generator& generator);
/// Sets one generator. Throws Error: mismatch (no uint8 vector), corrupt (refused by the generator).
void load_rng_state(at::Generator& generator, const Value& value);

}  // namespace torchkeep
