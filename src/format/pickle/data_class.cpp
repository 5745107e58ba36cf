// SPDX-License-Identifier: BSD-3-Clause
// The table of classes that are data, and their objects as plain data. What is not exactly as Python pickles an object
// of the class stays an object: a guess could be wrong, and nothing here is worth one.
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <iterator>
#include <string>

#include <torchkeep/format/data_class.h>

namespace torchkeep {
namespace {

using Shape = DataShape;
using Maybe = std::optional<Value>;

constexpr DataClass kTable[] = {
    {"UserDict", "IterableUserDict", Shape::wrapped, false, "data"},  // as protocol 2 calls collections.UserDict
    {"UserList", "UserList", Shape::wrapped, false, "data"},
    {"addict.addict", "Dict", Shape::entries},
    {"argparse", "Namespace", Shape::attributes, true},
    {"builtins", "range", Shape::span, true},
    {"builtins", "slice", Shape::span, true},
    {"builtins", "xrange", Shape::span, true},
    {"collections", "UserDict", Shape::wrapped, false, "data"},
    {"collections", "UserList", Shape::wrapped, false, "data"},
    {"collections", "defaultdict", Shape::default_dict, true},
    {"collections", "deque", Shape::deque, true},
    {"datetime", "date", Shape::date, true},
    {"datetime", "datetime", Shape::date_time, true},
    {"datetime", "time", Shape::time, true},
    {"datetime", "timedelta", Shape::time_delta, true},
    {"datetime", "timezone", Shape::time_zone, true},
    {"decimal", "Decimal", Shape::decimal, true},
    {"detectron2.config.config", "CfgNode", Shape::entries},
    {"easydict", "EasyDict", Shape::entries},
    {"fractions", "Fraction", Shape::fraction, true},
    {"fvcore.common.config", "CfgNode", Shape::entries},
    {"lightning.fabric.utilities.data", "AttributeDict", Shape::entries},
    {"lightning.pytorch.utilities.parsing", "AttributeDict", Shape::entries},
    {"lightning_fabric.utilities.data", "AttributeDict", Shape::entries},
    {"ml_collections.config_dict.config_dict", "ConfigDict", Shape::wrapped, false, "_fields"},
    {"mmcv.utils.config", "ConfigDict", Shape::entries},
    {"mmengine.config.config", "ConfigDict", Shape::entries},
    {"munch", "Munch", Shape::entries},
    {"nt", "uname_result", Shape::record},
    {"omegaconf.dictconfig", "DictConfig", Shape::wrapped, false, "_content"},
    {"omegaconf.listconfig", "ListConfig", Shape::wrapped, false, "_content"},
    {"omegaconf.nodes", "AnyNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "BooleanNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "BytesNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "EnumNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "FloatNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "IntegerNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "PathNode", Shape::wrapped, false, "_val"},
    {"omegaconf.nodes", "StringNode", Shape::wrapped, false, "_val"},
    {"os", "terminal_size", Shape::record},
    {"os", "uname_result", Shape::record},
    {"pathlib", "PosixPath", Shape::posix_path, true},
    {"pathlib", "PurePosixPath", Shape::posix_path, true},
    {"pathlib", "PureWindowsPath", Shape::windows_path, true},
    {"pathlib", "WindowsPath", Shape::windows_path, true},
    {"pathlib._local", "PosixPath", Shape::posix_path, true},
    {"pathlib._local", "PurePosixPath", Shape::posix_path, true},
    {"pathlib._local", "PureWindowsPath", Shape::windows_path, true},
    {"pathlib._local", "WindowsPath", Shape::windows_path, true},
    {"platform", "uname_result", Shape::fields},
    {"posix", "sched_param", Shape::record},
    {"posix", "stat_result", Shape::record},
    {"posix", "statvfs_result", Shape::record},
    {"posix", "terminal_size", Shape::record},
    {"posix", "times_result", Shape::record},
    {"posix", "uname_result", Shape::record},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", Shape::entries},
    {"time", "struct_time", Shape::record},
    {"torch.return_types", "*", Shape::record},
    {"torch.torch_version", "TorchVersion", Shape::string},
    {"types", "SimpleNamespace", Shape::attributes, true},
    {"uuid", "UUID", Shape::uuid, true},
    {"yacs.config", "CfgNode", Shape::entries},
};

constexpr bool before(const DataClass& a, const DataClass& b) {
  return a.module != b.module ? a.module < b.module : a.name < b.name;
}
static_assert(std::is_sorted(std::begin(kTable), std::end(kTable), before));

// Of one text that is put together from parts, of which a file can repeat any as often as it likes.
constexpr std::size_t kMaxTextBytes = 65536;

constexpr std::int64_t kMicroseconds = 1'000'000;
constexpr std::int64_t kSecondsPerDay = 86400;
constexpr std::int64_t kMaxDays = 999'999'999;

std::span<const Value> arguments(const Opaque& object) {
  return object.args.is(Kind::tuple) ? object.args.elements() : std::span<const Value>();
}

bool is_empty_mapping(const Value& value) {
  return value.is_none() || (value.is_mapping() && value.empty());
}

// Nothing was added to the object after it was made.
bool is_only_made(const Opaque& object) {
  return is_empty_mapping(object.kwargs) && is_empty_mapping(object.state) && object.list_items.empty() &&
         object.dict_items.empty();
}

bool is_string(const Value& value) {
  return value.is(Kind::string);
}

std::optional<std::int64_t> to_number(const Value& value) {
  return value.is(Kind::integer) ? value.as_integer().to_int64() : std::nullopt;
}

bool is_number_in(const Value& value, std::int64_t least, std::int64_t most) {
  const auto number = to_number(value);
  return number && *number >= least && *number <= most;
}

bool has_string_keys(const Value& dict) {
  const auto items = dict.items();
  return std::all_of(items.begin(), items.end(), [](const Entry& entry) { return is_string(entry.key); });
}

// argparse.Namespace() and then its attributes.
Maybe attributes(const Opaque& object) {
  if (!arguments(object).empty() || !is_empty_mapping(object.kwargs) || !object.list_items.empty() ||
      !object.dict_items.empty()) {
    return std::nullopt;
  }
  if (object.state.is_none()) return Value::mapping(Kind::dict);
  if (!object.state.is(Kind::dict) || !has_string_keys(object.state)) return std::nullopt;
  return object.state;
}

// Path('/', 'a', 'b')
Maybe path(const Opaque& object, char separator) {
  if (!is_only_made(object)) return std::nullopt;
  std::string joined;
  for (const Value& part : arguments(object)) {
    if (!is_string(part) || joined.size() + part.size() >= kMaxTextBytes) return std::nullopt;
    const bool is_drive = separator == '\\' && joined.size() == 2 && joined[1] == ':';
    if (!joined.empty() && joined.back() != separator && !is_drive) joined += separator;
    joined += part.as_string();
  }
  return Value::string(joined.empty() ? "." : joined);
}

/// A time of day, or a date and one, as Python packs them into bytes.
class Packed {
 public:
  // Bytes, or what Python 2 took for a text.
  Packed(const Value& value, std::size_t size) {
    if (value.is(Kind::bytes)) bytes_ = value.as_bytes();
    if (is_string(value)) bytes_ = value.as_string();
    fits_ = bytes_.size() == size;
  }
  bool fits() const noexcept { return fits_; }
  int at(std::size_t i) const noexcept { return static_cast<unsigned char>(bytes_[i]); }

