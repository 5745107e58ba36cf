// SPDX-License-Identifier: BSD-3-Clause
// What a checkpoint of the demo holds, and how a run comes back from one.
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/torch.h>

#include "training.h"

namespace demo {

namespace fs = std::filesystem;
namespace tk = torchkeep;

namespace {

constexpr std::size_t kept_checkpoints = 3;

std::vector<fs::path> newest_first(const fs::path& directory) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with("step-") && name.ends_with(".pt")) found.push_back(entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

void restore(Training& training, const tk::Value& checkpoint, Resume what) {
  tk::load_state_dict(*training.model, checkpoint["model_state_dict"]);
  training.step = checkpoint["step"].to<int64_t>();
  if (what == Resume::weights_only) return;
  tk::load_state_dict(training.optimizer, checkpoint["optimizer_state_dict"], *training.model);
  training.scheduler.load_state_dict(checkpoint["scheduler_state_dict"]);
  training.batches.load_state_dict(checkpoint["data_state_dict"]);
  tk::load_rng_state(checkpoint["rng_state"]);
}

}  // namespace

fs::path checkpoint_path(const fs::path& directory, int64_t step) {
  return directory / fmt::format("step-{:08}.pt", step);
}

void save_checkpoint(const Training& training, const fs::path& directory) {
  const auto& shape = training.model->options();
  tk::save({{"step", training.step},
            {"model_state_dict", tk::state_dict(*training.model)},
            {"optimizer_state_dict", tk::state_dict(training.optimizer, *training.model)},
            {"scheduler_state_dict", training.scheduler.state_dict()},
            {"data_state_dict", training.batches.state_dict()},
            {"rng_state", tk::rng_state()},
            {"model_options",
             {{"vocabulary", shape.vocabulary},
              {"context", shape.context},
              {"layers", shape.layers},
              {"heads", shape.heads},
              {"width", shape.width}}}},
           checkpoint_path(directory, training.step).string());
  const auto all = newest_first(directory);
  for (std::size_t i = kept_checkpoints; i < all.size(); ++i) fs::remove(all[i]);
}

Resumed resume(Training& training, const fs::path& directory, Resume what) {
  Resumed resumed;
  resumed.removed = tk::remove_temporaries(tk::posix_fs(), directory.string());
  for (const auto& file : newest_first(directory)) {
    tk::Value checkpoint;
    try {
      checkpoint = tk::load(file.string());
    } catch (const tk::Error& damaged) {
      resumed.refused.emplace_back(damaged.what());
      continue;
    }
    restore(training, checkpoint, what);
    resumed.file = file;
    return resumed;
  }
  if (resumed.refused.empty()) return resumed;
  throw tk::Error(tk::Code::corrupt, fmt::format("no checkpoint of {} is whole: {}", directory.string(),
                                                 fmt::join(resumed.refused, "; ")));
}

}  // namespace demo
