// SPDX-License-Identifier: BSD-3-Clause
// The C++ half of schedulers_test.py: does what lines of JSON say, and prints what came out bit by bit.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include <torchkeep/schedule/lr_scheduler.h>

namespace torchkeep::test {

using Json = nlohmann::json;

/// A Value as JSON: None, bool and int as they are, "f<bits in hex>", "s<text>", and lists that begin with "l" (list),
/// "t" (tuple), "d" (dict) or "c" (Counter).
Json encode(const Value& value);
Value decode(const Json& json);

/// An optimizer of some kind, for as long as one experiment takes.
class World {
 public:
  virtual ~World() = default;
  virtual lr_scheduler::OptimizerRef optimizer() = 0;
  /// The numbers of the groups that schedulers know, as Python's dicts have them.
  virtual std::vector<Value> groups() = 0;
  virtual void load_groups(std::vector<Value> groups) = 0;
  virtual void add_group(Value group) = 0;
  /// Further commands.
  virtual void run(const Json& command, lr_scheduler::Scheduler& /*scheduler*/);
};

/// Makes a world from the name of an optimizer and its groups.
using MakeWorld = std::function<std::unique_ptr<World>(const std::string& optimizer, std::vector<Value> groups)>;

/// A scheduler as its step() wants it.
using AnyScheduler =
    std::variant<lr_scheduler::LRScheduler, lr_scheduler::CosineAnnealingWarmRestarts, lr_scheduler::ReduceLROnPlateau>;

/// Makes the scheduler that `spec` describes: ["StepLR", {"step_size": 3, ...}].
AnyScheduler make_scheduler(const Json& spec, const lr_scheduler::OptimizerRef& optimizer);

/// Reads one experiment a line, writes one line for each.
int run_peer(std::istream& in, std::ostream& out, const MakeWorld& make_world);

}  // namespace torchkeep::test
