// SPDX-License-Identifier: BSD-3-Clause
// The adapter's edge: LibTorch's exceptions become torchkeep's.
#pragma once

#include <utility>

#include <c10/util/Exception.h>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// What LibTorch's exception means to a user of torchkeep, without its backtrace.
Error translate(const c10::Error& error);

/// Runs `work`; a c10::Error it throws leaves as a torchkeep::Error.
template <class Work>
decltype(auto) at_the_edge(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const c10::Error& error) {
    throw translate(error);
  }
}

/// The same; every Error names the place of `value`.
template <class Work>
decltype(auto) placed(const Value& value, Work&& work) {
  try {
    return at_the_edge(std::forward<Work>(work));
  } catch (const Error& error) {
    throw error.at(value.where());
  }
}

}  // namespace torchkeep
