// SPDX-License-Identifier: BSD-3-Clause
// Keys and pieces.
#include "board.h"

#include <fmt/format.h>

#include <torchkeep/peers/peers.h>

#include "codec.h"

namespace torchkeep::board {

std::string report(std::size_t rank) {
  return fmt::format("report/{}", rank);
}
std::string report_piece(std::size_t rank, std::size_t i) {
  return fmt::format("report/{}/{}", rank, i);
}
std::string hello(std::size_t rank) {
  return fmt::format("hello/{}", rank);
}
std::string loaded(std::size_t rank) {
  return fmt::format("loaded/{}", rank);
}
std::string meet_wish(std::size_t rank) {
  return fmt::format("meet/wish/{}", rank);
}
std::string meet_answer(std::size_t rank) {
  return fmt::format("meet/answer/{}", rank);
}

std::vector<std::string> split(std::string_view token, std::string_view message) {
  constexpr std::size_t kRoom = kLargestPeerValue - 1024;
  const std::size_t pieces = message.size() <= kRoom ? 0 : (message.size() - 1) / kRoom;
  std::vector<std::string> values;
  for (std::size_t i = 0; i <= pieces; ++i) {
    const std::string_view bytes = message.substr(i * kRoom, kRoom);
    values.push_back(detail::FieldWriter().string(token).number<std::uint64_t>(pieces).take().append(bytes));
  }
  return values;
}

Part read_part(std::string_view value) {
  detail::FieldReader reader(value, "a message between ranks");
  Part part;
  part.token = reader.string();
  part.pieces = static_cast<std::size_t>(reader.number<std::uint64_t>());
  part.bytes = value.substr(sizeof(std::uint64_t) + part.token.size() + sizeof(std::uint64_t));
  return part;
}

}  // namespace torchkeep::board
