// SPDX-License-Identifier: BSD-3-Clause
// A state that is still in a file, straight into live tensors: no second copy of it is made.
#pragma once

#include <vector>

#include <torchkeep/format/live_reader.h>

#include "placed.h"
#include "storages.h"
#include "tensor_reader.h"

namespace torchkeep::python {

/// Reads into live tensors where those are like the file's (dtype, shape, strides, in the CPU's memory), and into fresh
/// memory elsewhere.
class InPlace {
 public:
  /// `targets`: dicts and lists built like the state, with live tensors in them; it lacks what has no place. Nothing is
  /// read or changed yet. With the GIL.
  InPlace(Value state, nb::handle targets);
  /// Reads every byte, in the order of the file, and checks the CRCs. Throws Error, which says that the live tensors
  /// are partly overwritten where that is so. Without the GIL.
  void read();
  /// After read(): the state in Python's types, with the live tensors in it. With the GIL.
  nb::object object() const;

 private:
  void place(const Value& file, nb::handle target, TensorReader& reader);
  void place_tensor(const Value& file, nb::handle target, TensorReader& reader);
  void add_fresh();

  Value state_;
  LiveReader reader_{LiveReader::Strides::same};
  std::vector<StoragePtr> memory_;  ///< of the live tensors
  Keep keep_;
  Placed placed_;
};

}  // namespace torchkeep::python
