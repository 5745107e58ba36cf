// SPDX-License-Identifier: BSD-3-Clause
// Files in and out, without the GIL while bytes move.
#include "files.h"

#include <nanobind/stl/string.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/format/open_file.h>

#include "from_value.h"
#include "info_maker.h"
#include "storages.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

/// Calls `work` without the GIL; an interruption becomes the Python exception that caused it.
template <class Work>
auto without_gil(Work work) {
  try {
    const nb::gil_scoped_release released;
    return work();
  } catch (const Interrupted&) {
    throw nb::python_error();
  }
}

void save_file(nb::handle object, const std::string& path, bool durable, bool read_back, nb::object progress) {
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

nb::object load_file(const std::string& path, nb::handle map_location, bool verify, nb::object progress) {
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

nb::object load_mapped(const std::string& path, nb::handle map_location, bool verify) {
  Value value = without_gil([&] {
    PtReadOptions options;
    options.verify = verify;
    options.unknown_classes = UnknownClasses::refuse;
    options.map = true;
    const OpenedFile file = open_file(posix_fs().open_read(path), options);
    for (const auto& storage : file.records) {
      // A damaged record is an error now; one that cannot be mapped is read.
      if (storage->nbytes() > 0 && storage->data() == nullptr) load_storages(std::span(&storage, 1));
    }
    return (file.has_other_storages ? file.value.clone() : file.value).from_file(path);
  });
  return from_value(value, map_location);
}

nb::object load_bytes(nb::bytes data, nb::handle map_location, bool verify) {
  Value value;
  std::string bytes(data.c_str(), data.size());
  without_gil([&] {
    PtReadOptions options;
    options.verify = verify;
    options.unknown_classes = UnknownClasses::refuse;
    const OpenedFile file = open_file(std::make_shared<MemoryReadAt>(std::move(bytes)), options);
    load_storages(file.records);
    value = file.has_other_storages ? file.value.clone() : file.value;
  });
  return from_value(value, map_location);
}

nb::object look_into(const std::string& path) {
  Value value = without_gil([&] {
    PtReadOptions options;
    options.unknown_classes = UnknownClasses::opaque;
    return open_file(posix_fs().open_read(path), options).value.from_file(path);
  });
  return describe_value(value);
}

void verify_file(const std::string& path, nb::object progress) {
  Watch watch(std::move(progress));
  WatchedFs fs(posix_fs(), watch);
  without_gil([&] {
    LoadOptions options;
    options.unknown_classes = UnknownClasses::opaque;
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
  module.def("look", &look_into, nb::arg("path"));
  module.def("verify", &verify_file, nb::arg("path"), nb::arg("progress").none());
}

}  // namespace torchkeep::python
