// SPDX-License-Identifier: BSD-3-Clause
// The text of an Error: where first, then what; parts that do not apply leave no trace.
#include <cerrno>
#include <gtest/gtest.h>
#include <set>
#include <string>

#include <torchkeep/base/error.h>

namespace torchkeep {
namespace {

TEST(Error, SaysFileRecordOffsetThenMessageInOneLine) {
  const Error error(Code::refused, "refused global 'os.system'",
                    {.file = "runs/a/step-00000400.pt", .record = "data.pkl", .offset = 499, .key = {}});
  EXPECT_STREQ(error.what(), "runs/a/step-00000400.pt: data.pkl at byte 499: refused global 'os.system'");
}

TEST(Error, LeavesOutEveryPartThatIsEmpty) {
  const auto text = [](Where where) { return std::string(Error(Code::corrupt, "broken", std::move(where)).what()); };
  EXPECT_EQ(text({}), "broken");
  EXPECT_EQ(text({.file = "a.pt", .record = {}, .offset = {}, .key = {}}), "a.pt: broken");
  EXPECT_EQ(text({.file = "a.pt", .record = {}, .offset = 7, .key = {}}), "a.pt at byte 7: broken");
  EXPECT_EQ(text({.file = {}, .record = {}, .offset = 0, .key = {}}), "at byte 0: broken");
  EXPECT_EQ(text({.file = {}, .record = "data/0", .offset = 7, .key = {}}), "data/0 at byte 7: broken");
  EXPECT_EQ(text({.file = {}, .record = {}, .offset = {}, .key = "state.0"}), "key 'state.0': broken");
  EXPECT_EQ(text({.file = "a.pt", .record = {}, .offset = {}, .key = "state.0"}), "a.pt: key 'state.0': broken");
}

TEST(Error, KeepsCodeMessageAndPlaceApart) {
  const Where where{.file = "a.pt", .record = "data.pkl", .offset = 3, .key = "epoch"};
  const Error error(Code::mismatch, "expected an int", where);
  EXPECT_EQ(error.code(), Code::mismatch);
  EXPECT_EQ(error.message(), "expected an int");
  EXPECT_EQ(error.where(), where);
  EXPECT_EQ(error.system_error(), 0);
}

TEST(Error, AtFillsOnlyWhatWasEmpty) {
  const Error inner(Code::corrupt, "broken", {.file = {}, .record = "data.pkl", .offset = 9, .key = {}});
  const Error outer = inner.at({.file = "a.pt", .record = "version", .offset = 1, .key = "model"});
  EXPECT_EQ(outer.where(), (Where{.file = "a.pt", .record = "data.pkl", .offset = 9, .key = "model"}));
  EXPECT_STREQ(outer.what(), "a.pt: data.pkl at byte 9: key 'model': broken");
  EXPECT_EQ(outer.code(), Code::corrupt);
  EXPECT_STREQ(inner.what(), "data.pkl at byte 9: broken") << "at() must not change the error it was called on";
}

TEST(Error, FromErrnoNamesTheActionAndKeepsTheNumber) {
  const Error error = Error::from_errno(ENOSPC, "write", {.file = "a.pt", .record = {}, .offset = {}, .key = {}});
  EXPECT_EQ(error.code(), Code::io);
  EXPECT_EQ(error.system_error(), ENOSPC);
  EXPECT_STREQ(error.what(), "a.pt: cannot write: No space left on device");
}

TEST(Error, FromErrnoOfAMissingFileIsNotFound) {
  EXPECT_EQ(Error::from_errno(ENOENT, "open").code(), Code::not_found);
  EXPECT_EQ(Error::from_errno(EACCES, "open").code(), Code::io);
}

TEST(Error, AtKeepsTheSystemError) {
  const Error error = Error::from_errno(EIO, "sync").at({.file = "a.pt", .record = {}, .offset = {}, .key = {}});
  EXPECT_EQ(error.system_error(), EIO);
  EXPECT_STREQ(error.what(), "a.pt: cannot sync: Input/output error");
}

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (const Code code : {Code::not_found, Code::corrupt, Code::unsupported, Code::refused, Code::mismatch, Code::io,
                          Code::busy, Code::invalid_argument}) {
    names.insert(to_string(code));
  }
  EXPECT_EQ(names.size(), 8U);
  EXPECT_EQ(names.count("unknown"), 0U);
  EXPECT_EQ(to_string(Code::invalid_argument), "invalid_argument");
}

TEST(Error, IsCaughtAsAStandardException) {
  const auto fail = [] { throw Error(Code::busy, "another process writes here"); };
  EXPECT_THROW(fail(), std::runtime_error);
}

}  // namespace
}  // namespace torchkeep
