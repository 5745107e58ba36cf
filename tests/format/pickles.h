// SPDX-License-Identifier: BSD-3-Clause
// Pickles written by hand, instruction by instruction.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <torchkeep/state/value.h>

#include "pickle/pickle.h"

namespace torchkeep::testing {

/// "\x80\x02" + the parts + ".".
inline std::string pickle_of(std::initializer_list<std::string_view> parts) {
  std::string pickle("\x80\x02", 2);
  for (const std::string_view part : parts) pickle += part;
  return pickle + ".";
}

inline std::string u32(std::uint32_t value) {
  return {reinterpret_cast<const char*>(&value), 4};
}
inline std::string u64(std::uint64_t value) {
  return {reinterpret_cast<const char*>(&value), 8};
}
/// BINUNICODE
inline std::string text(std::string_view content) {
  return "X" + u32(static_cast<std::uint32_t>(content.size())) + std::string(content);
}
/// BININT
inline std::string number(std::int32_t value) {
  return "J" + u32(static_cast<std::uint32_t>(value));
}

/// Runs a pickle. Every storage it names exists, in the size it names, and is all zeros.
inline Value run_pickle(std::string_view bytes, UnknownClasses unknown = UnknownClasses::refuse,
                        const Limits& limits = {}) {
  pickle::ReadContext context;
  context.where = {.file = "a.pt", .record = "data.pkl", .offset = {}, .key = {}};
  context.limits = limits;
  context.unknown_classes = unknown;
  context.load_storage = [](const pickle::StorageReference& reference) {
    auto storage = std::make_shared<OwnedStorage>(reference.nbytes);
    for (std::byte& byte : storage->mutable_bytes()) byte = std::byte{0};
    return pickle::LoadedStorage{storage, reference.dtype.value_or(DType::uint8)};
  };
  return pickle::read(as_bytes(bytes), context);
}

}  // namespace torchkeep::testing
