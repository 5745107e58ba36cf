// SPDX-License-Identifier: BSD-3-Clause
// A BlockQueue over io_uring, direct I/O and one ring of large pages per process.
#pragma once

#include <memory>

#include "posix.h"
#include "ring_file.h"

namespace torchkeep::posix {

/// A queue for a file opened with O_DIRECT; null where the system has no io_uring or forbids it (many containers do).
/// The ring of a finished queue is kept for the next one of the process; a forked child gets its own.
std::unique_ptr<BlockQueue> make_uring_queue(Descriptor direct_file) noexcept;

}  // namespace torchkeep::posix
