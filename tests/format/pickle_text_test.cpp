// SPDX-License-Identifier: BSD-3-Clause
// The text encodings of pickles, compared with what Python makes of the same bytes.
#include <gtest/gtest.h>

#include "pickle/text.h"

namespace torchkeep::pickle {
namespace {

TEST(PickleText, Utf8IsCheckedAsPythonsSurrogatepassDoes) {
  for (const char* good :
       {"", "ascii", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "eight bytes and \xc3\xa9 behind them"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x80\x80", "\xe0\x9f\xbf",
                          "\xe2\x82", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                          "\xff", "eight bytes and then \xe2\x82"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
  }
}

TEST(PickleText, Latin1GoesThereAndBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  const std::string text = latin1_to_utf8(bytes);
  EXPECT_TRUE(is_utf8(text));
  EXPECT_EQ(utf8_to_latin1(text), bytes);
  EXPECT_EQ(utf8_to_latin1("\xc4\x80"), std::nullopt);
  EXPECT_EQ(utf8_to_latin1("\xe6\x97\xa5"), std::nullopt);
}

TEST(PickleText, RawUnicodeEscapeFollowsPythonsRuleForBackslashes) {
  EXPECT_EQ(decode_raw_unicode_escape("a\\u0041"), "aA");
  EXPECT_EQ(decode_raw_unicode_escape("\\\\u0041"), "\\\\u0041");
  EXPECT_EQ(decode_raw_unicode_escape("\\\\\\u0041"), "\\\\A");
  EXPECT_EQ(decode_raw_unicode_escape("\\U0001f600"), "\xf0\x9f\x98\x80");
  EXPECT_EQ(decode_raw_unicode_escape("\\ud800"), "\xed\xa0\x80");
  EXPECT_EQ(decode_raw_unicode_escape("\\x41\xe9"), "\\x41\xc3\xa9");
  EXPECT_EQ(decode_raw_unicode_escape("\\u004"), std::nullopt);
  EXPECT_EQ(decode_raw_unicode_escape("\\U00110000"), std::nullopt);
}

TEST(PickleText, QuotedTextIsPythonTwosRepr) {
  EXPECT_EQ(decode_quoted("'a\\'b\\\\c'"), "a'b\\c");
  EXPECT_EQ(decode_quoted("\"it's\""), "it's");
  EXPECT_EQ(decode_quoted("'\\x00\\xff\\n\\t\\101'"), std::string("\0\xff\n\tA", 5));
  EXPECT_EQ(decode_quoted("'\\q'"), "\\q");
  EXPECT_EQ(decode_quoted("''"), "");
  EXPECT_EQ(decode_quoted("'"), std::nullopt);
  EXPECT_EQ(decode_quoted("'a\""), std::nullopt);
  EXPECT_EQ(decode_quoted("abc"), std::nullopt);
  EXPECT_EQ(decode_quoted("'\\xg0'"), std::nullopt);
  EXPECT_EQ(decode_quoted("'\\'"), std::nullopt);
}

}  // namespace
}  // namespace torchkeep::pickle
