// SPDX-License-Identifier: BSD-3-Clause
// What a run directory holds, and the sampler of a run.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <torchkeep/data/sampler.h>
#include <torchkeep/run/checkpoints.h>

#include "files.h"
#include "from_value.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

nb::list list_directory(nb::handle directory) {
  nb::list list;
  for (const CheckpointInfo& one : list_checkpoints(to_path(directory))) {
    list.append(nb::make_tuple(one.step, from_path(one.path), one.pinned));
  }
  return list;
}

nb::object find(nb::handle in, const std::string& name, const std::optional<std::string>& metric,
                const std::string& best) {
  const std::string directory = to_path(in);
  std::optional<BestBy> by;
  if (metric) by = BestBy{*metric, best == "max" ? Best::max : Best::min};
  return from_path(without_gil([&] { return find_checkpoint(directory, name, by); }));
}

ResumableSampler make_sampler(std::uint64_t size, bool shuffle, std::uint64_t seed, std::uint64_t shard,
                              std::uint64_t shards, bool drop_uneven) {
  return ResumableSampler(
      size, {.shuffle = shuffle, .seed = seed, .shard = shard, .shards = shards, .drop_uneven = drop_uneven});
}

}  // namespace

void bind_directory(nb::module_& module) {
  module.def("list_checkpoints", &list_directory);
  module.def("find_checkpoint", &find, nb::arg("directory"), nb::arg("name"), nb::arg("metric").none(),
             nb::arg("best"));
  module.def("pin", [](nb::handle directory, std::int64_t step) { pin_checkpoint(to_path(directory), step); });
  module.def("unpin",
             [](nb::handle directory, std::int64_t step) { return unpin_checkpoint(to_path(directory), step); });
}

void bind_sampler(nb::module_& module) {
  nb::class_<ResumableSampler>(module, "Sampler")
      .def(nb::new_(&make_sampler), nb::arg("size"), nb::arg("shuffle"), nb::arg("seed"), nb::arg("shard"),
           nb::arg("shards"), nb::arg("drop_uneven"))
      .def("reset", &ResumableSampler::reset)
      .def("take_one",
           [](ResumableSampler& sampler) -> std::optional<std::size_t> {
             const auto next = sampler.next(1);
             return next ? std::optional(next->front()) : std::nullopt;
           })
      .def("advance", &ResumableSampler::advance)
      .def("take", &ResumableSampler::take)
      .def_prop_ro("epoch", &ResumableSampler::epoch)
      .def_prop_ro("remaining", &ResumableSampler::remaining)
      .def_prop_ro("size", &ResumableSampler::size)
      .def_prop_ro("is_unattended", &ResumableSampler::is_unattended)
      .def("state_dict", [](const ResumableSampler& sampler) { return describe_value(sampler.state_dict()); })
      .def("load_state_dict",
           [](ResumableSampler& sampler, nb::handle state) { sampler.load_state_dict(to_value(state)); });
}

}  // namespace torchkeep::python
