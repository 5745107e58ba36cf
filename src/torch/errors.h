// SPDX-License-Identifier: BSD-3-Clause
// The adapter's edge: LibTorch's exceptions become torchkeep's.
#pragma once

#include <c10/util/Exception.h>

#include <torchkeep/base/error.h>
#include <utility>

namespace torchkeep {

/// What LibTorch's exception means to a user of torchkeep, without its backtrace.
Error translate(const c10::Error& error, Where where = {});

/// Runs `work`; a c10::Error it throws leaves as a torchkeep::Error at `where`.
template <class Work>
decltype(auto) at_the_edge(Work&& work, const Where& where = {}) {
  try {
    return std::forward<Work>(work)();
  } catch (const c10::Error& error) {
    throw translate(error, where);
  }
}

}  // namespace torchkeep
