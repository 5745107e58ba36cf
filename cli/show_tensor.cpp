// SPDX-License-Identifier: BSD-3-Clause
// A tensor for people: statistics, a histogram of block characters, and its numbers as PyTorch prints them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

#include <torchkeep/base/scale.h>
#include <torchkeep/state/cast.h>
#include <torchkeep/state/elements.h>
#include <torchkeep/state/statistics.h>

#include "show.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

constexpr std::size_t kEdge = 3;      // numbers shown at each end of a dimension; fewer when there are many dimensions
constexpr std::size_t kSummary = 64;  // a tensor of at most so many numbers is shown whole

std::string number_text(const Value& value) {
  if (value.is_none()) return "-";
  if (value.is(Kind::integer)) return value.as_integer().to_decimal();
  if (value.is(Kind::complex))
    return fmt::format("{:.6g}{:+.6g}j", value.as_complex().real(), value.as_complex().imag());
  return short_number(value.as_real());
}

std::string share_text(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "0"
                    : fmt::format("{} ({:.3g} %)", grouped(part),
                                  100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void write_facts(Session& session, const Value& value) {
  const Tensor& tensor = value.as_tensor();
  Table table({Table::Align::left, Table::Align::left});
  const auto fact = [&](std::string name, std::string text) {
    table.add({{std::move(name), Style::faint}, {std::move(text)}});
  };
  fact("dtype", std::string(to_string(tensor.dtype)));
  fact("shape", shape_text(tensor.sizes));
  fact("size", fmt::format("{} ({} bytes, {})", human_size(tensor.nbytes()), grouped(tensor.nbytes()),
                           counted(static_cast<std::uint64_t>(tensor.numel()), "element")));
  fact("strides", fmt::format("{}, offset {}{}", shape_text(tensor.strides), tensor.storage_offset,
                              tensor.is_contiguous() ? ", contiguous" : ""));
  fact("storage", fmt::format("{} on {}", human_size(tensor.storage->nbytes()), printable(tensor.storage->location())));
  std::string flags;
  const auto flag = [&](bool set, std::string_view name) {
    if (set) flags += fmt::format("{}{}", flags.empty() ? "" : ", ", name);
  };
  flag(tensor.is_parameter, "parameter"), flag(tensor.requires_grad, "requires_grad");
  flag(tensor.is_conj, "conjugated lazily"), flag(tensor.is_neg, "negated lazily");
  if (!flags.empty()) fact("flags", flags);
  if (const Quantizer* quantizer = tensor.quantizer.get()) {
    fact("quantizer", quantizer->scales ? fmt::format("{} along dimension {}", quantizer->scheme, quantizer->axis)
                                        : fmt::format("{}, scale {}, zero point {}", quantizer->scheme,
                                                      short_number(quantizer->scale), quantizer->zero_point));
  }
  table.write(session.out);
}

void write_statistics(Session& session, const Statistics& found) {
  Table table({Table::Align::left, Table::Align::right});
  const auto row = [&](std::string name, std::string text, Style style = Style::number) {
    table.add({{std::move(name), Style::faint}, {std::move(text), style}});
  };
  row("min", number_text(found.minimum)), row("max", number_text(found.maximum));
  row("mean", number_text(found.mean)), row("std", short_number(found.standard_deviation));
  row("norm", short_number(found.norm)), row("zeros", share_text(found.zero, found.count));
  row("NaN", share_text(found.nan, found.count), found.nan > 0 ? Style::bad : Style::number);
  const std::uint64_t infinite = found.positive_infinity + found.negative_infinity;
  row("Inf", share_text(infinite, found.count), infinite > 0 ? Style::bad : Style::number);
  table.write(session.out);
}

void write_histogram(Session& session, const Histogram& histogram) {
  constexpr std::string_view kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const std::uint64_t most = *std::max_element(histogram.counts.begin(), histogram.counts.end());
  if (most == 0) return;
  const std::size_t bins = histogram.counts.size();
  const Scale scale(histogram.low, histogram.high);
  const std::size_t room = static_cast<std::size_t>(std::clamp(session.out.width() - 36, 10, 60));
  Table table({Table::Align::right, Table::Align::left, Table::Align::right});
  for (std::size_t i = 0; i < bins; ++i) {
    const double low = scale.at(static_cast<double>(i) / static_cast<double>(bins));
    const double length =
        static_cast<double>(histogram.counts[i]) / static_cast<double>(most) * static_cast<double>(room);
    const auto eighths = static_cast<std::size_t>(std::ceil(length * 8));
    std::string bar;
    for (std::size_t full = 0; full < eighths / 8; ++full) bar += "█";
    bar += kEighths[eighths % 8];
    table.add({{fmt::format("{:.4g}", low), Style::faint}, {bar, Style::key}, {grouped(histogram.counts[i])}});
  }
  table.write(session.out);
}

// The tensor's numbers, read one by one as texts.
class Numbers {
 public:
  explicit Numbers(const Tensor& tensor) : tensor_(readable(tensor)), elements_(tensor_) {}

  std::string at(std::uint64_t index) const {
    std::byte bytes[16];
    const std::size_t item = elements_.item();
    elements_.read(index, std::span(bytes, item));
    const auto as = [&]<class T>(T value) {
      std::memcpy(&value, bytes, sizeof(T));
      return value;
    };
    switch (tensor_.dtype) {
      case DType::float64:
        return short_number(as(double{}));
      case DType::float32:
        return short_number(static_cast<double>(as(float{})));
      case DType::complex128:
        return number_text(Value(as(std::complex<double>{})));
      case DType::complex64:
        return number_text(Value(std::complex<double>(as(std::complex<float>{}))));
      case DType::boolean:
        return bytes[0] != std::byte{0} ? "True" : "False";
      case DType::int64:
        return fmt::format("{}", as(std::int64_t{}));
      case DType::int32:
      case DType::qint32:
        return fmt::format("{}", as(std::int32_t{}));
      case DType::int16:
        return fmt::format("{}", as(std::int16_t{}));
      case DType::int8:
      case DType::qint8:
        return fmt::format("{}", static_cast<int>(as(std::int8_t{})));
      case DType::uint64:
        return fmt::format("{}", as(std::uint64_t{}));
      case DType::uint32:
        return fmt::format("{}", as(std::uint32_t{}));
      case DType::uint16:
      case DType::bits16:
        return fmt::format("{}", as(std::uint16_t{}));
      default:
        return fmt::format("{}", std::to_integer<unsigned>(bytes[0]));
    }
  }

  const std::vector<std::int64_t>& sizes() const noexcept { return tensor_.sizes; }

 private:
  static Tensor readable(const Tensor& tensor) {
    for (const DType wide : {DType::float32, DType::complex64}) {
      const bool is_narrow = itemsize(tensor.dtype) < itemsize(wide);
      if (is_narrow && can_cast(tensor.dtype, wide)) return cast(tensor, wide);
    }
    return tensor;
  }

  Tensor tensor_;
  Elements elements_;
};

// Lays numbers out in brackets like PyTorch, with "..." for the middle of long dimensions.
class Layout {
 public:
  Layout(const Tensor& tensor, std::size_t edge) : numbers_(tensor), edge_(edge) {}

  std::vector<std::string> lines() {
    collect(0, 0);
    return std::move(lines_);
  }

 private:
  // Indices of a dimension that are shown; -1 for the gap.
  std::vector<std::int64_t> shown(std::int64_t size) const {
    std::vector<std::int64_t> indices;
    const auto edge = static_cast<std::int64_t>(edge_);
    for (std::int64_t i = 0; i < size; ++i) {
      if (size > 2 * edge && i == edge) {
        indices.push_back(-1);
        i = size - edge;
      }
      indices.push_back(i);
    }
    return indices;
  }

  // At most a few dimensions are ever shown: each takes two characters of indent.
  void collect(std::size_t dimension, std::uint64_t base) {
    const auto& sizes = numbers_.sizes();
    if (sizes.empty()) {
      lines_.push_back(numbers_.at(0));
      return;
    }
    const std::string indent(dimension, ' ');
    if (dimension + 1 == sizes.size()) {
      std::string line = indent + "[";
      for (const std::int64_t i : shown(sizes[dimension])) {
        if (line.back() != '[') line += ", ";
        line += i < 0 ? "..." : numbers_.at(base + static_cast<std::uint64_t>(i));
      }
      lines_.push_back(line + "]");
      return;
    }
    const std::size_t first = lines_.size();
    for (const std::int64_t i : shown(sizes[dimension])) {
      if (i < 0) {
        lines_.push_back(indent + " ...");
      } else {
        collect(dimension + 1,
                (base + static_cast<std::uint64_t>(i)) * static_cast<std::uint64_t>(sizes[dimension + 1]));
      }
    }
    if (lines_.size() == first) lines_.push_back(indent + " []");
    lines_[first][dimension] = '[';
    lines_.back() += "]";
  }

  Numbers numbers_;
  std::size_t edge_;
  std::vector<std::string> lines_;
};

constexpr std::size_t kMaxShownDimensions = 8;

}  // namespace

void show_tensor(Session& session, const Value& value, const ShowOptions& options) {
  const Tensor& tensor = value.as_tensor();
  write_facts(session, value);
  for (const std::string& line : special_lines(session, options.key, value)) session.out.line(line);
  const Statistics found = statistics(tensor, {.bins = session.quiet ? 0 : options.bins});
  session.out.line();
  write_statistics(session, found);
  if (found.histogram) {
    session.out.line();
    write_histogram(session, *found.histogram);
  }
  const bool is_packed = tensor.dtype == DType::float4_e2m1fn_x2;
  if (session.quiet || is_packed || tensor.sizes.size() > kMaxShownDimensions) return;
  session.out.line();
  const bool is_small = static_cast<std::size_t>(tensor.numel()) <= std::max(kSummary, options.numbers);
  const std::size_t dimensions = tensor.sizes.size();
  const std::size_t edge = is_small          ? static_cast<std::size_t>(tensor.numel()) + 1
                           : dimensions < 3  ? kEdge
                           : dimensions == 3 ? 2
                                             : 1;
  for (const std::string& line : Layout(tensor, edge).lines()) session.out.line(line);
}

}  // namespace torchkeep::cli
