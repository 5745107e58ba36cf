// SPDX-License-Identifier: BSD-3-Clause
// Files inside a zip, by a path like "agent.zip::policy.pth".
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <torchkeep/base/bytes.h>
#include <torchkeep/format/pt.h>

namespace torchkeep {

/// What `open` opens for `path`. Where there is no such file and the path has a "::", the file before the first one is
/// opened as a zip, and the record whose name follows is read into memory and its CRC checked. Throws what `open` and
/// reading a zip throw; Error (not_found) that lists the records when there is none of that name.
std::shared_ptr<const ReadAt> open_member(const std::string& path,
                                          const std::function<std::shared_ptr<const ReadAt>(const std::string&)>& open,
                                          const Limits& limits = {});

}  // namespace torchkeep
