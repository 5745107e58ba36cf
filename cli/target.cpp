// SPDX-License-Identifier: BSD-3-Clause
// Writing to a path or to standard output.
#include "target.h"

#include <unistd.h>

#include <torchkeep/checkpoint/export.h>
#include <torchkeep/files/fs.h>
#include <torchkeep/files/publish.h>

#include "output.h"

namespace torchkeep::cli {

Target::Target(std::string path, bool force) : path_(std::move(path)) {
  const Where where = {.file = path_, .record = {}, .offset = {}, .key = {}};
  if (is_stream()) {
    if (isatty(1) == 1) throw Error(Code::invalid_argument, "the output is a file; it is not written to a terminal");
  } else if (!force && posix_fs().status(path_)) {
    throw Error(Code::invalid_argument, "the file exists; --force replaces it", where);
  }
}

void Target::write(Plan plan) const {
  if (!is_stream()) return save_plan(std::move(plan), path_);
  Output out;
  stream_plan(std::move(plan), [&out](Bytes bytes) { out.write(as_text(bytes)); });
  out.flush();
}

void Target::write(const std::string& text) const {
  if (!is_stream()) return publish(posix_fs(), path_, as_bytes(text));
  Output out;
  out.write(text);
  out.flush();
}

}  // namespace torchkeep::cli
