// SPDX-License-Identifier: BSD-3-Clause
// Whether boxes cover a tensor exactly once, in one pass over them.
//
// Give every corner x of the grid a random number h(x) = h_0(x_0) * h_1(x_1) * ... in a field. The signed sum of h over
// the corners of a box is the product over dimensions of h_d(begin) - h_d(end). Counting how often each element is
// covered and taking differences in every dimension gives just these signed corners, and nothing but a constant count
// of one has the corners of the whole tensor. So boxes cover it exactly once if and only if their sums add up to its
// own, as polynomials in the h_d(x); that two different ones agree at random values has probability dims / 2^61, each
// time.
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <numeric>
#include <random>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/shard/cover.h>

namespace torchkeep {
namespace {

constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61) - 1;  // of the field
constexpr std::size_t kTimes = 2;                               // independent sums

__extension__ using Wide = unsigned __int128;

std::uint64_t reduce(Wide value) noexcept {
  std::uint64_t sum = static_cast<std::uint64_t>(value & kPrime) + static_cast<std::uint64_t>(value >> 61);
  sum = (sum & kPrime) + (sum >> 61);
  return sum >= kPrime ? sum - kPrime : sum;
}
std::uint64_t multiply(std::uint64_t a, std::uint64_t b) noexcept {
  return reduce(static_cast<Wide>(a) * b);
}
std::uint64_t subtract(std::uint64_t a, std::uint64_t b) noexcept {
  return a >= b ? a - b : a + kPrime - b;
}
std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
  return reduce(static_cast<Wide>(a) + b);
}

// A number that nobody can foresee who does not know the key (SplitMix64's finisher, keyed before and between).
std::uint64_t random_number(std::uint64_t key, std::uint64_t x) noexcept {
  constexpr int kRounds = 3;
  for (int i = 0; i < kRounds; ++i) {
    x += key + 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x ^= x >> 31;
  }
  return reduce(x);
}

class Sums {
 public:
  explicit Sums(std::size_t dims) : keys_(dims * kTimes) {
    static const std::uint64_t seed = [] {
      std::random_device device;
      return std::uint64_t{device()} << 32 | device();
    }();
    for (std::size_t i = 0; i < keys_.size(); ++i) keys_[i] = random_number(seed, i + 1) ^ seed;
  }

  void include(BoxView box) {
    const auto corners = corners_of(box);
    for (std::size_t i = 0; i < kTimes; ++i) sums_[i] = add(sums_[i], corners[i]);
  }
  bool equal(BoxView whole) const { return corners_of(whole) == sums_; }

 private:
  std::array<std::uint64_t, kTimes> corners_of(BoxView box) const {
    std::array<std::uint64_t, kTimes> products;
    products.fill(1);
    for (std::size_t d = 0; d < box.offset.size(); ++d) {
      const auto begin = static_cast<std::uint64_t>(box.offset[d]);
      const std::uint64_t end = begin + static_cast<std::uint64_t>(box.size[d]);
      for (std::size_t i = 0; i < kTimes; ++i) {
        const std::uint64_t key = keys_[d * kTimes + i];
        products[i] = multiply(products[i], subtract(random_number(key, begin), random_number(key, end)));
      }
    }
    return products;
  }

  std::vector<std::uint64_t> keys_;  // by dimension
  std::array<std::uint64_t, kTimes> sums_ = {};
};

bool overlap(BoxView a, BoxView b) noexcept {
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    if (a.offset[d] >= b.offset[d] + b.size[d] || b.offset[d] >= a.offset[d] + a.size[d]) return false;
  }
  return true;
}

// Two boxes that overlap: a sweep over the first dimension. Nothing when there are none, or when finding them would
// take many comparisons a box.
std::optional<std::pair<std::size_t, std::size_t>> find_overlap(const BoxList& boxes) {
  constexpr std::size_t kComparisons = 64;
  if (boxes.dims() == 0)
    return boxes.size() < 2 ? std::nullopt : std::optional(std::pair<std::size_t, std::size_t>(0, 1));
  std::vector<std::size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return boxes[a].offset[0] < boxes[b].offset[0]; });
  std::vector<std::size_t> open;  // those that the sweep is inside of
  std::size_t left = kComparisons * boxes.size();
  for (const std::size_t i : order) {
    const BoxView box = boxes[i];
    if (is_empty(box)) continue;
    if (open.size() > left) return std::nullopt;
    left -= open.size();
    std::erase_if(open, [&](std::size_t j) { return boxes[j].offset[0] + boxes[j].size[0] <= box.offset[0]; });
    for (const std::size_t j : open) {
      if (overlap(boxes[j], box)) return std::pair(std::min(i, j), std::max(i, j));
    }
    open.push_back(i);
  }
  return std::nullopt;
}

// Whether the boxes are slices along one dimension, one behind the other, from the first index to the last: what most
// tensors are cut into, and told without a multiplication.
bool are_slices_in_order(ShapeView shape, const BoxList& boxes) noexcept {
  if (boxes.dims() != shape.size()) return false;
  std::size_t cut = shape.size();  // the dimension that is cut; none yet
  std::int64_t next = 0;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const BoxView box = boxes[i];
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (d == cut || (box.offset[d] == 0 && box.size[d] == shape[d])) continue;
      if (i != 0 || cut != shape.size()) return false;
      cut = d;
    }
    if (cut == shape.size()) return boxes.size() == 1;
    if (box.offset[cut] != next || box.size[cut] < 0 || box.size[cut] > shape[cut] - next) return false;
    next += box.size[cut];
  }
  return cut != shape.size() && next == shape[cut];
}

}  // namespace

Cover check_cover(ShapeView shape, const BoxList& boxes) {
  const auto total = element_count(shape);
  const bool is_negative = std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 0; });
  if (!total || is_negative) throw Error(Code::invalid_argument, "a shape that no tensor has");
  Cover cover;
  cover.total = static_cast<std::uint64_t>(*total);
  if (are_slices_in_order(shape, boxes)) {
    cover.covered = cover.total;
    return cover;
  }
  Sums sums(shape.size());
  Wide covered = 0;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const BoxView box = boxes[i];
    if (!is_inside(box, shape)) {
      cover.state = Cover::State::outside;
      cover.boxes = std::pair(i, i);
      return cover;
    }
    covered += static_cast<std::uint64_t>(*element_count(box.size));
    sums.include(box);
  }
  cover.covered = covered > ~std::uint64_t{0} ? ~std::uint64_t{0} : static_cast<std::uint64_t>(covered);
  const Shape origin(shape.size(), 0);
  if (covered == cover.total && (cover.total == 0 || sums.equal({origin, shape}))) return cover;
  cover.boxes = find_overlap(boxes);
  const bool overlapping = cover.boxes || covered >= cover.total;
  cover.state = overlapping ? Cover::State::overlapping : Cover::State::missing;
  return cover;
}

std::string Cover::describe(const BoxList& list) const {
  switch (state) {
    case State::complete:
      return fmt::format("all {} elements are there", total);
    case State::missing:
      return fmt::format("{} of {} elements are in no chunk", total - covered, total);
    case State::outside:
      return fmt::format("chunk {} lies outside of the tensor", to_string(list[boxes->first]));
    case State::overlapping:
      break;
  }
  if (!boxes) return "chunks overlap";
  return fmt::format("chunks {} and {} overlap", to_string(list[boxes->first]), to_string(list[boxes->second]));
}

}  // namespace torchkeep
