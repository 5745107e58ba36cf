// SPDX-License-Identifier: BSD-3-Clause
// The stream that torch.save wrote from PyTorch 0.1.10 to 1.5 (and later on request).
//
//   +--------------------------------+
//   | pickle: 0x1950a86a20f9469cfc6c |  the magic number, a 10-byte int
//   | pickle: 1001                   |  version of this layout
//   | pickle: {'little_endian': ...} |  about the writing machine; the data are little-endian all the same
//   | pickle: the object             |  storages are persistent ids ('storage', class, key, location, numel, view)
//   | pickle: [key, ...]             |  keys of the storages, sorted as text
//   +--------------------------------+
//   | i64 numel                      |  for each key in this order, in elements of the storage's class
//   | numel elements                 |
//   +--------------------------------+  x n
//
// There are no lengths and no checksums: a pickle ends with its STOP, a storage where its numel says.
// Before 0.4 a storage could be a view of another: `view` is then (key, first element, number of elements).
#pragma once

#include <memory>

#include <torchkeep/format/pt.h>

namespace torchkeep::legacy {

/// Whether the file begins with a pickle of the magic number.
bool is_stream(const ReadAt& file);

/// `depth` counts files inside files, which pickle.dump of a tensor makes.
OpenedFile read_stream(std::shared_ptr<const ReadAt> file, const PtReadOptions& options, int depth);

}  // namespace torchkeep::legacy
