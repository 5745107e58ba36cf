// SPDX-License-Identifier: BSD-3-Clause
// Files in and out, without the GIL while bytes move.
#include "files.h"

#include <nanobind/stl/string.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/open_file.h>
#include <torchkeep/state/walk.h>

#include "from_value.h"
#include "in_place.h"
#include "info_maker.h"
#include "storages.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

void save_file(nb::handle object, nb::handle to, bool durable, bool read_back, nb::object progress) {
  const std::string path = to_path(to);
  Value value;
  try {
    value = to_value(object);
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
  Watch watch(std::move(progress));
  WatchedFs fs(posix_fs(), watch);
  without_gil([&] { save(value, path, {.durable = durable, .read_back = read_back, .fs = &fs}); });
  watch.end();
}

nb::object load_file(nb::handle from, nb::handle map_location, bool verify, nb::object progress) {
  const std::string path = to_path(from);
  Watch watch(std::move(progress));
  WatchedFs fs(posix_fs(), watch);
  Value value = without_gil([&] {
    LoadOptions options;
    options.verify = verify;
    options.unknown_classes = UnknownClasses::refuse;
    options.fs = &fs;
    return load(path, options);
  });
  watch.end();
  return from_value(value, map_location);
}

Value map_file(const std::string& path, bool verify, UnknownClasses unknown_classes) {
  LoadOptions options;
  options.verify = verify;
  options.unknown_classes = unknown_classes;
  options.map = true;
  return load(path, options);
}

/// Has every record checked, so that damage is an error now.
void check_records(const Value& value, Watch& watch) {
  walk(value, [&watch](const Visit& visit) {
    if (!visit.value.is(Kind::tensor)) return Next::inside;
    const Storage& storage = *visit.value.as_tensor().storage;
    std::byte first{};
    if (storage.nbytes() > 0 && storage.data() == nullptr) storage.read(0, {&first, 1});
    watch.count(storage.nbytes());
    return Next::inside;
  });
}

nb::object load_mapped(nb::handle from, nb::handle map_location, bool verify) {
  const std::string path = to_path(from);
  Watch watch;
  Value value = without_gil([&] {
    Value mapped = map_file(path, verify, UnknownClasses::refuse);
    check_records(mapped, watch);
    return mapped;
  });
  return from_value(value, map_location);
}

nb::object load_bytes(nb::bytes data, nb::handle map_location, bool verify) {
  std::string bytes(data.c_str(), data.size());
  Value value = without_gil([&] {
    PtReadOptions options;
    options.verify = verify;
    options.unknown_classes = UnknownClasses::refuse;
    return read_all(open_file(std::make_shared<MemoryReadAt>(std::move(bytes)), options));
  });
  return from_value(value, map_location);
}

/// A file whose tensors are read when somebody says where to.
class PyCheckpoint {
 public:
  PyCheckpoint(nb::handle from, nb::object progress) : watch_(std::move(progress)), fs_(posix_fs(), watch_) {
    const std::string path = to_path(from);
    without_gil([&] {
      LoadIntoOptions options;
      options.unknown_classes = UnknownClasses::refuse;
      options.fs = &fs_;
      opened_.emplace(path, options);
    });
  }
  /// With tensors on the device "meta".
  nb::object structure() const { return structure_of(opened_->value()); }
  /// Reads all of it and checks every checksum.
  void verify() {
    watch_.expect_again();
    without_gil([&] { opened_->verify(); });
  }
  /// What stands under the keys (None: everything), read into the tensors of `targets` where those are like the file's.
  nb::object read(nb::handle keys, nb::handle targets) {
    const Value& value = opened_->value();
    Value wanted = keys.is_none() ? value : Value::mapping(Kind::dict);
    if (!keys.is_none()) {
      for (nb::handle key : keys) {
        const Value name = to_value(key);
        wanted.set(name, value.at(name));
      }
    }
    InPlace reading(std::move(wanted), targets);
    without_gil([&] { reading.read(); });
    return reading.object();
  }
  void end() { watch_.end(); }

 private:
  Watch watch_;
  WatchedFs fs_;
  std::optional<OpenedCheckpoint> opened_;
};

nb::object look_into(nb::handle from) {
  const std::string path = to_path(from);
  Value value = without_gil([&] { return map_file(path, true, UnknownClasses::inspect); });
  return describe_value(value);
}

void verify_file(nb::handle from, nb::object progress) {
  const std::string path = to_path(from);
  Watch watch(std::move(progress));
  WatchedFs fs(posix_fs(), watch);
  without_gil([&] {
    LoadOptions options;
    options.fs = &fs;
    verify(path, options);
  });
  watch.end();
}

}  // namespace

void bind_files(nb::module_& module) {
  nb::class_<StoredTensor>(module, "StoredTensor").def("contiguous_bytes", &StoredTensor::contiguous_bytes);
  module.def("save", &save_file, nb::arg("object").none(), nb::arg("path"), nb::arg("durable"), nb::arg("read_back"),
             nb::arg("progress").none());
  module.def("load", &load_file, nb::arg("path"), nb::arg("map_location").none(), nb::arg("verify"),
             nb::arg("progress").none());
  module.def("load_mapped", &load_mapped, nb::arg("path"), nb::arg("map_location").none(), nb::arg("verify"));
  module.def("load_bytes", &load_bytes, nb::arg("data"), nb::arg("map_location").none(), nb::arg("verify"));
  nb::class_<PyCheckpoint>(module, "OpenedCheckpoint")
      .def(nb::init<nb::handle, nb::object>(), nb::arg("path"), nb::arg("progress").none())
      .def("structure", &PyCheckpoint::structure)
      .def("verify", &PyCheckpoint::verify)
      .def("read", &PyCheckpoint::read, nb::arg("keys").none(), nb::arg("targets").none())
      .def("end", &PyCheckpoint::end);
  module.def("look", &look_into, nb::arg("path"));
  module.def("verify", &verify_file, nb::arg("path"), nb::arg("progress").none());
}

}  // namespace torchkeep::python
