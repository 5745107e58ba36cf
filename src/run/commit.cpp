// SPDX-License-Identifier: BSD-3-Clause
// One commit of a checkpoint, and what became of it.
#include "commit.h"

#include <chrono>

#include <torchkeep/checkpoint/commit.h>

#include "places.h"
#include "snapshot.h"

namespace torchkeep {

CommitReport commit(const CheckpointStore& store, const RunOptions& options, const CommitRequest& request,
                    const std::function<void()>& before_commit) {
  CommitReport report{.step = request.step, .path = store.path_of(request.step)};
  const auto begin = std::chrono::steady_clock::now();
  try {
    const auto pending = store.begin(request.step, request.checkpoint, {.durable = options.durable});
    commit(*pending, {.durable = options.durable, .read_back = options.read_back, .before_commit = before_commit});
    report.bytes = pending->size();
  } catch (const Error& error) {
    report.error = error.at(at_file(report.path));
  } catch (const std::bad_alloc&) {
    report.error = Error(Code::io, "not enough memory to save", at_file(report.path));
  } catch (const CalledOff&) {
    report.error = Error(Code::io, "called off", at_file(report.path));
  } catch (const std::exception& error) {
    report.error = Error(Code::io, error.what(), at_file(report.path));
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

}  // namespace torchkeep
