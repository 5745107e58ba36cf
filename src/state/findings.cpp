// SPDX-License-Identifier: BSD-3-Clause
// Tensors are compared in two passes over blocks: which ones differ, then by how much.
#include "findings.h"

#include <atomic>
#include <mutex>

#include <torchkeep/base/parallel.h>

namespace torchkeep {
namespace {

bool is_same_view(const Tensor& a, const Tensor& b) {
  return a.storage->identity() == b.storage->identity() && a.dtype == b.dtype && a.sizes == b.sizes &&
         a.strides == b.strides && a.storage_offset == b.storage_offset && a.is_conj == b.is_conj &&
         a.is_neg == b.is_neg;
}

}  // namespace

void Findings::note(Difference difference, std::size_t part) {
  findings_.push_back({std::move(difference), part});
}

void Findings::add(Difference tensors, std::size_t part) {
  const Tensor &a = tensors.before.as_tensor(), &b = tensors.after.as_tensor();
  if (TensorPair::comparable(a, b) && !is_same_view(a, b)) {
    try {
      jobs_.push_back({findings_.size(), TensorPair(a, b)});
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = tensors.path});
    }
  }
  note(std::move(tensors), part);
}

std::vector<Findings::Unit> Findings::units_of(const std::function<bool(const Job&)>& wanted) {
  std::vector<Unit> units;
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    if (!wanted(jobs_[i])) continue;
    for (std::uint64_t block = 0; block < jobs_[i].pair.blocks(); ++block) units.push_back({i, block});
    bytes_total_ += jobs_[i].pair.nbytes();
  }
  return units;
}

template <class Work>
void Findings::for_each_unit(const std::vector<Unit>& units, Work&& work) {
  std::mutex mutex;
  parallel_for(units.size(), options_.threads, [&](std::uint64_t i) {
    const Unit& unit = units[i];
    const Job& job = jobs_[unit.job];
    try {
      work(i, unit);
    } catch (const Error& error) {
      throw error.at({.file = {}, .record = {}, .offset = {}, .key = findings_[job.finding].difference.path});
    }
    if (!options_.on_progress) return;
    const std::lock_guard lock(mutex);
    bytes_done_ += job.pair.nbytes() / job.pair.blocks();
    options_.on_progress(bytes_done_, bytes_total_);
  });
}

// The first pass: bits only, at memory speed; a tensor known to differ is not read further.
void Findings::find_differing() {
  const std::vector<Unit> units = units_of([](const Job& job) { return job.pair.by_bits(); });
  std::vector<std::atomic<bool>> differs(jobs_.size());
  for_each_unit(units, [&](std::uint64_t, const Unit& unit) {
    if (!differs[unit.job].load(std::memory_order_relaxed) && !jobs_[unit.job].pair.equal_block(unit.block)) {
      differs[unit.job] = true;
    }
  });
  for (std::size_t i = 0; i < jobs_.size(); ++i) jobs_[i].differs = differs[i];
}

// The second pass: distances, for tensors that differ; those of two dtypes are only now compared.
void Findings::measure() {
  const std::vector<Unit> units =
      units_of([this](const Job& job) { return !job.pair.by_bits() || (options_.numbers && job.differs); });
  std::vector<TensorPair::Partial> partials(units.size());
  for_each_unit(
      units, [&](std::uint64_t i, const Unit& unit) { partials[i] = jobs_[unit.job].pair.compare_block(unit.block); });
  for (std::size_t i = 0; i < units.size();) {
    Job& job = jobs_[units[i].job];
    TensorPair::Partial all;
    for (const std::size_t first = units[i].job; i < units.size() && units[i].job == first; ++i) all.join(partials[i]);
    Difference& difference = findings_[job.finding].difference;
    difference.numbers = job.pair.result(all);
    job.differs = job.differs || difference.numbers->differing > 0;
  }
}

void Findings::finish(Diff& diff) {
  find_differing();
  measure();
  for (const Job& job : jobs_) {
    diff.bytes += job.pair.nbytes();
    if (job.differs) findings_[job.finding].difference.changes.push_back(Change::elements);
  }
  for (Finding& finding : findings_) {
    Difference& difference = finding.difference;
    if (difference.changes.empty()) continue;
    DiffPart& part = diff.parts[finding.part];
    ++part.differences;
    if (difference.before.is(Kind::tensor) && difference.after.is(Kind::tensor)) ++part.tensors_differing;
    if (diff.found++ < options_.max_differences) diff.differences.push_back(std::move(difference));
  }
}

}  // namespace torchkeep
