// SPDX-License-Identifier: BSD-3-Clause
// What the parts of a checkpoint are for: model, optimizer, scheduler, generators, data position.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// What an entry of a checkpoint holds, recognised by its form first and by its key where the form does not say.
enum class Section : std::uint8_t {
  model,       ///< names to tensors, also nested; an average of weights too
  optimizer,   ///< "state" and "param_groups", as torch.optim writes them; also a list or dict of such
  scheduler,   ///< "last_epoch" or "_step_count", as torch.optim.lr_scheduler; also a list or dict of such
  rng,         ///< states of random generators: torch, CUDA, Python, NumPy
  data,        ///< the position in the data: a sampler's or a data loader's state
  scaler,      ///< GradScaler's "scale" and "growth_factor"
  gradients,   ///< accumulated gradients by name
  progress,    ///< numbers and texts: epoch, step, loss
  metrics,     ///< "metrics" of a run's checkpoint
  provenance,  ///< "provenance" of a run's checkpoint: host, time, versions
  other,
};

/// The name of a section, as people say it: "random generators", "data position".
std::string_view to_string(Section section) noexcept;

/// What `value` is, when it stands under `key` at the top of a checkpoint. An empty key: the whole checkpoint.
Section section_of(std::string_view key, const Value& value);

/// One entry at the top of a checkpoint.
struct SectionEntry {
  std::string key;  ///< as a path; empty when the whole checkpoint is one section (a file of weights)
  Section section = Section::other;
  Value value;
};

/// The entries of a checkpoint in order. A checkpoint that is no dict, or is itself a model's or an optimizer's state,
/// is one entry with an empty key.
std::vector<SectionEntry> sections_of(const Value& checkpoint);

}  // namespace torchkeep
