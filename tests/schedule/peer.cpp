// SPDX-License-Identifier: BSD-3-Clause
// Reads experiments, runs them, prints what came out (see peer.h).
#include "peer.h"

#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <iostream>
#include <stdexcept>

namespace torchkeep::test {

using namespace lr_scheduler;

namespace {

Json encode_entries(const char* tag, const Value& mapping) {
  Json list = Json::array({tag});
  for (const Entry& entry : mapping.items()) list.push_back(Json::array({encode(entry.key), encode(entry.value)}));
  return list;
}

Json encode_elements(const char* tag, const Value& sequence) {
  Json list = Json::array({tag});
  for (const Value& element : sequence.elements()) list.push_back(encode(element));
  return list;
}

Value decode_list(const Json& json) {
  const char tag = json.at(0).get<std::string>().at(0);
  if (tag == 'l' || tag == 't') {
    std::vector<Value> elements;
    for (std::size_t i = 1; i < json.size(); ++i) elements.push_back(decode(json[i]));
    return Value::sequence(tag == 'l' ? Kind::list : Kind::tuple, elements);
  }
  Value mapping = Value::mapping(tag == 'd' ? Kind::dict : Kind::counter);
  for (std::size_t i = 1; i < json.size(); ++i) mapping.set(decode(json[i][0]), decode(json[i][1]));
  return mapping;
}

}  // namespace

Json encode(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return nullptr;
    case Kind::boolean:
      return value.as_boolean();
    case Kind::integer:
      return value.to<std::int64_t>();
    case Kind::real:
      return fmt::format("f{:016x}", std::bit_cast<std::uint64_t>(value.as_real()));
    case Kind::string:
      return "s" + value.as_string();
    case Kind::list:
      return encode_elements("l", value);
    case Kind::tuple:
      return encode_elements("t", value);
    case Kind::dict:
      return encode_entries("d", value);
    case Kind::counter:
      return encode_entries("c", value);
    default:
      throw std::runtime_error(fmt::format("no code for a {}", to_string(value.kind())));
  }
}

Value decode(const Json& json) {
  if (json.is_null()) return {};
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_array()) return decode_list(json);
  const std::string text = json.get<std::string>();
  if (text.at(0) == 's') return Value::string(text.substr(1));
  return std::bit_cast<double>(static_cast<std::uint64_t>(std::stoull(text.substr(1), nullptr, 16)));
}

void World::run(const Json& command, Scheduler& /*scheduler*/) {
  throw std::runtime_error("unknown command " + command.dump());
}

namespace {

/// A Python callable object: its attributes are saved.
struct Decaying {
  double decay = 0.5;
  std::int64_t calls = 0;
  double operator()(std::int64_t x) {
    ++calls;
    return std::pow(decay, static_cast<double>(x));
  }
  Value state_dict() const { return Value{{"decay", decay}, {"calls", calls}}; }
  void load_state_dict(const Value& state) {
    decay = state["decay"].to<double>();
    calls = state["calls"].to<std::int64_t>();
  }
};

LrLambda function(const std::string& name) {
  if (name == "power") return [](std::int64_t x) { return std::pow(0.95, static_cast<double>(x)); };
  if (name == "thirds") return [](std::int64_t x) { return x / 3; };
  if (name == "halves") return [](std::int64_t x) { return x % 2 == 0 ? Number(1) : Number(0.5); };
  if (name == "warmup") return [](std::int64_t x) { return x < 10 ? static_cast<double>(x + 1) / 10.0 : 1.0; };
  if (name == "constant") return [](std::int64_t) { return 0.97; };
  if (name == "decaying") return Decaying{};
  throw std::runtime_error("no function " + name);
}

LRScheduler as_lr_scheduler(const AnyScheduler& scheduler) {
  if (const auto* restarts = std::get_if<CosineAnnealingWarmRestarts>(&scheduler)) return *restarts;
  return std::get<LRScheduler>(scheduler);
}

/// The arguments of one spec; each is taken out, so that a misspelt one is noticed.
class Arguments {
 public:
  explicit Arguments(Json json) : json_(std::move(json)) {}