  std::optional<std::string> date() const {
    const int year = at(0) * 256 + at(1), month = at(2), day = at(3);
    if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > days_of(year, month))
      return std::nullopt;
    return fmt::format("{:04}-{:02}-{:02}", year, month, day);
  }
  std::optional<std::string> time(std::size_t from) const {
    const int hour = at(from), minute = at(from + 1), second = at(from + 2);
    const int micro = (at(from + 3) * 256 + at(from + 4)) * 256 + at(from + 5);
    if (hour > 23 || minute > 59 || second > 59 || micro >= kMicroseconds) return std::nullopt;
    const std::string text = fmt::format("{:02}:{:02}:{:02}", hour, minute, second);
    return micro == 0 ? text : fmt::format("{}.{:06}", text, micro);
  }

 private:
  static int days_of(int year, int month) noexcept {
    constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return kDays[static_cast<std::size_t>(month) - 1] + (month == 2 && is_leap ? 1 : 0);
  }

  std::string bytes_;
  bool fits_ = false;
};

// The parts of a timedelta: it may be plain data already.
std::optional<std::array<std::int64_t, 3>> time_delta_parts(const Value& value) {
  const bool is_object = value.is(Kind::opaque);
  if (is_object) {
    const DataClass* row = data_class_of(value.as_opaque());
    if (row == nullptr || row->shape != Shape::time_delta || !is_only_made(value.as_opaque())) return std::nullopt;
  }
  const Value& tuple = is_object ? value.as_opaque().args : value;
  if (!tuple.is(Kind::tuple) || tuple.size() != 3) return std::nullopt;
  const auto parts = tuple.elements();
  if (!is_number_in(parts[0], -kMaxDays, kMaxDays) || !is_number_in(parts[1], 0, kSecondsPerDay - 1) ||
      !is_number_in(parts[2], 0, kMicroseconds - 1)) {
    return std::nullopt;
  }
  return std::array{*to_number(parts[0]), *to_number(parts[1]), *to_number(parts[2])};
}

Maybe time_delta(const Opaque& object) {
  if (!is_only_made(object) || !time_delta_parts(object.args)) return std::nullopt;
  return object.args;
}

// "+01:00": what stands behind a time, and behind "UTC" in a time zone's name.
std::optional<std::string> offset_text(const std::array<std::int64_t, 3>& delta) {
  const std::int64_t all = (delta[0] * kSecondsPerDay + delta[1]) * kMicroseconds + delta[2];
  const std::int64_t size = all < 0 ? -all : all;
  if (size >= kSecondsPerDay * kMicroseconds) return std::nullopt;
  const std::int64_t seconds = size / kMicroseconds;
  std::string text = fmt::format("{}{:02}:{:02}", all < 0 ? '-' : '+', seconds / 3600, seconds / 60 % 60);
  if (size % (60 * kMicroseconds) != 0) text += fmt::format(":{:02}", seconds % 60);
  if (size % kMicroseconds != 0) text += fmt::format(".{:06}", size % kMicroseconds);
  return text;
}

// Of a time zone, which may be plain data already. One with a name of its own stays an object.
std::optional<std::string> zone_offset(const Value& zone) {
  if (is_string(zone)) {
    const std::string& name = zone.as_string();
    if (name == "UTC") return "+00:00";
    return name.starts_with("UTC") ? std::optional(name.substr(3)) : std::nullopt;
  }
  if (!zone.is(Kind::opaque)) return std::nullopt;
  const DataClass* row = data_class_of(zone.as_opaque());
  const bool is_zone = row != nullptr && row->shape == Shape::time_zone && is_only_made(zone.as_opaque());
  if (!is_zone || arguments(zone.as_opaque()).size() != 1) return std::nullopt;
  const auto delta = time_delta_parts(arguments(zone.as_opaque())[0]);
  return delta ? offset_text(*delta) : std::nullopt;
}

Maybe time_zone(const Opaque& object) {
  const auto args = arguments(object);
  if (!is_only_made(object) || args.size() != 1) return std::nullopt;
  const auto delta = time_delta_parts(args[0]);
  const auto text = delta ? offset_text(*delta) : std::nullopt;
  if (!text) return std::nullopt;
  return Value::string(*text == "+00:00" ? "UTC" : "UTC" + *text);
}

// Bytes, and the time zone where there is one. (The highest bit of the hour or month says "the second time this hour
// passes", for which ISO 8601 has no sign: the ranges leave it out.)
Maybe packed(const Opaque& object, std::size_t size, bool has_date, bool has_time) {
  const auto args = arguments(object);
  if (!is_only_made(object) || args.empty() || args.size() > (has_time ? 2U : 1U)) return std::nullopt;
  const Packed bytes(args[0], size);
  if (!bytes.fits()) return std::nullopt;
  std::string text;
  if (has_date) {
    const auto date = bytes.date();
    if (!date) return std::nullopt;
    text = *date;
  }
  if (has_time) {
    const auto time = bytes.time(has_date ? 4 : 0);
    const auto offset = args.size() == 2 ? zone_offset(args[1]) : std::optional<std::string>("");
    if (!time || !offset) return std::nullopt;
    text += (has_date ? "T" : "") + *time + *offset;
  }
  return Value::string(text);
}

bool are_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string_view without_sign(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return text;
}

// Fraction(3, 4), or Fraction('3/4') before Python 3.12
Maybe fraction(const Opaque& object) {
  constexpr std::uint64_t kMaxBytes = 256;  // decimal digits take time that grows with their square
  const auto args = arguments(object);
  if (!is_only_made(object) || args.empty() || args.size() > 2) return std::nullopt;
  if (args.size() == 1) {
    if (!is_string(args[0]) || args[0].size() > kMaxTextBytes) return std::nullopt;
    const std::string_view text = without_sign(args[0].as_string());
    const std::size_t slash = text.find('/');
    const std::string_view below = slash == std::string_view::npos ? "1" : text.substr(slash + 1);
    const bool is_zero = below.find_first_not_of('0') == std::string_view::npos;
    return are_digits(text.substr(0, slash)) && are_digits(below) && !is_zero ? Maybe(args[0]) : std::nullopt;
  }
  if (!args[0].is(Kind::integer) || !args[1].is(Kind::integer)) return std::nullopt;
  const Integer& above = args[0].as_integer();
  const Integer& below = args[1].as_integer();
  if (above.to_twos_complement().size() > kMaxBytes || below.to_twos_complement().size() > kMaxBytes)
    return std::nullopt;
  const std::string denominator = below.to_decimal();
  if (denominator == "0" || denominator.starts_with('-')) return std::nullopt;
  return Value::string(denominator == "1" ? above.to_decimal() : above.to_decimal() + "/" + denominator);
}

// Decimal('-1.50E+3'), Decimal('NaN')
Maybe decimal(const Opaque& object) {
  const auto args = arguments(object);
  if (!is_only_made(object) || args.size() != 1 || !is_string(args[0]) || args[0].size() > kMaxTextBytes)
    return std::nullopt;
  std::string_view text = without_sign(args[0].as_string());
  if (text == "Infinity" || text == "NaN" || text == "sNaN") return args[0];
  const std::size_t exponent = text.find('E');
  if (exponent != std::string_view::npos) {
    const std::string_view power = without_sign(text.substr(exponent + 1));
    if (!are_digits(power) || power.size() > 18) return std::nullopt;
    text = text.substr(0, exponent);
  }
  const std::size_t point = text.find('.');
  const bool is_whole = point == std::string_view::npos;
  if (!are_digits(text.substr(0, point)) || !(is_whole || are_digits(text.substr(point + 1)))) return std::nullopt;
  return args[0];
}

// UUID() and then {'int': 128 bits}; 'is_safe' says how it was made, and is no part of what it is.
Maybe uuid(const Opaque& object) {
  constexpr std::size_t kBytes = 16;
  if (!arguments(object).empty() || !object.state.is(Kind::dict) || !has_string_keys(object.state) ||
      !is_empty_mapping(object.kwargs) || !object.list_items.empty() || !object.dict_items.empty()) {
    return std::nullopt;
  }
  const auto number = object.state.find("int");
  if (!number || !number->is(Kind::integer)) return std::nullopt;
  std::string bytes = number->as_integer().to_twos_complement();
  const bool is_negative = !bytes.empty() && (bytes.back() & '\x80') != 0;
  const bool is_too_long = bytes.size() > kBytes && (bytes.size() > kBytes + 1 || bytes.back() != '\0');
  if (is_negative || is_too_long) return std::nullopt;
  bytes.resize(kBytes, '\0');
  std::string text;
  for (std::size_t i = 0; i < kBytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[kBytes - 1 - i]));
  }
  return Value::string(text);
}

