// SPDX-License-Identifier: BSD-3-Clause
// What ranks write on the board arrives as it was, or is refused.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <torchkeep/ranks/machine.h>
#include <torchkeep/ranks/report.h>

#include "support/expect_error.h"

namespace torchkeep {
namespace {

/// Every beginning of a message is an error, and so is a byte too many.
template <class Decode>
void expect_cuts_refused(const std::string& bytes, Decode decode) {
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(decode(std::string_view(bytes).substr(0, size)), Error) << size;
  }
  EXPECT_THROW(decode(bytes + "x"), Error);
}

TEST(RankMessages, AreTheSameAfterTheirBytes) {
  const RankReport report{.rank = 3, .token = "t", .host = "n1", .error = "e", .list = std::string("l\0", 2)};
  const RankReport same = decode_report(encode(report));
  EXPECT_EQ(same.rank, 3U);
  EXPECT_EQ(same.token + same.host + same.error, "tn1e");
  EXPECT_EQ(same.list, report.list);
  EXPECT_EQ(decode_save_begin(encode(SaveBegin{{7, "t"}, "e"})).checkpoint, (CheckpointId{7, "t"}));
  EXPECT_TRUE(decode_save_verdict(encode(SaveVerdict{.token = "t", .committed = true, .why = {}})).committed);
  const ResumeReport other{
      .attempt = 2, .kind = ResumeReport::Kind::another, .what = "w", .found = CheckpointId{1, "x"}};
  EXPECT_EQ(decode_resume_report(encode(other)).found, other.found);
  EXPECT_EQ(decode_resume_choice(encode(ResumeChoice{.attempt = 1, .checkpoint = {}, .error = "e"})).error, "e");
}

TEST(RankMessages, CutOnesAreRefused) {
  expect_cuts_refused(encode(RankReport{.token = "t", .list = "x"}), decode_report);
  expect_cuts_refused(encode(SaveBegin{{7, "t"}, "e"}), decode_save_begin);
  expect_cuts_refused(encode(SaveVerdict{.token = "t", .committed = true, .why = "w"}), decode_save_verdict);
  expect_cuts_refused(encode(Hello{"n", 3}), decode_hello);
  expect_cuts_refused(encode(ResumeChoice{.attempt = 1, .checkpoint = CheckpointId{1, "x"}, .error = {}}),
                      decode_resume_choice);
  expect_cuts_refused(encode(ResumeReport{.attempt = 1, .what = "w"}), decode_resume_report);
  expect_cuts_refused(encode(ResumeVerdict{.attempt = 1, .why = "w"}), decode_resume_verdict);
  expect_cuts_refused(encode(MeetMessage{.round = 1, .step = 2}), decode_meet_message);
}

TEST(RankMessages, HugeLengthsTakeNoMemory) {
  std::string bytes = encode(Hello{"n", 3});
  bytes.replace(4, 8, std::string(8, '\xff'));
  EXPECT_ERROR(decode_hello(bytes), Code::corrupt, "ends in the middle");
}

TEST(RankMessages, AnotherVersionOfTheProtocolIsNamed) {
  std::string bytes = encode(Hello{"n", 3});
  bytes[0] = 9;
  EXPECT_ERROR(decode_hello(bytes), Code::unsupported, "expected version 1 of the protocol between ranks, found 9");
}

TEST(DescribeRanks, JoinsRunsOfOneHostAndStopsInTime) {
  const std::vector<std::string> hosts{"a", "a", "b", "b", "b", "c"};
  EXPECT_EQ(describe_ranks(std::vector<std::size_t>{3}, hosts), "rank 3 (b)");
  EXPECT_EQ(describe_ranks(std::vector<std::size_t>{5, 1, 0, 2, 3}, hosts), "ranks 0-1 (a), 2-3 (b), 5 (c)");
  EXPECT_EQ(describe_ranks(std::vector<std::size_t>{7, 8}, {}), "ranks 7-8");
  std::vector<std::size_t> odd;
  for (std::size_t rank = 1; rank < 100; rank += 2) odd.push_back(rank);
  EXPECT_EQ(describe_ranks(odd, {}), "ranks 1, 3, 5, 7, 9, 11, 13, 15 and 42 more");
}

}  // namespace
}  // namespace torchkeep