  template <class T, class Read>
  T take(const char* name, T fallback, Read read) {
    if (!json_.contains(name)) return fallback;
    const Json value = json_.at(name);
    json_.erase(name);
    return read(value);
  }
  Number number(const char* name, Number fallback) {
    return take(name, fallback, [](const Json& json) { return decode(json).to<Number>(); });
  }
  std::optional<Number> optional_number(const char* name) {
    return take(name, std::optional<Number>(),
                [](const Json& json) { return decode(json).to<std::optional<Number>>(); });
  }
  std::int64_t integer(const char* name, std::int64_t fallback) {
    return take(name, fallback, [](const Json& json) { return json.get<std::int64_t>(); });
  }
  std::optional<std::int64_t> optional_integer(const char* name) {
    return take(name, std::optional<std::int64_t>(), [](const Json& json) {
      return json.is_null() ? std::nullopt : std::optional(json.get<std::int64_t>());
    });
  }
  bool boolean(const char* name, bool fallback) {
    return take(name, fallback, [](const Json& json) { return json.get<bool>(); });
  }
  std::string text(const char* name, const std::string& fallback) {
    return take(name, fallback, [](const Json& json) { return json.get<std::string>().substr(1); });
  }
  PerGroup per_group(const char* name, const PerGroup& fallback) {
    return take(name, fallback, [](const Json& json) {
      const Value value = decode(json);
      return value.is(Kind::list) ? PerGroup(value.to<Numbers>()) : PerGroup(value.to<Number>());
    });
  }
  NumberList list(const char* name) {
    return take(name, NumberList(Numbers()), [](const Json& json) { return decode(json).to<Numbers>(); });
  }
  LrLambdas functions(const char* name) {
    return take(name, LrLambdas(std::vector<LrLambda>()), [](const Json& json) -> LrLambdas {
      if (json.is_string()) return function(json);
      std::vector<LrLambda> list;
      for (const Json& one : json) list.push_back(function(one));
      return list;
    });
  }
  std::vector<LRScheduler> schedulers(const OptimizerRef& optimizer) {
    std::vector<LRScheduler> list;
    const Json specs = json_.at("schedulers");
    json_.erase("schedulers");
    for (const Json& spec : specs) {
      list.push_back(as_lr_scheduler(make_scheduler(spec, optimizer)));
    }
    return list;
  }
  std::int64_t last_epoch() { return integer("last_epoch", -1); }

  void done() const {
    if (!json_.empty()) throw std::runtime_error("unknown arguments " + json_.dump());
  }