// deque() or deque((), maxlen), and then its elements
Maybe deque(const Opaque& object) {
  const auto args = arguments(object);
  if (args.size() > 2 || !is_empty_mapping(object.kwargs) || !is_empty_mapping(object.state) ||
      !object.dict_items.empty()) {
    return std::nullopt;
  }
  if (!args.empty() && !((args[0].is(Kind::tuple) || args[0].is(Kind::list)) && args[0].empty())) return std::nullopt;
  if (args.size() == 2 && !args[1].is_none()) {
    const auto most = to_number(args[1]);
    if (!most || *most < static_cast<std::int64_t>(object.list_items.size())) return std::nullopt;
  }
  return Value::sequence(Kind::list, object.list_items);
}

// range(start, stop, step), slice(start, stop, step)
Maybe span(const Opaque& object) {
  const auto args = arguments(object);
  if (!is_only_made(object) || args.size() != 3) return std::nullopt;
  if (object.name == "slice") return object.args;
  const bool is_range = std::all_of(args.begin(), args.end(), [](const Value& arg) { return arg.is(Kind::integer); });
  return is_range && args[2].as_integer() != Integer(0) ? Maybe(object.args) : std::nullopt;
}

// uname_result((...), {}): in the dict are fields that a tuple has no place for.
Maybe record(const Opaque& object) {
  const auto args = arguments(object);
  if (!is_only_made(object) || args.empty() || args.size() > 2 || !args[0].is(Kind::tuple)) return std::nullopt;
  return args.size() == 1 || is_empty_mapping(args[1]) ? Maybe(args[0]) : std::nullopt;
}

