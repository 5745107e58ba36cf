// SPDX-License-Identifier: BSD-3-Clause
// What a tensor's numbers look like: range, mean, spread, oddities, histogram.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torchkeep/state/tensor.h>
#include <torchkeep/state/value.h>

namespace torchkeep {

/// Counts of finite numbers in bins of equal width; the last bin includes `high`. Complex numbers are counted by their
/// magnitude.
struct Histogram {
  double low = 0;
  double high = 0;
  std::vector<std::uint64_t> counts;
};

/// Statistics of a tensor's numbers in double precision, whatever its dtype. NaN and infinities are counted and
/// otherwise left out. Quantized tensors are taken as their stored integers, float4_e2m1fn_x2 as two numbers per
/// element, and the dtypes of a few bits that PyTorch only stores as their bytes.
struct Statistics {
  std::uint64_t count = 0;  ///< numbers
  std::uint64_t nan = 0;    ///< a complex number with a NaN part counts here
  std::uint64_t positive_infinity = 0;
  std::uint64_t negative_infinity = 0;  ///< complex infinities count as positive
  std::uint64_t zero = 0;               ///< 0 and -0
  Value minimum;                        ///< int (exact) or float; None for complex or when nothing is finite
  Value maximum;
  Value mean;                     ///< float or complex; None when nothing is finite
  double standard_deviation = 0;  ///< of a sample (divided by n - 1), as torch.std; NaN for fewer than two numbers
  double norm = 0;                ///< square root of the sum of squares
  std::optional<Histogram> histogram;

  std::uint64_t finite() const noexcept { return count - nan - positive_infinity - negative_infinity; }
};

struct StatisticsOptions {
  unsigned bins = 0;     ///< of the histogram; 0: none. It costs a second pass
  unsigned threads = 0;  ///< 0: one per core. The result does not depend on it
};

/// The statistics of `tensor`, read block by block. Conj and neg bits are applied.
/// Throws what Elements throws, and Error (invalid_argument) for more than 1,000,000 bins.
Statistics statistics(const Tensor& tensor, const StatisticsOptions& options = {});

}  // namespace torchkeep
