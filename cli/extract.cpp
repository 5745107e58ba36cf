// SPDX-License-Identifier: BSD-3-Clause
// torchkeep extract: one tensor as a NumPy file.
#include <fmt/format.h>

#include <torchkeep/format/npy.h>
#include <torchkeep/state/walk.h>

#include "input.h"
#include "json.h"
#include "target.h"
#include "text.h"
#include "verbs.h"

namespace torchkeep::cli {

int run_extract(Session& session, const ExtractOptions& options) {
  const OpenedCheckpoint opened = open_to_look(options.path);
  const auto part = find_path(opened.value, options.key);
  const Where where = {.file = opened.path, .record = {}, .offset = {}, .key = options.key};
  if (!part) throw Error(Code::not_found, "there is no such part; `torchkeep ls` lists them", where);
  if (!part->is(Kind::tensor)) {
    throw Error(Code::invalid_argument, fmt::format("expected a tensor, found a {}", to_string(part->kind())), where);
  }
  const Tensor& tensor = part->as_tensor();
  const NpyOptions npy{.raw_bits = options.raw_bits};
  Target target(options.output, options.force);
  target.write(plan_npy(tensor, npy), session.progress());
  const DType dtype = npy_dtype(tensor.dtype, npy);
  if (session.json && !target.is_stream()) {
    JsonWriter json(session.out);
    json.begin_document("torchkeep.extract/1");
    json.member("file", opened.path);
    json.member("key", options.key);
    json.member("output", options.output);
    json.member("dtype", to_string(tensor.dtype));
    json.member("npy_dtype", to_string(dtype));
    json.member("shape", tensor.sizes);
    json.end_document();
  } else if (!session.quiet && !target.is_stream()) {
    const std::string written = dtype == tensor.dtype ? "" : fmt::format(" as {}", to_string(dtype));
    session.out.line(fmt::format("{}: {}{}", printable(options.output), one_line(*part), written));
  }
  return kGood;
}

}  // namespace torchkeep::cli
