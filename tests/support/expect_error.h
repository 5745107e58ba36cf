// SPDX-License-Identifier: BSD-3-Clause
// Expects a statement to throw torchkeep::Error with a given code and text.
#pragma once

#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include <torchkeep/base/error.h>

/// EXPECT_ERROR(load("a.pt"), Code::not_found, "a.pt"): the statement throws Error with this code, and what()
/// contains the text. Put a statement with commas inside braces into parentheses.
#define EXPECT_ERROR(statement, code, text) \
  EXPECT_TRUE(::torchkeep::testing::throws_error([&] { statement; }, code, text)) << "statement: " #statement

namespace torchkeep::testing {

template <class Statement>
::testing::AssertionResult throws_error(Statement statement, Code code, std::string_view text) {
  const auto failure = [] { return ::testing::AssertionFailure(); };
  try {
    statement();
  } catch (const Error& error) {
    const std::string what = error.what();
    if (error.code() != code) {
      return failure() << "expected code " << to_string(code) << ", found " << to_string(error.code()) << ": " << what;
    }
    if (what.find(text) == std::string::npos) {
      return failure() << "expected a message with '" << text << "', found '" << what << "'";
    }
    return ::testing::AssertionSuccess();
  } catch (const std::exception& other) {
    return failure() << "expected torchkeep::Error, found another exception: " << other.what();
  }
  return failure() << "expected torchkeep::Error (" << to_string(code) << "), but nothing was thrown";
}

}  // namespace torchkeep::testing
