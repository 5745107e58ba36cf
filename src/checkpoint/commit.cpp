// SPDX-License-Identifier: BSD-3-Clause
// The steps, in their order.
#include <torchkeep/checkpoint/commit.h>

namespace torchkeep {

void commit(PendingCheckpoint& pending, const CommitSteps& steps) {
  pending.write(steps.on_progress);                // 2
  if (steps.durable) pending.sync();               // 3
  if (steps.read_back) pending.read_back();        // 4
  if (steps.before_commit) steps.before_commit();  // 5
  pending.publish();                               // 6, 7
}

}  // namespace torchkeep
