// SPDX-License-Identifier: BSD-3-Clause
// Makes what the tests of the program need and Python cannot make: run directories, and large files that take no space.
//
//   cli_tool run DIRECTORY FIRST LAST [save_every keep_last keep_best]   trains on from FIRST (0: anew) to step LAST
//   cli_tool sparse FILE TENSORS BYTES                                   TENSORS tensors of BYTES each, all zeros, no
//   CRCs
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include <torchkeep/format/pt.h>
#include <torchkeep/run/engine.h>

#include "run/fake_training.h"
#include "support/pt_files.h"

namespace {

using namespace torchkeep;

int train(int argc, char** argv) {
  const auto number = [&](int i, std::int64_t fallback) { return i < argc ? std::atoll(argv[i]) : fallback; };
  RunOptions options;
  options.save_every = number(5, 10);
  options.keep_last = number(6, 3);
  options.keep_best = number(7, 0);
  options.best_metric = "loss";
  Engine engine(argv[2], options);
  torchkeep::testing::FakeTraining training;
  training.track(engine);
  double rate = 0;
  const auto groups = [&] {
    return Value{{"state", Value::mapping(Kind::dict)},
                 {"param_groups", List{Value{{"lr", rate}, {"params", List{0}}}}}};
  };
  engine.track("adam", {.capture = groups, .prepare = [](const Value&) { return [] {}; }});
  std::int64_t step = engine.resume();
  if (step != number(3, 0)) return 1;
  while (step < number(4, 0)) {
    training.step();
    ++step;
    rate = 0.1 / static_cast<double>(step);
    engine.finish_step(step, Value{{"loss", 1.0 + std::cos(static_cast<double>(step) / 10)}, {"lr", rate}});
  }
  return engine.save_now() ? 0 : 1;
}

int make_sparse(const char* path, long long count, long long nbytes) {
  Value model = Value::mapping(Kind::dict);
  for (long long i = 0; i < count; ++i) {
    Tensor tensor;
    tensor.sizes = {nbytes / 4};
    tensor.strides = {1};
    tensor.storage = std::make_shared<torchkeep::testing::ZeroStorage>(static_cast<std::uint64_t>(nbytes));
    model.set(Value::string("layers." + std::to_string(i) + ".weight"), tensor);
  }
  const Plan plan = plan_pt(model);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "wb"), std::fclose);
  if (file == nullptr) return 1;
  for (const Extent& extent : plan.extents) {
    if (extent.is_payload) continue;
    if (fseeko(file.get(), static_cast<off_t>(extent.file_offset), SEEK_SET) != 0) return 1;
    if (std::fwrite(plan.literals.data() + extent.index, 1, extent.size, file.get()) != extent.size) return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "run" && argc >= 5) return train(argc, argv);
  if (what == "sparse" && argc == 5) return make_sparse(argv[2], std::atoll(argv[3]), std::atoll(argv[4]));
  return 2;
}
