// SPDX-License-Identifier: BSD-3-Clause
// What the ranks write on the board, as values and as bytes. All integers are little-endian; every message begins with
// the version of this protocol.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <torchkeep/ranks/machine.h>

namespace torchkeep {

/// Ranks of different versions of this protocol refuse each other by name.
inline constexpr std::uint32_t kRankProtocol = 1;

/// What a rank says of its part in a save.
struct RankReport {
  std::size_t rank = 0;  ///< whose it is
  std::string token{};
  std::string host{};
  std::string error{};  ///< why its part failed; empty: it is on stable storage
  std::string list{};   ///< what the index needs of this rank's file, for the one that writes it
};

std::string encode(const RankReport& report);
RankReport decode_report(std::string_view bytes);

/// A save begins; with an error, it ends before it began.
struct SaveBegin {
  CheckpointId checkpoint;
  std::string error;
};
std::string encode(const SaveBegin& begin);
SaveBegin decode_save_begin(std::string_view bytes);

/// How a save ended.
struct SaveVerdict {
  std::string token;
  bool committed = false;
  std::string why;  ///< of one that is not
};
std::string encode(const SaveVerdict& verdict);
SaveVerdict decode_save_verdict(std::string_view bytes);

/// A rank is there.
struct Hello {
  std::string host;
  std::uint64_t world = 0;
};
std::string encode(const Hello& hello);
Hello decode_hello(std::string_view bytes);

/// The leader has chosen; nothing: there is no checkpoint.
struct ResumeChoice {
  std::uint64_t attempt = 0;
  std::optional<CheckpointId> checkpoint;
  std::string error;           ///< why there is no choice
  Code code = Code::mismatch;  ///< of the error
};
std::string encode(const ResumeChoice& choice);
ResumeChoice decode_resume_choice(std::string_view bytes);

/// What a rank found of the leader's choice.
struct ResumeReport {
  enum class Kind : std::uint8_t { good, damaged, another, failed };
  std::uint64_t attempt = 0;
  Kind kind = Kind::good;
  std::string what;                     ///< damaged: which file, tensor, block; failed: the error
  std::optional<CheckpointId> found{};  ///< of `another`: the newest that this rank sees
};
std::string encode(const ResumeReport& report);
ResumeReport decode_resume_report(std::string_view bytes);

/// How an attempt to resume ended.
struct ResumeVerdict {
  enum class Kind : std::uint8_t { good, older, failed };
  std::uint64_t attempt = 0;
  Kind kind = Kind::good;
  std::string why;
  Code code = Code::mismatch;  ///< of a failure
};
std::string encode(const ResumeVerdict& verdict);
ResumeVerdict decode_resume_verdict(std::string_view bytes);

/// What ranks meet for.
enum class MeetPurpose : std::uint8_t { save, stop };

/// A step at which all ranks meet: wished for, proposed, answered, final.
struct MeetMessage {
  std::uint64_t round = 0;
  /// Proposed or final step; kNoStep: the leader asks where the ranks are, or the meeting is given up. Of an answer:
  /// the step that the rank has finished.
  std::int64_t step = kNoStep;
  bool late = false;  ///< of an answer: the rank has finished the proposed step already
  MeetPurpose purpose = MeetPurpose::save;
  std::string reason{};  ///< "SIGTERM at rank 3 (n1)"; why a meeting is given up
  static constexpr std::int64_t kNoStep = -1;
};
std::string encode(const MeetMessage& message);
MeetMessage decode_meet_message(std::string_view bytes);

}  // namespace torchkeep
