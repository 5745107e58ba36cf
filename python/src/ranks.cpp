// SPDX-License-Identifier: BSD-3-Clause
// The ranks of a training, whose board is a store of torch.distributed: Python functions.
#include <map>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <torchkeep/ranks/group.h>
#include <torchkeep/run/sharded.h>
#include <torchkeep/state/rewrite.h>

#include "errors.h"
#include "files.h"
#include "from_value.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

/// Calls a function of the store, from whatever thread.
template <class Work>
auto of_store(Work work) {
  const nb::gil_scoped_acquire gil;
  try {
    return work();
  } catch (nb::python_error& caught) {
    throw error_from_python(caught, Code::io);
  }
}

nb::bytes bytes_of(std::string_view value) {
  return nb::bytes(value.data(), value.size());
}

std::string string_of(const nb::handle& value) {
  const auto bytes = nb::cast<nb::bytes>(value);
  return {bytes.c_str(), bytes.size()};
}

PeerCalls calls_of(const nb::object& store) {
  const Shared put = share(store.attr("put")), get = share(store.attr("get")), add = share(store.attr("add"));
  return {.put = [put](const std::string& key,
                       std::string_view value) { of_store([&] { nb::handle(put.get())(key, bytes_of(value)); }); },
          .get =
              [get](const std::string& key) {
                return of_store([&]() -> std::optional<std::string> {
                  const nb::object value = nb::handle(get.get())(key);
                  if (value.is_none()) return std::nullopt;
                  return string_of(value);
                });
              },
          .add =
              [add](const std::string& key, std::int64_t n) {
                return of_store([&] { return nb::cast<std::int64_t>(nb::handle(add.get())(key, n)); });
              }};
}

/// Where a part of a tensor lies in the whole, by its key path: (path, sizes of the whole, offset, ranks that hold it).
using PlacedParts = std::vector<
    std::tuple<std::string, std::vector<std::int64_t>, std::vector<std::int64_t>, std::vector<std::int64_t>>>;

/// The state with these tensors as parts.
Value with_shards(const Value& state, const PlacedParts& parts) {
  std::map<std::string, std::shared_ptr<const Shard>> shards;
  for (const auto& [path, global, offset, replicas] : parts) {
    shards[path] = std::make_shared<const Shard>(Shard{.global = global, .offset = offset, .replicas = replicas});
  }
  return rewrite(state, [&](const Visit& visit) -> Edit {
    const auto shard = visit.value.is(Kind::tensor) ? shards.find(visit.place.text()) : shards.end();
    if (shard == shards.end()) return {};
    Tensor part = visit.value.as_tensor();
    part.shard = shard->second;
    return {.what = Edit::What::replace, .value = Value(std::move(part))};
  });
}

class PyRanks {
 public:
  PyRanks(const nb::object& store, std::size_t rank, std::size_t world, std::string host, double warn_after,
          double give_up_after) {
    auto board = peers_from(calls_of(store), rank, world);
    without_gil([&] {
      group_ = std::make_unique<RankGroup>(
          std::move(board), RankGroup::Options{.host = std::move(host),
                                               .deadlines = {.warn_after = warn_after, .give_up_after = give_up_after},
                                               .while_waiting = look_for_signals});
    });
  }
  ~PyRanks() { close(); }
  PyRanks(const PyRanks&) = delete;
  PyRanks& operator=(const PyRanks&) = delete;

