// SPDX-License-Identifier: BSD-3-Clause
// One walk over the tree, with nothing kept but the rows and the sums.
#include <algorithm>
#include <unordered_set>

#include <torchkeep/base/memory.h>
#include <torchkeep/checkpoint/listing.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {
namespace {

bool is_plain(const Value& value) {
  return value.kind() <= Kind::bytearray || value.is(Kind::dtype) || value.is(Kind::device);
}

void add(Totals& to, const Totals& more) {
  to.tensors += more.tensors, to.nbytes += more.nbytes, to.values += more.values;
}

class Lister {
 public:
  Lister(const Value& checkpoint, const ListOptions& options) : options_(options) {
    for (SectionEntry& entry : sections_of(checkpoint)) listing_.by_key.emplace_back(std::move(entry), Totals());
    is_whole_ = listing_.by_key.size() == 1 && listing_.by_key[0].first.key.empty();
  }

  Listing run(const Value& checkpoint) && {
    reserve(checkpoint);
    walk(checkpoint, [this](const Visit& visit) { return this->visit(visit); });
    if (!std::is_sorted(storages_.begin(), storages_.end())) std::sort(storages_.begin(), storages_.end());
    storages_.erase(std::unique(storages_.begin(), storages_.end()), storages_.end());
    for (const auto& [storage, nbytes] : storages_) listing_.stored += nbytes;
    return std::move(listing_);
  }

 private:
  // Nearly all of a large checkpoint stands two steps from its root.
  void reserve(const Value& checkpoint) {
    const Parts parts(checkpoint);
    std::size_t rows = parts.size();
    std::unordered_set<const void*> seen;  // the same object, listed again, is one row
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Value child = parts.value(i);
      const std::size_t inside = Parts(child).size();
      if (inside > 1 && seen.insert(child.id()).second) rows += inside;
    }
    listing_.rows.reserve(rows);
    storages_.reserve(rows);
  }

  // A list of numbers is one row; so is anything empty.
  bool is_one_row(const Value& value) {
    if (value.is_mapping()) return value.empty() && value.attributes().is_none();
    return has_elements(value) && plain_.are_all_plain(value);
  }

  Next visit(const Visit& visit) {
    const Value& value = visit.value;
    const Place& place = visit.place;
    if (place.depth == 1 && !is_whole_) {
      // Attributes of the root come after its entries and belong to none of them.
      section_ = place.step.kind == Step::Kind::key ? section_ + 1 : 0;
    }
    if (value.is(Kind::tensor)) return list_tensor(visit);
    const bool is_container = Parts(value).size() > 0;
    // An object is a row, and then its parts are.
    if (value.is(Kind::opaque) && !visit.repeated && place.depth < options_.depth) {
      add_row(visit, {});
      return Next::inside;
    }
    const bool is_field = place.depth > 0 && place.step.kind == Step::Kind::field;
    if (is_field && value.is_none()) return Next::over;  // an object without kwargs or state
    const bool is_row = !is_container || is_one_row(value);
    if (visit.repeated && !is_row) {
      add_row(visit, {});
    } else if (is_row) {
      const bool is_leaf = !is_container && !value.is_mapping() && !has_elements(value);
      const std::uint64_t values = visit.repeated ? 0 : is_leaf ? 1 : has_elements(value) ? value.size() : 0;
      count({0, 0, values});
      add_row(visit, {0, 0, values});
    } else if (place.depth >= options_.depth) {
      add_row(visit, sum(value));
    } else {
      return Next::inside;
    }
    return Next::over;
  }

  Next list_tensor(const Visit& visit) {
    const Totals totals = count_tensor(visit.value.as_tensor());
    add_row(visit, totals);
    return Next::inside;  // a Parameter may have attributes
  }

  Totals count_tensor(const Tensor& tensor) {
    const Totals totals{1, tensor.nbytes(), 0};
    storages_.emplace_back(tensor.storage->identity(), tensor.storage->nbytes());
    add(listing_.by_dtype[tensor.dtype], totals);
    count(totals);
    return totals;
  }

  void count(const Totals& totals) {
    add(listing_.totals, totals);
    if (SectionTotals* section = current()) add(section->second, totals);
  }

  // All that a container holds, which is not listed itself. What is in two of them is counted in the first.
  Totals sum(const Value& container) {
    Totals all;
    walk(container, [&](const Visit& visit) {
      if (Parts(visit.value).size() > 0 && !summed_.insert(visit.value.id()).second) return Next::over;
      if (visit.value.is(Kind::tensor)) {
        add(all, count_tensor(visit.value.as_tensor()));
      } else if (Parts(visit.value).size() == 0 && !visit.value.is_mapping() && !has_elements(visit.value)) {
        const Totals one{0, 0, 1};
        count(one);
        add(all, one);
      }
      return Next::inside;
    });
    return all;
  }

  void add_row(const Visit& visit, const Totals& totals) {
    const SectionTotals* section = current();
    listing_.rows.push_back({visit.place.text(), section == nullptr ? Section::other : section->first.section,
                             visit.value, totals, visit.repeated && !is_one_row(visit.value)});
  }

  using SectionTotals = std::pair<SectionEntry, Totals>;
  // The entry at the top that the walk is in; null outside of all.
  SectionTotals* current() noexcept {
    if (is_whole_) return &listing_.by_key[0];
    return section_ == 0 ? nullptr : &listing_.by_key[section_ - 1];
  }

  const ListOptions& options_;
  Listing listing_;
  bool is_whole_ = false;
  std::size_t section_ = 0;                                      // 1 + index into by_key
  LargeVector<std::pair<const void*, std::uint64_t>> storages_;  // of every tensor
  std::unordered_set<const void*> summed_;                       // containers
  PlainElements plain_;
};

}  // namespace

bool has_elements(const Value& value) noexcept {
  return value.is_sequence() || value.is(Kind::set) || value.is(Kind::frozenset);
}

bool PlainElements::are_all_plain(const Value& container) {
  constexpr std::size_t kRemembered = 64;
  const auto elements = container.elements();
  if (elements.size() < kRemembered) return std::all_of(elements.begin(), elements.end(), is_plain);
  const auto [known, is_new] = known_.try_emplace(container.id());
  if (is_new) known->second = std::all_of(elements.begin(), elements.end(), is_plain);
  return known->second;
}

Listing list_contents(const Value& checkpoint, const ListOptions& options) {
  return Lister(checkpoint, options).run(checkpoint);
}

}  // namespace torchkeep
