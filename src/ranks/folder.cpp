// SPDX-License-Identifier: BSD-3-Clause
// Folders that come by one rename and go by one.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include <torchkeep/ranks/folder.h>
#include <torchkeep/ranks/resume.h>

namespace torchkeep {
namespace {

constexpr std::string_view kRemoved = ".removed";
constexpr std::string_view kBroken = ".broken";
constexpr std::string_view kPrefix = "step-";
constexpr std::size_t kDigits = 8;

Where at_path(std::string path) {
  Where where;
  where.file = std::move(path);
  return where;
}

std::string folder_name(std::int64_t step) {
  return fmt::format("step-{:08}", step);
}

}  // namespace

std::optional<std::int64_t> parse_checkpoint_folder(std::string_view name) noexcept {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  // Only the way it is written here, so that no step has two names.
  if (digits.size() < kDigits || digits.front() == '-' || (digits.size() > kDigits && digits.front() == '0')) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return step;
}

std::optional<std::int64_t> parse_broken_folder(std::string_view name) noexcept {
  const std::size_t mark = name.rfind(kBroken);
  return mark == std::string_view::npos ? std::nullopt : parse_checkpoint_folder(name.substr(0, mark));
}

bool is_hidden_folder(std::string_view name) noexcept {
  if (!name.starts_with('.')) return false;
  name.remove_prefix(1);
  const std::size_t dot = name.find('.');
  return dot != std::string_view::npos && dot + 1 < name.size() && parse_checkpoint_folder(name.substr(0, dot));
}

RankFolder::RankFolder(Fs& fs, std::string directory, ShareFormat& format, std::function<void()> before_publish,
                       std::string name)
    : fs_(fs),
      directory_(std::move(directory)),
      format_(format),
      before_publish_(std::move(before_publish)),
      name_(std::move(name)) {
  if (!directory_.ends_with('/')) directory_ += '/';
}

std::string RankFolder::name_of(std::int64_t step) const {
  return name_.empty() ? folder_name(step) : name_;
}

std::string RankFolder::published(std::int64_t step) const {
  return directory_ + name_of(step);
}

std::string RankFolder::hidden(const CheckpointId& checkpoint) const {
  return fmt::format("{}.{}.{}", directory_, name_of(checkpoint.step), checkpoint.token);
}

RankAnswer RankFolder::perform(const RankAction& action) {
  try {
    return perform_or_throw(action);
  } catch (const Error& error) {
    RankAnswer answer;
    answer.error = error;
    return answer;
  }
}

RankAnswer RankFolder::perform_or_throw(const RankAction& action) {
  const auto& id = action.checkpoint;
  RankAnswer answer;
  switch (action.work) {
    case RankWork::make_folder:
      if (!fs_.make_directory(hidden(*id))) {
        throw Error(Code::io, "the folder of this save is there already; another save uses it", at_path(hidden(*id)));
      }
      break;
    case RankWork::write_share:
      answer.value = format_.write_share(hidden(*id), *id);
      break;
    case RankWork::sync_folder:
      fs_.sync_directory(hidden(*id));
      break;
    case RankWork::confirm_share:
      format_.confirm_share();
      break;
    case RankWork::take_report:
      format_.take_report(*id, *action.report);
      break;
    case RankWork::write_index:
      format_.write_index(hidden(*id), *id);
      break;
    case RankWork::publish:
      if (before_publish_) before_publish_();
      fs_.rename(hidden(*id), published(id->step));
      break;
    case RankWork::sync_parent:
      fs_.sync_directory(directory_);
      break;
    case RankWork::discard:
      discard(*id);
      break;
    case RankWork::look:
      answer.checkpoint = look(id->step);
      break;
    case RankWork::list:
      answer.checkpoint = newest_before(id);
      break;
    case RankWork::find:
      answer.checkpoint = newest_before(std::nullopt);
      break;
    case RankWork::load:
      format_.load(published(id->step), *id);
      break;
    case RankWork::quarantine:
      quarantine(*id);
      break;
  }
  return answer;
}

std::vector<std::int64_t> RankFolder::steps() const {
  std::vector<std::int64_t> steps;
  for (const std::string& name : fs_.list(directory_)) {
    if (const auto step = parse_checkpoint_folder(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<CheckpointId> RankFolder::look(std::int64_t step) {
  try {
    return CheckpointId{step, format_.token_of(published(step))};
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return std::nullopt;
    if (!is_rank_damage(error)) throw;
    return CheckpointId{step, {}};  // it is there, and damaged: the one that loads it says how
  }
}

std::optional<CheckpointId> RankFolder::newest_before(const std::optional<CheckpointId>& limit) {
  if (!name_.empty()) return limit ? std::nullopt : look(0);
  std::optional<std::int64_t> newest;
  std::string broken;
  for (const std::string& name : fs_.list(directory_)) {
    if (parse_broken_folder(name)) broken += (broken.empty() ? "" : ", ") + name;
    const auto step = parse_checkpoint_folder(name);
    if (step && (!limit || *step < limit->step) && (!newest || *step > *newest)) newest = step;
  }
  if (newest) return look(*newest);
  if (broken.empty() || limit) return std::nullopt;
  throw Error(
      Code::corrupt,
      fmt::format("no checkpoint in this folder is good, and some were damaged ({}); restore one from a copy, or "
                  "move these away to start from the beginning",
                  broken),
      at_path(directory_));
}

/// The folder first gets a name that no save uses: one that is about to publish it fails, instead of publishing what is
/// half removed.
void RankFolder::discard(const CheckpointId& checkpoint) {
  const std::string from = hidden(checkpoint), to = from + std::string(kRemoved);
  try {
    fs_.rename(from, to);
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return;
    throw;
  }
  clear(to);
}

void RankFolder::remove(const CheckpointId& checkpoint) {
  const std::string to = hidden(checkpoint) + std::string(kRemoved);
  fs_.rename(published(checkpoint.step), to);
  fs_.sync_directory(directory_);  // or a power cut could bring the name back, and not the files
  clear(to);
}

void RankFolder::clear(const std::string& folder) {
  for (const std::string& name : fs_.list(folder)) fs_.remove(folder + "/" + name);
  fs_.remove_directory(folder);
}

void RankFolder::remove_leftovers() {
  for (const std::string& name : fs_.list(directory_)) {
    if (!is_hidden_folder(name)) continue;
    const std::string path = directory_ + name;
    const auto there = fs_.entry(path);
    if (!there || there->kind != FileKind::directory) continue;
    if (name.ends_with(kRemoved)) {
      clear(path);
      continue;
    }
    const std::size_t dot = name.find('.', 1);
    discard({*parse_checkpoint_folder(std::string_view(name).substr(1, dot - 1)), name.substr(dot + 1)});
  }
}

void RankFolder::quarantine(const CheckpointId& checkpoint) {
  const std::string from = published(checkpoint.step);
  std::string to = from + std::string(kBroken);
  for (int number = 2; fs_.entry(to); ++number) to = fmt::format("{}{}-{}", from, kBroken, number);
  fs_.rename(from, to);
}

}  // namespace torchkeep