 private:
  Json json_;
};

const PerGroup required_list{Numbers()};

AnyScheduler make_cycle(const std::string& name, Arguments& a, const OptimizerRef& o) {
  if (name == "CyclicLR") {
    CyclicLROptions options{.base_lr = a.per_group("base_lr", required_list),
                            .max_lr = a.per_group("max_lr", required_list)};
    options.step_size_up = a.number("step_size_up", options.step_size_up);
    options.step_size_down = a.optional_number("step_size_down");
    options.mode = a.text("mode", options.mode);
    options.gamma = a.number("gamma", options.gamma);
    const LrLambdas scale = a.functions("scale_fn");
    if (!scale.functions().empty()) options.scale_fn = scale.functions().front();
    options.scale_mode = a.text("scale_mode", options.scale_mode);
    options.cycle_momentum = a.boolean("cycle_momentum", options.cycle_momentum);
    options.base_momentum = a.per_group("base_momentum", options.base_momentum);
    options.max_momentum = a.per_group("max_momentum", options.max_momentum);
    options.last_epoch = a.last_epoch();
    return CyclicLR(o, options);
  }
  if (name == "OneCycleLR") {
    OneCycleLROptions options{.max_lr = a.per_group("max_lr", required_list)};
    options.total_steps = a.optional_integer("total_steps");
    options.epochs = a.optional_integer("epochs");
    options.steps_per_epoch = a.optional_integer("steps_per_epoch");
    options.pct_start = a.number("pct_start", options.pct_start).to_double();
    options.anneal_strategy = a.text("anneal_strategy", options.anneal_strategy);
    options.cycle_momentum = a.boolean("cycle_momentum", options.cycle_momentum);
    options.base_momentum = a.per_group("base_momentum", options.base_momentum);
    options.max_momentum = a.per_group("max_momentum", options.max_momentum);
    options.div_factor = a.number("div_factor", options.div_factor);
    options.final_div_factor = a.number("final_div_factor", options.final_div_factor);
    options.three_phase = a.boolean("three_phase", options.three_phase);
    options.last_epoch = a.last_epoch();
    return OneCycleLR(o, options);
  }
  if (name == "SWALR") {
    SWALROptions options{.swa_lr = a.per_group("swa_lr", required_list)};
    options.anneal_epochs = a.integer("anneal_epochs", options.anneal_epochs);
    options.anneal_strategy = a.text("anneal_strategy", options.anneal_strategy);
    options.last_epoch = a.last_epoch();
    return SWALR(o, options);
  }
  if (name == "ReduceLROnPlateau") {
    ReduceLROnPlateauOptions options;
    options.mode = a.text("mode", options.mode);
    options.factor = a.number("factor", options.factor);
    options.patience = a.number("patience", options.patience);
    options.threshold = a.number("threshold", options.threshold);
    options.threshold_mode = a.text("threshold_mode", options.threshold_mode);
    options.cooldown = a.number("cooldown", options.cooldown);
    options.min_lr = a.per_group("min_lr", options.min_lr);
    options.eps = a.number("eps", options.eps);
    return ReduceLROnPlateau(o, options);
  }
  throw std::runtime_error("no scheduler " + name);
}

// The elements of a braced list are evaluated in order, and so the arguments are taken in order.
AnyScheduler make(const std::string& name, Arguments& a, const OptimizerRef& o) {
  if (name == "LambdaLR") return LambdaLR(o, {a.functions("lr_lambda"), a.last_epoch()});
  if (name == "MultiplicativeLR") return MultiplicativeLR(o, {a.functions("lr_lambda"), a.last_epoch()});
  if (name == "StepLR") return StepLR(o, {a.number("step_size", 0), a.number("gamma", 0.1), a.last_epoch()});
  if (name == "MultiStepLR") return MultiStepLR(o, {a.list("milestones"), a.number("gamma", 0.1), a.last_epoch()});
  if (name == "ConstantLR") {
    const ConstantLROptions d;
    return ConstantLR(o, {a.number("factor", d.factor), a.number("total_iters", d.total_iters), a.last_epoch()});
  }
  if (name == "LinearLR") {
    const LinearLROptions d;
    return LinearLR(o, {a.number("start_factor", d.start_factor), a.number("end_factor", d.end_factor),
                        a.number("total_iters", d.total_iters), a.last_epoch()});
  }
  if (name == "ExponentialLR") return ExponentialLR(o, {a.number("gamma", 0), a.last_epoch()});
  if (name == "PolynomialLR") {
    const PolynomialLROptions d;
    return PolynomialLR(o, {a.number("total_iters", d.total_iters), a.number("power", d.power), a.last_epoch()});
  }
  if (name == "CosineAnnealingLR") {
    return CosineAnnealingLR(o, {a.number("T_max", 0), a.number("eta_min", 0.0), a.last_epoch()});
  }
  if (name == "CosineAnnealingWarmRestarts") {
    return CosineAnnealingWarmRestarts(
        o, {a.integer("T_0", 0), a.integer("T_mult", 1), a.number("eta_min", 0.0), a.last_epoch()});
  }
  if (name == "SequentialLR") {
    return SequentialLR(o, {a.schedulers(o), a.list("milestones"), a.last_epoch()});
  }
  if (name == "ChainedScheduler") return ChainedScheduler(a.schedulers(o));
  return make_cycle(name, a, o);
}

void step(AnyScheduler& any, const Json& command) {
  const bool plain = command.size() == 1;
  if (auto* plateau = std::get_if<ReduceLROnPlateau>(&any)) {
    const double metric = decode(command.at(1)).to<double>();
    if (command.size() == 2) return plateau->step(metric);
    return plateau->step(metric, command.at(2).get<std::int64_t>());
  }
  if (auto* restarts = std::get_if<CosineAnnealingWarmRestarts>(&any)) {
    if (plain) return restarts->step();
    const Number epoch = decode(command.at(1)).to<Number>();
    return epoch.is_integer() ? restarts->step(epoch.integer()) : restarts->step(epoch.to_double());
  }
  auto& scheduler = std::get<LRScheduler>(any);
  return plain ? scheduler.step() : scheduler.step(command.at(1).get<std::int64_t>());
}

class Experiment {
 public:
  Experiment(const Json& json, const MakeWorld& make_world) : json_(json) {
    std::vector<Value> groups;
    for (const Json& group : json.at("groups")) groups.push_back(decode(group));
    world_ = make_world(json.at("optimizer"), groups);
  }

