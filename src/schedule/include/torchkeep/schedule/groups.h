// SPDX-License-Identifier: BSD-3-Clause
// What a scheduler sees of an optimizer: its parameter groups and their numbers.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torchkeep/schedule/number.h>

namespace torchkeep::lr_scheduler {

/// Which number of a group cyclical schedulers move against the learning rate: what Python finds in
/// `optimizer.defaults`, looking for betas first.
enum class MomentumKind : unsigned char { none, momentum, betas };

/// What is remembered about one group so that "construct the scheduler, load the optimizer, load the scheduler" ends
/// the same in every order (a constructor overwrites learning rates). Kept by ParamGroups, empty for a fresh group.
struct GroupMemory {
  using Numbers = std::vector<std::pair<std::string, Number>>;
  std::optional<Numbers> loaded = std::nullopt;       ///< what the last load of the optimizer's state put in
  std::optional<Numbers> constructed = std::nullopt;  ///< what stood there after the last scheduler was constructed
  bool in_use = false;                                ///< a state was loaded into the group, or a scheduler has stepped
};

/// The parameter groups of one optimizer. Implemented for LibTorch's optimizers in <torchkeep/torch.h>; implement it
/// for an optimizer of your own to drive it with these schedulers.
///
/// The keys are Python's: "lr", "momentum", "betas" (meaning betas[0]; the others stay), and those that schedulers add
/// to a group: "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr".
class ParamGroups {
 public:
  virtual ~ParamGroups() = default;

  virtual std::size_t size() const = 0;
  /// The number under `key`, nothing when the group has no such key.
  virtual std::optional<Number> get(std::size_t group, std::string_view key) const = 0;
  virtual void set(std::size_t group, std::string_view key, const Number& value) = 0;
  virtual MomentumKind momentum_kind() const = 0;
  /// The class of the optimizer, for messages: "SGD".
  virtual std::string optimizer_name() const = 0;
  /// The optimizer's address: two views of one optimizer are the same.
  virtual const void* identity() const = 0;
  virtual GroupMemory& memory(std::size_t group) = 0;

  /// To be called after an optimizer's state was loaded into the groups.
  void remember_loaded();
};

/// How an optimizer type becomes ParamGroups; specialised for LibTorch's in <torchkeep/torch.h>:
///   static std::shared_ptr<ParamGroups> bind(O&);
template <class O>
struct BindOptimizer;

/// What the constructors of schedulers take for `optimizer`: an optimizer (which must outlive the scheduler), or
/// ParamGroups.
class OptimizerRef {
 public:
  OptimizerRef(std::shared_ptr<ParamGroups> groups) : groups_(std::move(groups)) {}  // NOLINT: implicit
  template <class O>
  requires requires(O& optimizer) { BindOptimizer<O>::bind(optimizer); }
  OptimizerRef(O& optimizer) : groups_(BindOptimizer<O>::bind(optimizer)) {}  // NOLINT: implicit

  const std::shared_ptr<ParamGroups>& groups() const noexcept { return groups_; }

 private:
  std::shared_ptr<ParamGroups> groups_;
};

}  // namespace torchkeep::lr_scheduler
