// SPDX-License-Identifier: BSD-3-Clause
// Parses the header with nlohmann-json's event interface: nothing is built but the entries themselves.
#include "header.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include <torchkeep/base/hash.h>

namespace torchkeep::safetensors {
namespace {

using Json = nlohmann::json;

// The author of a file must not know which names collide.
struct TextHash {
  std::uint64_t seed = detail::hash_seed();
  std::size_t operator()(const std::string& text) const noexcept { return detail::hash_text(text, seed); }
};

// A forward iterator over the text that shows how far the parser has come.
class Cursor {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor() = default;
  Cursor(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }
  bool operator!=(const Cursor& other) const { return at_ != other.at_; }

 private:
  const char* at_ = nullptr;
  const char** seen_ = nullptr;
};

// Receives the parser's events. What may come next is the state; a value nobody asked for is passed over by depth.
class Events final : public nlohmann::json_sax<Json> {
 public:
  Events(std::string_view json, const std::string& file, const SafetensorsReadOptions& options)
      : json_(json), file_(file), options_(options), seen_(json.data()) {}

  Header run() {
    Json::sax_parse(Cursor(json_.data(), &seen_), Cursor(json_.data() + json_.size(), &seen_), this);
    return std::move(header_);
  }

  bool null() override {
    return scalar(State::metadata, "null", [] {});
  }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(Json::number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(Json::number_float_t, const std::string&) override {
    return unexpected("a fraction, or a number beyond 64 bits");
  }
  bool binary(Json::binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(Json::number_unsigned_t number) override {
    if (state_ == State::dimensions) {
      entry_.shape.push_back(number);
    } else if (state_ == State::offsets && offset_count_ < 2) {
      (offset_count_++ == 0 ? entry_.begin : entry_.end) = number;
    } else {
      return unexpected("a number");
    }
    return true;
  }

  bool string(std::string& text) override {
    if (state_ == State::metadata_value) {
      set_metadata(std::move(text));
      state_ = State::metadata_keys;
      return true;
    }
    return scalar(State::dtype, "a text", [&] { entry_.dtype = std::move(text); });
  }

  bool start_object(std::size_t) override {
    deeper();
    if (state_ == State::start)
      state_ = State::names;
    else if (state_ == State::metadata)
      state_ = State::metadata_keys;
    else if (state_ == State::entry)
      state_ = State::fields;
    else
      return enter_ignored("an object");
    return true;
  }

  bool end_object() override {
    --depth_;
    if (leave_ignored()) return true;
    if (state_ == State::fields) finish_entry();
    state_ = state_ == State::names ? State::end : State::names;
    return true;
  }

  bool start_array(std::size_t) override {
    deeper();
    if (state_ == State::shape)
      state_ = State::dimensions;
    else if (state_ == State::offsets_array)
      state_ = State::offsets;
    else
      return enter_ignored("an array");
    return true;
  }

  bool end_array() override {
    --depth_;
    if (leave_ignored()) return true;
    if (state_ == State::offsets && offset_count_ != 2) return unexpected("fewer than two data_offsets");
    state_ = State::fields;
    return true;
  }

  bool key(std::string& name) override {
    if (ignored_ != 0) return true;
    if (state_ == State::names) {
      start_entry(std::move(name));
    } else if (state_ == State::metadata_keys) {
      metadata_key_ = std::move(name);
      state_ = State::metadata_value;
    } else {
      field(name);
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error while ...: invalid literal ..."
    std::string_view what = error.what();
    if (const auto at = what.find("; "); at != std::string_view::npos) what = what.substr(0, at);
    if (const auto at = what.find("while "); at != std::string_view::npos) what = what.substr(at);
    fail(fmt::format("the header is not JSON: {}", what));
  }

 private:
  enum class State : std::uint8_t {
    start,           // before the header's {
    names,           // names of tensors
    entry,           // before a tensor's {
    fields,          // its fields
    dtype,           // before the text
    shape,           // before the [
    dimensions,      // inside it
    offsets_array,   // before the [
    offsets,         // inside it
    ignored,         // before the value of a field that the format does not know
    metadata,        // before the {
    metadata_keys,   // inside it
    metadata_value,  // before a text
    end,             // behind the header's }
  };
  enum Field : unsigned { kDtype = 1, kShape = 2, kOffsets = 4 };

  [[noreturn]] void fail(std::string message, Code code = Code::corrupt) const {
    const auto place = static_cast<std::uint64_t>(seen_ - json_.data());
    throw Error(code, std::move(message),
                {.file = file_, .record = {}, .offset = kLengthSize + place, .key = entry_.name});
  }

  std::string_view expected() const {
    switch (state_) {
      case State::start:
        return "the header to be an object";
      case State::entry:
        return "an object with dtype, shape and data_offsets";
      case State::dtype:
        return "a text for dtype";
      case State::shape:
        return "an array for shape";
      case State::dimensions:
        return "sizes of 0 to 2^64 - 1 in shape";
      case State::offsets_array:
      case State::offsets:
        return "data_offsets of two numbers";
      default:
        return "an object of texts as __metadata__";
    }
  }

  bool unexpected(std::string_view found) {
    if (pass_over()) return true;
    fail(fmt::format("expected {}, found {}", expected(), found));
  }

  // A scalar value: taken in state `wanted`, passed over where nobody knows the field.
  template <class Take>
  bool scalar(State wanted, std::string_view found, Take&& take) {
    if (ignored_ != 0 || state_ != wanted) return unexpected(found);
    take();
    state_ = wanted == State::metadata ? State::names : State::fields;
    return true;
  }

  // True for a scalar inside, or as, an unknown field.
  bool pass_over() {
    if (ignored_ != 0) return true;
    if (state_ != State::ignored) return false;
    state_ = State::fields;
    return true;
  }

  bool enter_ignored(std::string_view found) {
    if (ignored_ == 0 && state_ != State::ignored) return unexpected(found);
    if (ignored_ == 0) ignored_ = depth_;
    return true;
  }

  bool leave_ignored() {
    if (ignored_ == 0) return false;
    if (depth_ < ignored_) {
      ignored_ = 0;
      state_ = State::fields;
    }
    return true;
  }

  void deeper() {
    if (++depth_ > options_.max_depth) {
      fail(fmt::format("the header nests deeper than the limit of {}", options_.max_depth), Code::refused);
    }
  }

  void start_entry(std::string name) {
    entry_ = {};
    entry_.name = std::move(name);
    entry_.place = kLengthSize + static_cast<std::uint64_t>(seen_ - json_.data());
    if (!names_.insert(entry_.name).second) fail("the name stands in the header twice");
    fields_ = 0;
    offset_count_ = 0;
    state_ = entry_.name == "__metadata__" ? State::metadata : State::entry;
  }

  void field(const std::string& name) {
    const auto begin = [&](Field field, State state) {
      if ((fields_ & field) != 0) fail(fmt::format("{} stands in the entry twice", name));
      fields_ |= field;
      state_ = state;
    };
    if (name == "dtype")
      begin(kDtype, State::dtype);
    else if (name == "shape")
      begin(kShape, State::shape);
    else if (name == "data_offsets")
      begin(kOffsets, State::offsets_array);
    else
      state_ = State::ignored;
  }

  void finish_entry() {
    for (const auto& [field, name] : {std::pair(kDtype, "dtype"), {kShape, "shape"}, {kOffsets, "data_offsets"}}) {
      if ((fields_ & field) == 0) fail(fmt::format("the entry has no {}", name));
    }
    header_.entries.push_back(std::move(entry_));
    entry_ = {};
  }

  void set_metadata(std::string text) {
    const auto [known, is_new] = metadata_places_.emplace(metadata_key_, header_.metadata.size());
    if (is_new)
      header_.metadata.emplace_back(std::move(metadata_key_), std::move(text));
    else
      header_.metadata[known->second].second = std::move(text);
  }

  std::string_view json_;
  const std::string& file_;
  const SafetensorsReadOptions& options_;
  const char* seen_;  // how far the parser has come
  Header header_;
  State state_ = State::start;
  unsigned depth_ = 0;
  unsigned ignored_ = 0;  // depth of the outermost container that is passed over; 0: none
  Entry entry_;
  unsigned fields_ = 0;        // of entry_, seen so far
  unsigned offset_count_ = 0;  // of entry_, seen so far
  std::unordered_set<std::string, TextHash> names_;
  std::string metadata_key_;
  std::unordered_map<std::string, std::size_t, TextHash> metadata_places_;
};

}  // namespace

Header parse_header(std::string_view json, const std::string& file, const SafetensorsReadOptions& options) {
  const auto fail = [&](std::string_view message, std::size_t at) {
    throw Error(Code::corrupt, std::string(message),
                {.file = file, .record = {}, .offset = kLengthSize + at, .key = {}});
  };
  // Two things that the parser lets pass: it takes a NUL for the end of the text, and skips a byte order mark.
  if (const auto nul = json.find('\0'); nul != std::string_view::npos) fail("a NUL byte in the header", nul);
  if (json.starts_with("\xef\xbb\xbf")) fail("the header begins with a byte order mark", 0);
  return Events(json, file, options).run();
}

}  // namespace torchkeep::safetensors