  /// That every rank found the same checkpoint: its step and what tells it from another of that step. `error`: why this
  /// rank found none.
  void agree(std::optional<std::int64_t> step, const std::string& token, const std::optional<std::string>& error) {
    std::optional<CheckpointId> found;
    if (step) found = CheckpointId{*step, token};
    const auto work = [&](const RankAction& action) {
      RankAnswer answer;
      if (error) answer.error = Error(Code::io, *error);
      if (action.work == RankWork::load && !error && action.checkpoint != found) {
        answer.error = Error(Code::not_found, "another checkpoint");
      }
      answer.checkpoint = found;
      return answer;
    };
    without_gil([&] { group().resume(work); });
  }
  void watch(std::int64_t step) { group().watch(step); }
  void wish_to_stop(const std::string& reason) {
    if (group_ != nullptr) group_->wish(MeetPurpose::stop, reason);
  }
  void wish_to_save(const std::string& reason) { group().wish(MeetPurpose::save, reason); }
  /// None, or the purpose of the meeting and its reason.
  nb::object reached(std::int64_t step) {
    const auto meeting = without_gil([&] { return group().reached(step); });
    if (!meeting) return nb::none();
    return nb::make_tuple(meeting->purpose == MeetPurpose::stop ? "stop" : "save", meeting->reason);
  }
  void put(const std::string& key, const nb::bytes& value) {
    const std::string copy(value.c_str(), value.size());
    without_gil([&] { group().peers().put(key, copy); });
  }
  /// Waits for a value of `key` that begins with `prefix`.
  nb::bytes await_value(const std::string& key, const nb::bytes& prefix, const std::string& what) {
    const std::string begin(prefix.c_str(), prefix.size());
    const std::string value = without_gil([&] {
      return group().await(
          key, [&](const std::string& there) { return there.starts_with(begin); }, what);
    });
    return bytes_of(value);
  }
  /// Saves with all other ranks, each of which has its parts of the tensors.
  void save(nb::handle object, nb::handle folder, const PlacedParts& parts, bool durable, nb::object stand_in) {
    const Value state =
        with_shards(to_value(object, {.stand_in = std::move(stand_in), .device_copies = device_copies()}), parts);
    const std::string path = to_path(folder);
    without_gil([&] { save_sharded({state, {}}, path, group(), {.save = {.durable = durable, .read_back = true}}); });
  }
  /// What is in the folder, with the parts that `like` has.
  nb::object load(nb::handle like, nb::handle folder, const PlacedParts& parts) {
    const Value wanted = with_shards(to_value(like), parts);
    const std::string path = to_path(folder);
    LoadOptions options;
    options.keep_builtin_classes = true;
    const Value loaded = without_gil([&] { return load_sharded(path, wanted, group(), options); });
    return from_value(loaded, nb::str("cpu"));
  }
  std::string describe(std::size_t rank) { return group().describe(rank); }
  std::vector<std::string> messages() { return group().messages(); }
  void close() {
    std::unique_ptr<RankGroup> last = std::move(group_);
    if (last != nullptr) without_gil([&] { last.reset(); });
  }

 private:
  RankGroup& group() {
    if (group_ == nullptr) throw Error(Code::invalid_argument, "this run is closed");
    return *group_;
  }
  std::unique_ptr<RankGroup> group_;
};

}  // namespace

void bind_ranks(nb::module_& module) {
  nb::class_<PyRanks>(module, "Ranks")
      .def(nb::init<const nb::object&, std::size_t, std::size_t, std::string, double, double>(), nb::arg("store"),
           nb::arg("rank"), nb::arg("world"), nb::arg("host"), nb::arg("warn_after"), nb::arg("give_up_after"))
      .def("agree", &PyRanks::agree, nb::arg("step").none(), nb::arg("token"), nb::arg("error").none())
      .def("watch", &PyRanks::watch, nb::arg("step"))
      .def("wish_to_stop", &PyRanks::wish_to_stop, nb::arg("reason"))
      .def("wish_to_save", &PyRanks::wish_to_save, nb::arg("reason"))
      .def("reached", &PyRanks::reached, nb::arg("step"))
      .def("put", &PyRanks::put, nb::arg("key"), nb::arg("value"))
      .def("await_value", &PyRanks::await_value, nb::arg("key"), nb::arg("prefix"), nb::arg("what"))
      .def("save", &PyRanks::save, nb::arg("object").none(), nb::arg("folder"), nb::arg("parts"), nb::arg("durable"),
           nb::arg("stand_in"))
      .def("load", &PyRanks::load, nb::arg("like").none(), nb::arg("folder"), nb::arg("parts"))
      .def("describe", &PyRanks::describe, nb::arg("rank"))
      .def("messages", &PyRanks::messages)
      .def("close", &PyRanks::close);
}

}  // namespace torchkeep::python
