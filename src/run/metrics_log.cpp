// SPDX-License-Identifier: BSD-3-Clause
// Lines of metrics to and from JSON.
#include "metrics_log.h"

#include <fmt/format.h>

#include <torchkeep/files/publish.h>
#include <torchkeep/run/names.h>
#include <torchkeep/run/schema.h>

#include "entries.h"
#include "places.h"

namespace torchkeep {
namespace {

constexpr std::size_t kMostPending = std::size_t{1} << 20;

/// The number in a tensor of one element.
std::optional<Value> number_in(const Tensor& tensor) {
  if (tensor.numel() != 1) return std::nullopt;
  if (tensor.dtype == DType::float32) return Value(tensor.to_vector<float>().front());
  if (tensor.dtype == DType::float64) return Value(tensor.to_vector<double>().front());
  if (tensor.dtype == DType::int64) return Value(tensor.to_vector<std::int64_t>().front());
  return std::nullopt;
}

}  // namespace

Value plain_metrics(const Value& metrics) {
  Value plain = Value::mapping(Kind::dict);
  if (metrics.is_none()) return plain;
  if (!metrics.is_mapping()) metrics.fail_kind("a dict of metrics");
  for (const Entry& entry : metrics.items()) {
    const auto refuse = [&](std::string_view expected) {
      throw Error(Code::invalid_argument,
                  fmt::format("expected metrics to be {}, found {}", expected, to_string(entry.value.kind())),
                  metrics.at(entry.key).where());
    };
    if (!entry.key.is(Kind::string)) refuse("named by texts");
    switch (entry.value.kind()) {
      case Kind::none:
      case Kind::boolean:
      case Kind::integer:
      case Kind::real:
      case Kind::string:
        plain.set(entry.key, entry.value);
        break;
      case Kind::tensor: {
        const auto number = number_in(entry.value.as_tensor());
        if (!number) refuse("numbers (of a tensor, pass .item<double>())");
        plain.set(entry.key, *number);
        break;
      }
      default:
        refuse("numbers and texts");
    }
  }
  if (plain.contains(schema::kStep)) {
    throw Error(Code::invalid_argument, "a metric cannot be called 'step': the log has the step under this name");
  }
  return plain;
}

MetricsLog::MetricsLog(Fs& fs, std::string directory)
    : fs_(fs), directory_(std::move(directory)), path_(in_directory(directory_, names::kMetrics)) {}

std::string MetricsLog::rewind(std::int64_t step) {
  pending_.clear();
  cut_at_ = step;
  return attempt(false);
}

void MetricsLog::cut(std::int64_t step) {
  file_.reset();
  size_ = 0;
  if (!is_file(fs_, path_)) return;  // what else stands there is reported by the first append
  const auto file = fs_.open_read(path_);
  std::string text(static_cast<std::size_t>(file->size()), '\0');
  file->read_at(0, std::as_writable_bytes(std::span(text)));
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t newline = text.find('\n', begin);
    if (newline == std::string::npos) break;  // cut short by a crash
    const std::string_view line = std::string_view(text).substr(begin, newline + 1 - begin);
    const auto found = schema::parse_metrics_line(line);
    if (found && found->step <= step) kept += line;
    begin = newline + 1;
  }
  if (kept != text) publish(fs_, path_, as_bytes(kept), {.replace_link = true});
  size_ = kept.size();
}

std::string MetricsLog::append(std::int64_t step, const Value& metrics) {
  pending_ += schema::metrics_line(step, metrics);
  // Cutting reads all of the log: what failed once is tried again with a save, not at every step.
  std::string problem = cut_at_ ? std::string() : attempt(false);
  while (pending_.size() > kMostPending) {
    pending_.erase(0, pending_.find('\n') + 1);
    ++dropped_;
  }
  return problem;
}

std::string MetricsLog::sync() {
  return pending_.empty() && synced_ && !cut_at_ ? std::string() : attempt(true);
}

std::string MetricsLog::attempt(bool sync) {
  try {
    flush(sync);
    failing_ = false;
    if (dropped_ == 0) return {};
    return fmt::format("{}: {} lines of metrics were lost while it could not be written", path_,
                       std::exchange(dropped_, 0));
  } catch (const Error& error) {
    file_.reset();  // a sync that failed once fails ever after: start with a new descriptor
    if (std::exchange(failing_, true)) return {};
    return fmt::format("metrics are kept in memory until they can be written: {}", error.what());
  }
}

void MetricsLog::flush(bool sync) {
  if (cut_at_) {
    cut(*cut_at_);
    cut_at_.reset();
  }
  if (pending_.empty() && !sync) return;
  if (!file_) {
    const bool is_new = !fs_.entry(path_);
    file_ = open_log(fs_, path_);
    if (is_new) fs_.sync_directory(directory_);
  }
  if (!pending_.empty()) {
    synced_ = false;
    file_->write_at(size_, as_bytes(pending_));
    size_ += pending_.size();
    pending_.clear();
  }
  if (sync) {
    file_->sync();
    synced_ = true;
  }
}

}  // namespace torchkeep
