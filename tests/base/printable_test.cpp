// SPDX-License-Identifier: BSD-3-Clause
// Names of any bytes, shown.
#include <gtest/gtest.h>
#include <string>

#include <torchkeep/base/error.h>
#include <torchkeep/base/printable.h>

namespace torchkeep {
namespace {

TEST(Printable, UnicodeStaysAndWhatIsNoUtf8IsEscapedByteByByte) {
  EXPECT_EQ(printable("gewöhnlich 日本 🙂"), "gewöhnlich 日本 🙂");
  EXPECT_EQ(printable("caf\xe9"), "caf\\xe9");
  EXPECT_EQ(printable("cut \xf0\x9f\x99"), "cut \\xf0\\x9f\\x99");
  EXPECT_EQ(printable("\xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80"), "\\xed\\xa0\\x80 \\xc0\\x80 \\xf4\\x90\\x80\\x80");
}

TEST(Printable, NothingMovesTheCursorOrTurnsTheDirection) {
  EXPECT_EQ(printable("\x1b[2J\r\x7f"), "\\x1b[2J\\x0d\\x7f");
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b\xc2\x9b"),
            "a\\xe2\\x80\\xae"
            "b\\xc2\\x9b");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("a\tb\n"), "a\\tb\\n");
  EXPECT_EQ(printable("a\tb\n\r", Lines::keep), "a\tb\n\\x0d");
}

TEST(Printable, OfEveryPairOfBytesIsAFixedPoint) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string once = printable(std::string{static_cast<char>(a), static_cast<char>(b)});
      ASSERT_EQ(printable(once), once) << a << " " << b;
    }
  }
}

TEST(Printable, AnErrorShowsNamesAndKeepsTheirBytesInItsPlace) {
  const Error error(
      Code::corrupt, "expected 'a\x1b', found '\xff'\nand more",
      {.file = "caf\xe9/x\n.pt", .record = std::string("r\0\xe4", 3), .offset = 3, .key = "k\xed\xb2\x80"});
  EXPECT_STREQ(error.what(),
               "caf\\xe9/x\\n.pt: r\\x00\\xe4 at byte 3: key 'k\\xed\\xb2\\x80': expected 'a\\x1b', found '\\xff'\nand "
               "more");
  EXPECT_EQ(error.message(), "expected 'a\\x1b', found '\\xff'\nand more");
  EXPECT_EQ(error.where().file, "caf\xe9/x\n.pt");
  EXPECT_EQ(error.where().record, std::string("r\0\xe4", 3));
  EXPECT_STREQ(error.at({}).what(), error.what());
}

}  // namespace
}  // namespace torchkeep
