// SPDX-License-Identifier: BSD-3-Clause
// What a diff has found so far, and the tensors it has yet to compare. Private to the state layer.
#pragma once

#include <torchkeep/state/diff.h>

#include "tensor_pair.h"

namespace torchkeep {

class Findings {
 public:
  explicit Findings(const DiffOptions& options) : options_(options) {}

  /// A place that differs, under the root's key number `part`.
  void note(Difference difference, std::size_t part);
  /// Two tensors, with the changes found so far (perhaps none).
  void add(Difference tensors, std::size_t part);
  /// Compares the tensors and moves everything that differs into `diff`, in the order it was found.
  void finish(Diff& diff);

 private:
  struct Finding {
    Difference difference;
    std::size_t part;
  };
  // A pair of tensors whose elements can be compared.
  struct Job {
    std::size_t finding;
    TensorPair pair;
    bool differs = false;
  };
  // One block of a job's tensors.
  struct Unit {
    std::size_t job;
    std::uint64_t block;
  };

  std::vector<Unit> units_of(const std::function<bool(const Job&)>& wanted);
  void find_differing();
  void measure();
  template <class Work>
  void for_each_unit(const std::vector<Unit>& units, Work&& work);

  const DiffOptions& options_;
  std::vector<Finding> findings_;
  std::vector<Job> jobs_;
  std::uint64_t bytes_done_ = 0;
  std::uint64_t bytes_total_ = 0;
};

}  // namespace torchkeep
