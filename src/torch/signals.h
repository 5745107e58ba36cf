// SPDX-License-Identifier: BSD-3-Clause
// SIGTERM, SIGINT and SIGUSR1 as requests to stop.
#pragma once

namespace torchkeep {

/// While one of these lives, the three signals only set a flag; handlers that were there before are called too. A
/// second SIGINT has its default effect: it ends the process. A signal that was ignored stays ignored (nohup,
/// background jobs). A forked child gets the signals' earlier effect. When the last one is destroyed, the earlier
/// handlers come back. A handler that was installed over ours meanwhile stays; if it calls the one before it, that one
/// only hands the signal on.
class StopSignals final {
 public:
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  /// The signal that came last since this object was made; 0 when none did.
  int received() const noexcept;

 private:
  int process_;  ///< that made it
  unsigned seen_;
};

}  // namespace torchkeep
