// SPDX-License-Identifier: BSD-3-Clause
// Walks the targets beside the state; what is left over gets memory of its own.
#include "in_place.h"

#include <torchkeep/state/walk.h>

#include "from_value.h"
#include "to_value.h"

namespace torchkeep::python {
namespace {

bool is_in_a_file(const Storage& storage) {
  return storage.data() == nullptr && storage.nbytes() > 0;
}

}  // namespace

InPlace::InPlace(Value state, nb::handle targets) : state_(std::move(state)) {
  if (!targets.is_none()) {
    TensorReader reader(Torch::get(), {.writable = true});
    place(state_, targets, reader);
  }
  add_fresh();
}

void InPlace::place(const Value& file, nb::handle target, TensorReader& reader) {
  if (PyDict_Check(target.ptr()) && file.is_mapping()) {
    Py_ssize_t position = 0;
    PyObject* key = nullptr;
    PyObject* inside = nullptr;
    while (PyDict_Next(target.ptr(), &position, &key, &inside)) {
      const auto part = file.find(to_value(key));
      if (part) place(*part, inside, reader);
    }
  } else if (file.is(Kind::tensor) && Torch::get().is_tensor(Py_TYPE(target.ptr()))) {
    place_tensor(file, target, reader);
  }
}

void InPlace::place_tensor(const Value& file, nb::handle target, TensorReader& reader) {
  if (placed_.tensors.contains(file.id())) return;  // the file has it in two places; so it arrives
  const Value value = reader.read(target.ptr());
  if (!value.is(Kind::tensor)) return;  // a sparse one
  const Tensor& live = value.as_tensor();
  const Tensor& from = file.as_tensor();
  if (from.is_meta()) file.fail(Code::unsupported, "a meta tensor has no values to load");
  if (!why_not_in_place(from, live).empty() || from.nbytes() == 0 || !reader_.add(from, live).is_read) return;
  memory_.push_back(live.storage);
  placed_.tensors.emplace(file.id(), target.ptr());
  keep_.add(nb::borrow(target));
}

void InPlace::add_fresh() {
  walk(state_, [this](const Visit& visit) {
    if (!visit.value.is(Kind::tensor) || placed_.tensors.contains(visit.value.id())) return Next::inside;
    const StoragePtr& storage = visit.value.as_tensor().storage;
    if (!is_in_a_file(*storage) || placed_.storages.contains(storage->identity())) return Next::inside;
    auto memory = std::make_shared<OwnedStorage>(storage->nbytes(), storage->location());
    reader_.add_fresh(storage, memory->mutable_bytes());
    placed_.storages.emplace(storage->identity(), std::move(memory));
    return Next::inside;
  });
}

void InPlace::read() {
  reader_.read();
}

nb::object InPlace::object() const {
  if (!placed_.tensors.empty()) {
    nb::list live;
    for (const auto& [id, tensor] : placed_.tensors) live.append(nb::borrow(tensor));
    Torch::get().helpers.attr("note_writes")(live);
  }
  // What has no place yet comes on the CPU, wherever it was saved: the live objects decide about devices, never the
  // file.
  return from_value(state_, nb::str("cpu"), &placed_);
}

}  // namespace torchkeep::python
