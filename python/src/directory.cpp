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

namespace torchkeep::python {
namespace {

nb::list list_directory(const std::string& directory) {
  nb::list list;
  for (const CheckpointInfo& one : list_checkpoints(directory)) {
    list.append(nb::make_tuple(one.step, from_text(one.path), one.pinned));
  }
  return list;
}

std::string find(const std::string& directory, const std::string& name, const std::optional<std::string>& metric,
                 const std::string& best) {
  const nb::gil_scoped_release released;
  if (!metric) return find_checkpoint(directory, name);
  return find_checkpoint(directory, name, BestBy{*metric, best == "max" ? Best::max : Best::min});
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
  module.def("pin", [](const std::string& directory, std::int64_t step) { pin_checkpoint(directory, step); });
  module.def("unpin",
             [](const std::string& directory, std::int64_t step) { return unpin_checkpoint(directory, step); });
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
