// SPDX-License-Identifier: BSD-3-Clause
// Integers of any size: two's complement bytes, and decimal text.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <vector>

#include <torchkeep/base/error.h>
#include <torchkeep/state/integer.h>

namespace torchkeep {
namespace {

// As Python's own limit: conversion between text and binary is quadratic in the number of digits.
constexpr std::size_t kMaxDigits = 4300;
constexpr std::uint32_t kBillion = 1'000'000'000;

// Little-endian limbs of the absolute value.
std::vector<std::uint32_t> magnitude(std::string_view twos_complement, bool negative) {
  std::string padded(twos_complement);
  padded.resize((padded.size() + 3) / 4 * 4, negative ? '\xff' : '\0');
  std::vector<std::uint32_t> limbs(padded.size() / 4);
  for (std::size_t i = 0; i < limbs.size(); ++i) std::memcpy(&limbs[i], padded.data() + 4 * i, 4);
  if (negative) {
    std::uint64_t carry = 1;
    for (auto& limb : limbs) {
      carry += static_cast<std::uint32_t>(~limb);
      limb = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) limbs.push_back(1);
  }
  return limbs;
}

std::string twos_complement_of(const std::vector<std::uint32_t>& limbs, bool negative) {
  std::string bytes(limbs.size() * 4 + 1, '\0');
  if (!limbs.empty()) std::memcpy(bytes.data(), limbs.data(), limbs.size() * 4);
  if (negative) {
    unsigned carry = 1;
    for (char& byte : bytes) {
      carry += static_cast<unsigned char>(~byte);
      byte = static_cast<char>(carry & 0xff);
      carry >>= 8;
    }
  }
  return bytes;
}

}  // namespace

Integer Integer::from_unsigned(std::uint64_t value) {
  std::string bytes(9, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return from_twos_complement(bytes);
}

Integer Integer::from_twos_complement(std::string_view bytes) {
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  const char fill = negative ? '\xff' : '\0';
  while (bytes.size() > 1 && bytes.back() == fill && ((bytes[bytes.size() - 2] & 0x80) != 0) == negative)
    bytes.remove_suffix(1);
  Integer integer;
  if (bytes.size() <= 8) {
    char word[8];
    std::memset(word, fill, sizeof word);
    if (!bytes.empty()) std::memcpy(word, bytes.data(), bytes.size());
    std::memcpy(&integer.small_, word, sizeof word);
  } else {
    integer.big_ = bytes;
  }
  return integer;
}

Integer Integer::from_decimal(std::string_view digits) {
  const std::string_view text = digits;
  const bool negative = !digits.empty() && digits.front() == '-';
  if (!digits.empty() && (digits.front() == '-' || digits.front() == '+')) digits.remove_prefix(1);
  const bool all_digits = std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits.empty() || !all_digits || digits.size() > kMaxDigits) {
    throw Error(Code::invalid_argument,
                fmt::format("expected an integer of at most {} digits, found '{}'", kMaxDigits, text.substr(0, 40)));
  }
  std::vector<std::uint32_t> limbs;
  for (const char digit : digits) {
    std::uint64_t carry = static_cast<std::uint64_t>(digit - '0');
    for (auto& limb : limbs) {
      carry += std::uint64_t{limb} * 10;
      limb = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) limbs.push_back(static_cast<std::uint32_t>(carry));
  }
  return from_twos_complement(twos_complement_of(limbs, negative));
}

std::optional<std::int64_t> Integer::to_int64() const noexcept {
  if (!big_.empty()) return std::nullopt;
  return small_;
}

std::optional<std::uint64_t> Integer::to_uint64() const noexcept {
  if (is_negative() || big_.size() > 9 || (big_.size() == 9 && big_.back() != 0)) return std::nullopt;
  if (big_.empty()) return static_cast<std::uint64_t>(small_);
  std::uint64_t value = 0;
  std::memcpy(&value, big_.data(), 8);
  return value;
}

double Integer::to_double() const {
  if (big_.empty()) return static_cast<double>(small_);
  if (big_.size() > 130)
    return is_negative() ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  // from_chars rounds to nearest even, which summing limbs would not.
  const std::string text = to_decimal();
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc::result_out_of_range)
    value = std::numeric_limits<double>::infinity() * (is_negative() ? -1 : 1);
  return value;
}

bool Integer::is_negative() const noexcept {
  return big_.empty() ? small_ < 0 : (big_.back() & 0x80) != 0;
}

std::string Integer::to_twos_complement() const {
  if (!big_.empty()) return big_;
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &small_, 8);
  const char fill = small_ < 0 ? '\xff' : '\0';
  while (bytes.size() > 1 && bytes.back() == fill && ((bytes[bytes.size() - 2] & 0x80) != 0) == (small_ < 0))
    bytes.pop_back();
  if (small_ == 0) bytes.clear();
  return bytes;
}

std::string Integer::to_decimal() const {
  if (big_.empty()) return fmt::format("{}", small_);
  if (big_.size() * 5 > kMaxDigits * 2) return fmt::format("an integer of {} bytes", big_.size());
  std::vector<std::uint32_t> limbs = magnitude(big_, is_negative());
  std::string reversed;
  while (!limbs.empty()) {
    std::uint64_t rest = 0;
    for (std::size_t i = limbs.size(); i-- > 0;) {
      rest = (rest << 32) | limbs[i];
      limbs[i] = static_cast<std::uint32_t>(rest / kBillion);
      rest %= kBillion;
    }
    while (!limbs.empty() && limbs.back() == 0) limbs.pop_back();
    for (int i = 0; i < 9; ++i, rest /= 10) reversed += static_cast<char>('0' + rest % 10);
  }
  while (reversed.size() > 1 && reversed.back() == '0') reversed.pop_back();
  if (is_negative()) reversed += '-';
  return {reversed.rbegin(), reversed.rend()};
}

}  // namespace torchkeep