  Json run() {
    Json records = Json::array();
    try {
      // "before" runs between the optimizer's and the scheduler's construction.
      for (const Json& command : json_.value("before", Json::array())) execute(command);
      scheduler_ = make_scheduler(json_.at("scheduler"), world_->optimizer());
      records.push_back(record(json_.at("compact")));
      for (const Json& command : json_.at("commands")) {
        execute(command);
        records.push_back(record(json_.at("compact")));
      }
      records.push_back(record(false));
    } catch (const Error& error) {
      records.push_back(Json::array({"error", std::string(to_string(error.code())), error.what()}));
    }
    return records;
  }

 private:
  void execute(const Json& command) {
    const std::string verb = command.at(0);
    if (verb == "step")
      step(*scheduler_, command);
    else if (verb == "set_lr")
      set_lr(command.at(1).get<std::size_t>(), decode(command.at(2)));
    else if (verb == "load_scheduler")
      base().load_state_dict(decode(command.at(1)));
    else if (verb == "load_groups")
      load_groups(command.at(1));
    else if (verb == "add_group")
      world_->add_group(decode(command.at(1)));
    else
      world_->run(command, base());
  }

  Scheduler& base() {
    return std::visit([](auto& scheduler) -> Scheduler& { return scheduler; }, *scheduler_);
  }

  void set_lr(std::size_t group, const Value& lr) { world_->optimizer().groups()->set(group, "lr", lr.to<Number>()); }

  void load_groups(const Json& json) {
    const Value groups = decode(json);
    world_->load_groups({groups.elements().begin(), groups.elements().end()});
  }

  Json record(bool compact) {
    Json groups = Json::array();
    for (const Value& group : world_->groups()) {
      if (!compact)
        groups.push_back(encode(group));
      else
        groups.push_back(Json::array({encode(group["lr"]), encode(group.get("momentum", group.get("betas", {})))}));
    }
    const Value state = base().state_dict();
    if (compact) return Json::array({groups, encode(state["_last_lr"])});
    return Json::array({groups, encode(state), encode(base().get_last_lr())});
  }

  Json json_;
  std::unique_ptr<World> world_;
  std::optional<AnyScheduler> scheduler_;
};

}  // namespace

AnyScheduler make_scheduler(const Json& spec, const OptimizerRef& optimizer) {
  Arguments arguments(spec.at(1));
  AnyScheduler scheduler = make(spec.at(0), arguments, optimizer);
  arguments.done();
  return scheduler;
}

int run_peer(std::istream& in, std::ostream& out, const MakeWorld& make_world) {
  for (std::string line; std::getline(in, line);) out << Experiment(Json::parse(line), make_world).run().dump() << "\n";
  return 0;
}

}  // namespace torchkeep::test
