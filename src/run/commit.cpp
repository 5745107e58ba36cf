// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint becomes one: its rename, which publish() does last, is the commit.
#include "commit.h"

#include <chrono>

#include <torchkeep/checkpoint/checkpoint.h>

#include "places.h"
#include "snapshot.h"

namespace torchkeep {

CommitReport commit(Fs& fs, const RunOptions& options, const CommitRequest& request,
                    const std::function<void()>& consent) {
  CommitReport report{.step = request.step, .path = request.path};
  const auto begin = std::chrono::steady_clock::now();
  try {
    save(request.checkpoint, request.path,
         {.durable = options.durable,
          .read_back = options.read_back,
          .fs = &fs,
          .consent = consent,
          .replace_link = true});
    if (const auto status = fs.status(request.path)) report.bytes = status->size;
  } catch (const Error& error) {
    report.error = error.at(at_file(request.path));
  } catch (const std::bad_alloc&) {
    report.error = Error(Code::io, "not enough memory to save", at_file(request.path));
  } catch (const CalledOff&) {
    report.error = Error(Code::io, "called off", at_file(request.path));
  } catch (const std::exception& error) {
    report.error = Error(Code::io, error.what(), at_file(request.path));
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace torchkeep
