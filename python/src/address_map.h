// SPDX-License-Identifier: BSD-3-Clause
// A hash table by address, without an allocation for each entry: nanobind's own.
#pragma once

#include <cstdint>
#include <tsl/robin_map.h>

namespace torchkeep::python {

struct AddressHash {
  // The table looks at the low bits, which of an address are zero.
  std::size_t operator()(const void* address) const noexcept {
    return (reinterpret_cast<std::uintptr_t>(address) * 0x9e3779b97f4a7c15) >> 32;
  }
};

template <class T>
using AddressMap = tsl::robin_map<const void*, T, AddressHash>;

}  // namespace torchkeep::python
