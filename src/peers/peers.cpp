// SPDX-License-Identifier: BSD-3-Clause
// Boards in memory, behind functions, and behind a prefix.
#include <fmt/format.h>
#include <map>
#include <mutex>

#include <torchkeep/peers/peers.h>

#include "checks.h"

namespace torchkeep {
namespace detail {

void require_rank(std::size_t rank, std::size_t world) {
  if (rank < world) return;
  throw Error(Code::invalid_argument, fmt::format("expected a rank below the world size {}, found {}", world, rank));
}

void require_small(const std::string& key, std::string_view value) {
  if (value.size() <= kLargestPeerValue) return;
  throw Error(Code::invalid_argument, fmt::format("expected at most {} bytes for the key '{}' between ranks, found {}",
                                                  kLargestPeerValue, key, value.size()));
}

}  // namespace detail

struct PeerBoard::State {
  std::mutex mutex;
  std::map<std::string, std::string, std::less<>> values;
  std::map<std::string, std::int64_t, std::less<>> counters;
};

class BoardPeers final : public Peers {
 public:
  BoardPeers(PeerBoard::State& state, std::size_t rank, std::size_t world)
      : state_(state), rank_(rank), world_(world) {}
  std::size_t rank() const noexcept override { return rank_; }
  std::size_t world() const noexcept override { return world_; }
  void put(const std::string& key, std::string_view value) override {
    detail::require_small(key, value);
    const std::lock_guard guard(state_.mutex);
    state_.values[key] = value;
  }
  std::optional<std::string> get(const std::string& key) override {
    const std::lock_guard guard(state_.mutex);
    const auto found = state_.values.find(key);
    if (found == state_.values.end()) return std::nullopt;
    return found->second;
  }
  std::int64_t add(const std::string& key, std::int64_t n) override {
    const std::lock_guard guard(state_.mutex);
    return state_.counters[key] += n;
  }

 private:
  PeerBoard::State& state_;
  std::size_t rank_;
  std::size_t world_;
};

PeerBoard::PeerBoard() : state_(std::make_unique<State>()) {}
PeerBoard::~PeerBoard() = default;

std::unique_ptr<Peers> PeerBoard::peers(std::size_t rank, std::size_t world) {
  detail::require_rank(rank, world);
  return std::make_unique<BoardPeers>(*state_, rank, world);
}

namespace {

class CalledPeers final : public Peers {
 public:
  CalledPeers(PeerCalls calls, std::size_t rank, std::size_t world)
      : calls_(std::move(calls)), rank_(rank), world_(world) {}
  std::size_t rank() const noexcept override { return rank_; }
  std::size_t world() const noexcept override { return world_; }
  void put(const std::string& key, std::string_view value) override {
    detail::require_small(key, value);
    calls_.put(key, value);
  }
  std::optional<std::string> get(const std::string& key) override { return calls_.get(key); }
  std::int64_t add(const std::string& key, std::int64_t n) override { return calls_.add(key, n); }

 private:
  PeerCalls calls_;
  std::size_t rank_;
  std::size_t world_;
};

class PrefixPeers final : public Peers {
 public:
  PrefixPeers(Peers& inner, std::string prefix) : inner_(inner), prefix_(std::move(prefix)) {}
  std::size_t rank() const noexcept override { return inner_.rank(); }
  std::size_t world() const noexcept override { return inner_.world(); }
  void put(const std::string& key, std::string_view value) override { inner_.put(prefix_ + key, value); }
  std::optional<std::string> get(const std::string& key) override { return inner_.get(prefix_ + key); }
  std::int64_t add(const std::string& key, std::int64_t n) override { return inner_.add(prefix_ + key, n); }

 private:
  Peers& inner_;
  std::string prefix_;
};

}  // namespace

std::unique_ptr<Peers> peers_from(PeerCalls calls, std::size_t rank, std::size_t world) {
  detail::require_rank(rank, world);
  if (!calls.put || !calls.get || !calls.add) {
    throw Error(Code::invalid_argument, "expected the functions put, get and add for the ranks, found one missing");
  }
  return std::make_unique<CalledPeers>(std::move(calls), rank, world);
}

std::unique_ptr<Peers> with_prefix(Peers& inner, std::string prefix) {
  return std::make_unique<PrefixPeers>(inner, std::move(prefix));
}

}  // namespace torchkeep
