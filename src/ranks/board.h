// SPDX-License-Identifier: BSD-3-Clause
// The keys on the board, and messages larger than a value may be.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace torchkeep::board {

inline constexpr const char* kSave = "save";        ///< SaveBegin, of the leader
inline constexpr const char* kVerdict = "verdict";  ///< SaveVerdict, of the leader
inline constexpr const char* kFailure = "failure";  ///< a RankReport with an error: the newest
inline constexpr const char* kResume = "resume";    ///< ResumeChoice, of the leader
inline constexpr const char* kResumed = "resumed";  ///< ResumeVerdict, of the leader
inline constexpr const char* kMeet = "meet";        ///< MeetMessage, of the leader: a round
inline constexpr const char* kMet = "meet/final";   ///< MeetMessage, of the leader

std::string report(std::size_t rank);                       ///< head of a RankReport
std::string report_piece(std::size_t rank, std::size_t i);  ///< what the head has no room for
std::string hello(std::size_t rank);                        ///< Hello
std::string loaded(std::size_t rank);                       ///< ResumeReport
std::string meet_wish(std::size_t rank);                    ///< MeetMessage
std::string meet_answer(std::size_t rank);                  ///< MeetMessage

/// A message as values: the head first, which says how many pieces follow. Every value carries the token.
std::vector<std::string> split(std::string_view token, std::string_view message);
/// What a value of split() holds.
struct Part {
  std::string token;
  std::size_t pieces = 0;  ///< of a head: how many follow
  std::string_view bytes;
};
/// Throws Error (corrupt).
Part read_part(std::string_view value);

}  // namespace torchkeep::board
