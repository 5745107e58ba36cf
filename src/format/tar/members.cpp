// SPDX-License-Identifier: BSD-3-Clause
// Finds the members of a tar archive.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <string>

#include "show.h"
#include "tar.h"

namespace torchkeep::tar {
namespace {

constexpr std::uint64_t kMaxMembers = 1024;  // an honest file has four
constexpr std::uint64_t kMaxExtendedHeader = 65536;
constexpr std::uint64_t kMostPadding = 65536;  // behind the last member; tar writes 10,240 bytes at a time
constexpr std::size_t kMostHidden = 8;

std::string_view text_field(std::string_view header, std::size_t offset, std::size_t size) {
  const std::string_view field = header.substr(offset, size);
  return field.substr(0, field.find('\0'));
}

// Octal digits between blanks and NULs; nothing for anything else.
std::optional<std::uint64_t> octal_field(std::string_view header, std::size_t offset, std::size_t size) {
  std::string_view field = header.substr(offset, size);
  field.remove_prefix(std::min(field.find_first_not_of(' '), field.size()));
  std::uint64_t value = 0;
  std::size_t i = 0;
  for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i) value = value * 8 + (field[i] - '0');
  if (i == 0 || field.substr(i).find_first_not_of(std::string_view(" \0", 2)) != std::string_view::npos) {
    return std::nullopt;
  }
  return value;
}

// The sum of all bytes of the header, those of the checksum counted as blanks.
std::uint64_t checksum(std::string_view header) {
  std::uint64_t sum = 8 * ' ';
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (i < 148 || i >= 156) sum += static_cast<unsigned char>(header[i]);
  }
  return sum;
}

class MemberFinder {
 public:
  explicit MemberFinder(const ReadAt& file) : file_(file) {}

  Members run() {
    while (file_.size() - position_ >= kBlock && read_header()) {
    }
    check_padding(position_, file_.size(), "behind the last member");
    note_others();
    return {take("storages"), take("tensors"), take("pickle"), std::move(hidden_)};
  }

 private:
  [[noreturn]] void fail(Code code, std::string message) const {
    throw Error(code, std::move(message), {.file = file_.name(), .record = {}, .offset = position_, .key = {}});
  }

  std::string read_text(std::uint64_t offset, std::uint64_t size) const {
    std::string text(static_cast<std::size_t>(size), '\0');
    file_.read_at(offset, std::as_writable_bytes(std::span(text)));
    return text;
  }

  // False at the end of the archive.
  bool read_header() {
    const std::string header = read_text(position_, kBlock);
    if (std::all_of(header.begin(), header.end(), [](char c) { return c == '\0'; })) return false;
    if (octal_field(header, 148, 8) != checksum(header)) fail(Code::corrupt, "a tar header with a wrong checksum");
    if (++count_ > kMaxMembers) fail(Code::refused, fmt::format("more than {} members", kMaxMembers));
    const auto size = octal_field(header, 124, 12);
    if (!size) fail(Code::unsupported, "a tar member whose size is not octal text");
    const std::uint64_t begin = position_ + kBlock;
    if (*size > file_.size() - begin) {
      fail(Code::corrupt,
           fmt::format("a tar member of {} bytes, but the file ends after {}", *size, file_.size() - begin));
    }
    add(header, {begin, *size});
    position_ = std::min(begin + (*size + kBlock - 1) / kBlock * kBlock, file_.size());
    check_padding(begin + *size, position_, "behind a member");
    return true;
  }

  void add(const std::string& header, Member member) {
    const char type = header[156];
    if (type == 'x' || type == 'g') return check_extended(member);
    if (type == '5') return;
    if (type != '0' && type != '\0')
      fail(Code::unsupported, fmt::format("a tar member of type '{}'", detail::show({&type, 1})));
    std::string name(text_field(header, 345, 155));
    if (!name.empty()) name += '/';
    name += text_field(header, 0, 100);
    while (name.starts_with("./")) name.erase(0, 2);
    if (name.starts_with('/') || ("/" + name + "/").find("/../") != std::string::npos) {
      fail(Code::refused, fmt::format("a tar member named '{}'", detail::show(name)));
    }
    if (!members_.emplace(name, member).second)
      fail(Code::corrupt, fmt::format("two members named '{}'", detail::show(name)));
  }

  // Other members than those of torch.save.
  void note_others() {
    for (const auto& [name, member] : members_) {
      if (name == "storages" || name == "tensors" || name == "pickle" || name == "sys_info") continue;
      hidden_.push_back(fmt::format("a member '{}' of {} bytes", detail::show(name), member.size));
      if (hidden_.size() >= kMostHidden) return;
    }
  }

  // Tools fill up the last block, and the file to some blocks more, with NULs.
  void check_padding(std::uint64_t begin, std::uint64_t end, const char* where) {
    if (hidden_.size() >= kMostHidden) return;
    const std::string padding = read_text(begin, std::min(end - begin, kMostPadding));
    if (end - begin > kMostPadding || padding.find_first_not_of('\0') != std::string::npos)
      hidden_.push_back(fmt::format("{} bytes {}, at {}", end - begin, where, begin));
  }

  // An extended header may say that the next member has another name or size. torch.save's say when it was written.
  void check_extended(Member member) const {
    if (member.size > kMaxExtendedHeader) fail(Code::refused, "an extended tar header of more than 64 KiB");
    const std::string text = "\n" + read_text(member.begin, member.size);
    for (const std::string_view name : {" path=", " size=", " GNU.sparse"}) {
      for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
        const std::size_t digits = text.find_last_not_of("0123456789", at - 1);
        if (digits != std::string::npos && digits + 1 < at && text[digits] == '\n') {
          fail(Code::unsupported, "an extended tar header that gives the next member another name or size");
        }
      }
    }
  }

  Member take(const char* name) const {
    const auto found = members_.find(name);
    if (found == members_.end()) {
      throw Error(Code::corrupt, fmt::format("a tar archive without a member '{}': not one of torch.save", name),
                  {.file = file_.name(), .record = {}, .offset = {}, .key = {}});
    }
    return found->second;
  }

  const ReadAt& file_;
  std::uint64_t position_ = 0;
  std::uint64_t count_ = 0;
  std::map<std::string, Member> members_;
  std::vector<std::string> hidden_;
};

}  // namespace

bool is_tar(Bytes start) noexcept {
  return start.size() == kBlock && as_text(start).substr(257, 5) == "ustar";
}

Members find_members(const ReadAt& file) {
  return MemberFinder(file).run();
}

}  // namespace torchkeep::tar
