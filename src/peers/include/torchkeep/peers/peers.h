// SPDX-License-Identifier: BSD-3-Clause
// How the processes of one training find each other: a small board on which every rank can write and read. Nothing else
// coordinates them; no call waits for another rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <torchkeep/files/fs.h>

namespace torchkeep {

/// The largest value that put() takes: a store of c10d drops the connection for values over 8 MiB.
inline constexpr std::size_t kLargestPeerValue = std::size_t{4} << 20;

/// One rank's view of the board. Keys are short ASCII, values any bytes. What put() returned from is seen by every
/// get() that begins later, on whatever rank. Safe to use from several threads. Errors are Error (io), or what the
/// implementation throws.
class Peers {
 public:
  Peers() = default;
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;
  virtual ~Peers() = default;

  /// This process's number, from 0 to world() - 1.
  virtual std::size_t rank() const noexcept = 0;
  /// Number of processes.
  virtual std::size_t world() const noexcept = 0;

  /// Sets the value of a key, replacing what is there. At most kLargestPeerValue bytes.
  virtual void put(const std::string& key, std::string_view value) = 0;
  /// The value of a key; nothing when it has none (yet).
  virtual std::optional<std::string> get(const std::string& key) = 0;
  /// Adds to a counter that begins at 0, and returns a sum that includes this and every addition that ended before this
  /// call began. Counters and values have keys of their own.
  virtual std::int64_t add(const std::string& key, std::int64_t n) = 0;
};

/// A board in a folder: for processes that share a file system and no network, and for tests. The folder is created
/// when missing; it must be used by one training at one time only, and begin empty. Every value is a file.
/// Throws Error (invalid_argument) unless rank < world.
std::unique_ptr<Peers> folder_peers(Fs& fs, const std::string& folder, std::size_t rank, std::size_t world);

/// A board in memory, for ranks that are threads of one process.
class PeerBoard {
 public:
  PeerBoard();
  PeerBoard(const PeerBoard&) = delete;
  PeerBoard& operator=(const PeerBoard&) = delete;
  ~PeerBoard();
  /// Must not outlive the board. Throws Error (invalid_argument) unless rank < world.
  std::unique_ptr<Peers> peers(std::size_t rank, std::size_t world);

 private:
  friend class BoardPeers;
  struct State;
  std::unique_ptr<State> state_;
};

/// What another language or library does for a rank: the calls of Peers as functions.
struct PeerCalls {
  std::function<void(const std::string& key, std::string_view value)> put;
  std::function<std::optional<std::string>(const std::string& key)> get;
  std::function<std::int64_t(const std::string& key, std::int64_t n)> add;
};
/// Throws Error (invalid_argument) unless rank < world and every call is there.
std::unique_ptr<Peers> peers_from(PeerCalls calls, std::size_t rank, std::size_t world);

/// The same board with `prefix` before every key, so that what uses it does not meet others there. `inner` must
/// outlive it.
std::unique_ptr<Peers> with_prefix(Peers& inner, std::string prefix);

}  // namespace torchkeep
