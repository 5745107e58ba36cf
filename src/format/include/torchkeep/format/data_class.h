// SPDX-License-Identifier: BSD-3-Clause
// Classes of Python whose objects are data: what each is as plain data, where that is certain.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include <torchkeep/state/value.h>

namespace torchkeep {

/// How a class of the table becomes plain data.
enum class DataShape : std::uint8_t {
  attributes,    ///< a dict of its attributes (argparse.Namespace)
  posix_path,    ///< a string, its parts joined by "/"
  windows_path,  ///< a string, its parts joined by "\"
  date_time,     ///< a string of ISO 8601: "2026-11-28T12:30:00+01:00"
  date,          ///< "2026-11-28"
  time,          ///< "12:30:00"
  time_delta,    ///< a tuple of days, seconds and microseconds
  time_zone,     ///< "UTC+01:00"
  fraction,      ///< "3/4"
  decimal,       ///< "1.50"
  uuid,          ///< "12345678-1234-5678-1234-567812345678"
  deque,         ///< a list
  span,          ///< a tuple of start, stop and step (range, slice)
  record,        ///< a tuple of the fields of a C struct (os.uname())
  fields,        ///< a tuple of the arguments (platform.uname())
  string,        ///< the string (torch.__version__)
  entries,       ///< a dict of its entries (Lightning's AttributeDict, EasyDict)
  wrapped,       ///< what one attribute holds (omegaconf.DictConfig, collections.UserDict)
  default_dict,  ///< a dict
};

/// A row of the table.
struct DataClass {
  std::string_view module;
  std::string_view name;  ///< "*": every class of the module
  DataShape shape;
  /// The class belongs to Python itself, and Python gets an object of it; otherwise Python gets the plain data too.
  bool is_builtin = false;
  std::string_view attribute = {};  ///< of DataShape::wrapped
};

/// The table, sorted by module and name.
std::span<const DataClass> data_classes() noexcept;

/// The row of an object's class; null when there is none.
const DataClass* data_class_of(const Opaque& object) noexcept;

/// The object as plain data, or nothing where its class is not in the table or it is not made as Python makes objects
/// of the class: other arguments, impossible dates, a time zone of another library. Parts of `object` may be plain data
/// already.
std::optional<Value> plain_data(const Opaque& object);

}  // namespace torchkeep
