// SPDX-License-Identifier: BSD-3-Clause
// Files in and out, without the GIL while bytes move.
#include "files.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <torchkeep/checkpoint/checkpoint.h>
#include <torchkeep/checkpoint/convert.h>
#include <torchkeep/checkpoint/export.h>
#include <torchkeep/format/pt.h>
#include <torchkeep/state/walk.h>

#include "from_value.h"
#include "in_place.h"
#include "info_maker.h"
#include "source.h"
#include "storages.h"
#include "to_value.h"
#include "watched_fs.h"

namespace torchkeep::python {
namespace {

/// What is to be saved, without the objects that the caller leaves out.
Value value_to_save(nb::handle object, nb::object stand_in) {
  bool leaves_out = false;
  Value value =
      to_value(object, {.stand_in = std::move(stand_in), .leaves_out = &leaves_out, .device_copies = device_copies()});
  if (leaves_out) drop_objects(value);
  return value;
}

void save_file(nb::handle object, nb::handle to, bool durable, bool read_back, nb::object progress,
               nb::object stand_in) {
  const std::string path = to_path(to);
  Value value;
  try {
    value = value_to_save(object, std::move(stand_in));
  } catch (const Error& error) {
    throw error.at({.file = path, .record = {}, .offset = {}, .key = {}});
  }
  Watch watch(std::move(progress));
  WatchedFs fs(posix_fs(), watch);
  without_gil([&] { save(value, path, {.durable = durable, .read_back = read_back, .fs = &fs}); });
  watch.end();
}

/// A whole file handed to `write`, a function of bytes, front to back.
void save_to_stream(nb::handle object, nb::handle write, const std::string& name, nb::object progress,
                    nb::object stand_in) {
  Plan plan;
  try {
    plan = plan_pt(value_to_save(object, std::move(stand_in)));
  } catch (const Error& error) {
    throw error.at({.file = name, .record = {}, .offset = {}, .key = {}});
  }
  Watch watch(std::move(progress));
  watch.expect(plan.file_size);
  without_gil([&] {
    stream_plan(std::move(plan), [&](Bytes bytes) {
      {
        const nb::gil_scoped_acquire gil;
        write(nb::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
      }
      watch.count(bytes.size());
    });
  });
  watch.end();
}

/// What of a file becomes objects, as a program says it in Python.
struct Selection {
  bool verify = true;
  bool refuse_unknown = false;
  bool drop_objects = false;
  std::vector<std::string> only;  ///< paths of parts; empty: everything
  bool is_one = false;            ///< the part that `only` names becomes the whole

  LoadOptions options() const {
    LoadOptions options;
    options.verify = verify;
    options.unknown_classes = refuse_unknown ? UnknownClasses::refuse : UnknownClasses::opaque;
    options.keep_builtin_classes = true;
    options.only = only;
    options.drop_objects = drop_objects;
    return options;
  }
  nb::object objects(const Value& value, nb::handle map_location) const {
    try {
      return from_value(is_one ? find_path(value, only[0]).value() : value, map_location);
    } catch (const Error& error) {
      throw error.at({.file = value.where().file, .record = {}, .offset = {}, .key = {}});
    }
  }
};

nb::object load_file(nb::handle from, nb::handle map_location, const Selection& selection, nb::object progress) {
  Watch watch(std::move(progress));
  Source source(from, watch);
  const Value value = without_gil([&] {
    LoadOptions options = selection.options();
    options.fs = &source.fs();
    return load(source.path(), options);
  });
  watch.end();
  return selection.objects(value, map_location);
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

nb::object load_mapped(nb::handle from, nb::handle map_location, const Selection& selection) {
  const std::string path = to_path(from);
  Watch watch;
  const Value value = without_gil([&] {
    LoadOptions options = selection.options();
    options.map = true;
    Value mapped = load(path, options);
    check_records(mapped, watch);
    return mapped;
  });
  return selection.objects(value, map_location);
}

/// The objects in the bytes of a file object, and how many of the bytes they took.
nb::object load_stream(nb::handle from, nb::handle map_location, const Selection& selection, nb::object progress) {
  Watch watch(std::move(progress));
  Source source(from, watch);
  std::uint64_t end = 0;
  const Value value = without_gil([&] {
    const std::shared_ptr<const ReadAt> file = source.fs().open_read(source.path());
    return load(file, selection.options(), &end);
  });
  watch.end();
  return nb::make_tuple(selection.objects(value, map_location), end);
}

/// A file whose tensors are read when somebody says where to.
class PyCheckpoint {
 public:
  PyCheckpoint(nb::handle from, nb::object progress) : watch_(std::move(progress)), source_(from, watch_) {
    without_gil([&] {
      LoadIntoOptions options;
      options.keep_builtin_classes = true;
      options.fs = &source_.fs();
      opened_.emplace(source_.path(), options);
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
  Source source_;
  std::optional<OpenedCheckpoint> opened_;
};

nb::object look_into(nb::handle from) {
  Watch watch;
  Source source(from, watch);
  LoadOptions options;
  options.unknown_classes = UnknownClasses::inspect;
  options.keep_builtin_classes = true;
  options.map = PyTuple_Check(from.ptr()) == 0;
  if (!options.map) options.fs = &source.fs();
  const Value value = without_gil([&] { return load(source.path(), options); });
  return describe_value(value);
}

void verify_file(nb::handle from, nb::object progress) {
  Watch watch(std::move(progress));
  Source source(from, watch);
  without_gil([&] {
    LoadOptions options;
    options.fs = &source.fs();
    verify(source.path(), options);
  });
  watch.end();
}

}  // namespace

void bind_files(nb::module_& module) {
  nb::class_<StoredTensor>(module, "StoredTensor").def("contiguous_bytes", &StoredTensor::contiguous_bytes);
  module.def("save", &save_file, nb::arg("object").none(), nb::arg("path"), nb::arg("durable"), nb::arg("read_back"),
             nb::arg("progress").none(), nb::arg("stand_in"));
  nb::class_<Selection>(module, "Selection")
      .def(nb::init<bool, bool, bool, std::vector<std::string>, bool>(), nb::arg("verify"), nb::arg("refuse_unknown"),
           nb::arg("drop_objects"), nb::arg("only"), nb::arg("is_one"));
  module.def("load", &load_file, nb::arg("path"), nb::arg("map_location").none(), nb::arg("selection"),
             nb::arg("progress").none());
  module.def("save_to", &save_to_stream, nb::arg("object").none(), nb::arg("write"), nb::arg("name"),
             nb::arg("progress").none(), nb::arg("stand_in"));
  module.def("load_mapped", &load_mapped, nb::arg("path"), nb::arg("map_location").none(), nb::arg("selection"));
  module.def("load_stream", &load_stream, nb::arg("stream"), nb::arg("map_location").none(), nb::arg("selection"),
             nb::arg("progress").none());
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
