// SPDX-License-Identifier: BSD-3-Clause
// The text a run learns from, as tokens, with the size and checksum that tell it from another text.
#include "text.h"

#include <array>
#include <cerrno>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <span>

#include <torchkeep/base/crc32.h>
#include <torchkeep/base/error.h>

namespace demo {

namespace {

torchkeep::Where at_file(const std::filesystem::path& path) {
  torchkeep::Where where;
  where.file = path.string();
  return where;
}

}  // namespace

std::string Text::decode(const std::vector<int64_t>& some) const {
  std::string out;
  for (auto token : some) out += vocabulary.at(static_cast<std::size_t>(token));
  return out;
}

Text read_text(const std::filesystem::path& path, std::size_t at_least) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw torchkeep::Error::from_errno(errno, "open the text to learn from", at_file(path));
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.size() < at_least) {
    throw torchkeep::Error(torchkeep::Code::invalid_argument,
                           fmt::format("the text holds {} bytes; the model needs at least {}", bytes.size(), at_least),
                           at_file(path));
  }

  std::array<bool, 256> occurs{};
  for (unsigned char byte : bytes) occurs[byte] = true;
  Text text;
  std::array<int64_t, 256> token_of{};
  for (std::size_t byte = 0; byte < occurs.size(); ++byte) {
    if (!occurs[byte]) continue;
    token_of[byte] = static_cast<int64_t>(text.vocabulary.size());
    text.vocabulary += static_cast<char>(byte);
  }
  text.tokens.reserve(bytes.size());
  for (unsigned char byte : bytes) text.tokens.push_back(token_of[byte]);
  text.crc32 = torchkeep::crc32(std::as_bytes(std::span(bytes)));
  return text;
}

}  // namespace demo