Maybe string(const Opaque& object) {
  const auto args = arguments(object);
  return is_only_made(object) && args.size() == 1 && is_string(args[0]) ? Maybe(args[0]) : std::nullopt;
}

// A dict with a class of its own. Its attributes are switches of the class, or its entries once more.
Maybe entries(const Opaque& object) {
  if (!arguments(object).empty() || !is_empty_mapping(object.kwargs) || !object.list_items.empty()) return std::nullopt;
  return Value::mapping(Kind::dict, object.dict_items);
}

Maybe wrapped(const Opaque& object, std::string_view attribute) {
  if (!arguments(object).empty() || !object.state.is(Kind::dict) || !object.list_items.empty() ||
      !object.dict_items.empty()) {
    return std::nullopt;
  }
  return object.state.find(Value::string(std::string(attribute)));
}

// defaultdict(factory), and then its entries
Maybe default_dict(const Opaque& object) {
  const auto args = arguments(object);
  if (args.size() > 1 || !is_empty_mapping(object.kwargs) || !is_empty_mapping(object.state) ||
      !object.list_items.empty()) {
    return std::nullopt;
  }
  return Value::mapping(Kind::dict, object.dict_items);
}

Maybe plain(const DataClass& row, const Opaque& object) {
  switch (row.shape) {
    case Shape::attributes:
      return attributes(object);
    case Shape::posix_path:
      return path(object, '/');
    case Shape::windows_path:
      return path(object, '\\');
    case Shape::date_time:
      return packed(object, 10, true, true);
    case Shape::date:
      return packed(object, 4, true, false);
    case Shape::time:
      return packed(object, 6, false, true);
    case Shape::time_delta:
      return time_delta(object);
    case Shape::time_zone:
      return time_zone(object);
    case Shape::fraction:
      return fraction(object);
    case Shape::decimal:
      return decimal(object);
    case Shape::uuid:
      return uuid(object);
    case Shape::deque:
      return deque(object);
    case Shape::span:
      return span(object);
    case Shape::record:
      return record(object);
    case Shape::fields:
      return is_only_made(object) && object.args.is(Kind::tuple) ? Maybe(object.args) : std::nullopt;
    case Shape::string:
      return string(object);
    case Shape::entries:
      return entries(object);
    case Shape::wrapped:
      return wrapped(object, row.attribute);
    case Shape::default_dict:
      break;
  }
  return default_dict(object);
}

}  // namespace

std::span<const DataClass> data_classes() noexcept {
  return kTable;
}

const DataClass* data_class_of(const Opaque& object) noexcept {
  const auto find = [](std::string_view module, std::string_view name) -> const DataClass* {
    const DataClass wanted{module, name, {}};
    const auto* row = std::lower_bound(std::begin(kTable), std::end(kTable), wanted, before);
    return row != std::end(kTable) && !before(wanted, *row) ? row : nullptr;
  };
  if (object.form != Opaque::Form::reduce && object.form != Opaque::Form::newobj) return nullptr;
  const std::string_view module = object.module == "__builtin__" ? "builtins" : std::string_view(object.module);
  const DataClass* row = find(module, object.name);
  return row != nullptr ? row : find(module, "*");
}

std::optional<Value> plain_data(const Opaque& object) {
  const DataClass* row = data_class_of(object);
  // What refers back to a part that the plain data leaves out would lead nowhere.
  const bool is_looped = object.args.label() != 0 || object.kwargs.label() != 0 || object.state.label() != 0;
  return row == nullptr || is_looped ? std::nullopt : plain(*row, object);
}

}  // namespace torchkeep
