// SPDX-License-Identifier: BSD-3-Clause
// JSON, written as it comes: docs/cli-json.md describes what each command writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include <torchkeep/state/hash.h>
#include <torchkeep/state/statistics.h>
#include <torchkeep/state/value.h>

#include "output.h"

namespace torchkeep::cli {

/// Writes one JSON text to an output, indented by two blanks down to a depth and on one line below it.
class JsonWriter {
 public:
  explicit JsonWriter(Output& out) : out_(out) {}
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;

  /// "schema" is the first member of every object at the top: "torchkeep.ls/1".
  void begin_document(std::string_view schema);
  void end_document();

  void begin_object() { begin('{'); }
  void end_object() { end('}'); }
  void begin_array() { begin('['); }
  void end_array() { end(']'); }
  void key(std::string_view name);

  void null() { raw("null"); }
  void text(std::string_view text);
  /// NaN and infinities, which JSON does not have, are the texts "NaN", "Infinity", "-Infinity".
  void number(double number);
  template <class T>
  requires std::is_integral_v<T>
  void number(T number) { raw(std::to_string(number)); }
  void boolean(bool value) { raw(value ? "true" : "false"); }

  /// A member: key and value.
  void member(std::string_view name, std::string_view text) { key(name), this->text(text); }
  void member(std::string_view name, const char* text) { key(name), this->text(text); }
  void member(std::string_view name, bool value) { key(name), boolean(value); }
  template <class T>
  requires std::is_arithmetic_v<T>
  void member(std::string_view name, T number) { key(name), this->number(number); }
  void member(std::string_view name, const std::vector<std::int64_t>& numbers);
  void member(std::string_view name, const std::vector<std::string>& texts);

 private:
  void begin(char bracket);
  void end(char bracket);
  void raw(std::string_view text);
  void separate();
  void new_line();

  Output& out_;
  std::size_t depth_ = 0;
  bool first_ = true;  // nothing was written in this container
  bool after_key_ = false;
};

/// The numbers that nodes of one text were given.
struct NodeIds {
  std::unordered_map<const void*, std::size_t> objects;   ///< by Value::id()
  std::unordered_map<std::uint64_t, std::size_t> labels;  ///< by Value::label()
  std::unordered_map<const void*, std::size_t> storages;  ///< by Storage::identity()
};

/// What write_node() adds to tensors.
struct NodeOptions {
  /// Goes on with these, where several nodes stand in one text: what was written in one is a "ref" in the next.
  NodeIds* ids = nullptr;
  /// Digests of elements by the tensor's node; null: none are written.
  const std::unordered_map<const void*, Digest>* sha256 = nullptr;
  bool statistics = false;
  unsigned bins = 0;  ///< of the histogram in the statistics
};

/// A Value as a tree of nodes, {"t": "dict", "id": 0, "v": [[key, value], ...]}, with an explicit stack.
void write_node(JsonWriter& json, const Value& value, const NodeOptions& options = {});
/// A value as plain JSON where JSON has it (numbers, texts, booleans, null, lists of them), else as a node.
/// `ids`: see NodeOptions.
void write_plain(JsonWriter& json, const Value& value, NodeIds* ids = nullptr);
/// Whether a value without an identity of its own (a text, an int, a tuple) takes more room than a reference to it: a
/// file may repeat it 100,000 times.
bool is_long(const Value& value);
/// The members of a tensor's statistics as an object.
void write_statistics(JsonWriter& json, const Statistics& statistics);

}  // namespace torchkeep::cli
