// SPDX-License-Identifier: BSD-3-Clause
// Integers of any size, against values computed by Python.
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include <torchkeep/base/error.h>
#include <torchkeep/state/integer.h>

namespace torchkeep {
namespace {

TEST(Integer, DecimalTextAndTwosComplementAgreeWithPython) {
  struct Row {
    const char* decimal;
    std::string bytes;  // int.to_bytes(..., 'little', signed=True), shortest
  };
  using namespace std::string_literals;
  const Row rows[] = {
      {"0", ""s},
      {"1", "\x01"s},
      {"-1", "\xff"s},
      {"127", "\x7f"s},
      {"128", "\x80\x00"s},
      {"-128", "\x80"s},
      {"-129", "\x7f\xff"s},
      {"255", "\xff\x00"s},
      {"9223372036854775807", "\xff\xff\xff\xff\xff\xff\xff\x7f"s},
      {"-9223372036854775808", "\x00\x00\x00\x00\x00\x00\x00\x80"s},
      {"9223372036854775808", "\x00\x00\x00\x00\x00\x00\x00\x80\x00"s},
      {"-9223372036854775809", "\xff\xff\xff\xff\xff\xff\xff\x7f\xff"s},
      {"18446744073709551615", "\xff\xff\xff\xff\xff\xff\xff\xff\x00"s},
      {"1208925819614629174706176", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"s},
      {"-1208925819614629174706176", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff"s},
  };
  for (const Row& row : rows) {
    const Integer parsed = Integer::from_decimal(row.decimal);
    EXPECT_EQ(parsed.to_twos_complement(), row.bytes) << row.decimal;
    EXPECT_EQ(Integer::from_twos_complement(row.bytes), parsed) << row.decimal;
    EXPECT_EQ(parsed.to_decimal(), row.decimal);
  }
}

TEST(Integer, LongerThanNeededBytesAreTheSameNumber) {
  EXPECT_EQ(Integer::from_twos_complement(std::string("\x05\0\0\0\0\0\0\0\0\0\0\0", 12)), Integer(5));
  EXPECT_EQ(Integer::from_twos_complement(std::string(20, '\xff')), Integer(-1));
}

TEST(Integer, KnowsWhatFitsInto64Bits) {
  EXPECT_EQ(Integer::from_unsigned(~0ull).to_uint64(), ~0ull);
  EXPECT_FALSE(Integer::from_unsigned(~0ull).to_int64());
  EXPECT_EQ(Integer::from_unsigned(7).to_int64(), 7);
  EXPECT_FALSE(Integer(-1).to_uint64());
  EXPECT_FALSE(Integer::from_decimal("18446744073709551616").to_uint64());
}

TEST(Integer, RoundsToTheNearestDouble) {
  EXPECT_EQ(Integer::from_decimal("9007199254740993").to_double(), 9007199254740992.0);
  EXPECT_EQ(Integer::from_decimal("36893488147419103233").to_double(), 36893488147419103232.0);
  EXPECT_TRUE(std::isinf(Integer::from_decimal("1" + std::string(400, '0')).to_double()));
  EXPECT_EQ(Integer::from_decimal("-1" + std::string(400, '0')).to_double(), -std::numeric_limits<double>::infinity());
}

TEST(Integer, RefusesTextThatIsNoInteger) {
  for (const char* text : {"", "-", "1.5", "0x10", " 1", "1 ", "--1"})
    EXPECT_THROW(Integer::from_decimal(text), Error) << text;
  EXPECT_THROW(Integer::from_decimal(std::string(5000, '9')), Error);
}

}  // namespace
}  // namespace torchkeep
