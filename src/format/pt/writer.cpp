// SPDX-License-Identifier: BSD-3-Clause
// Lays out a torch.save zip: the pickle, four notes about the format, and one record per storage.
#include <charconv>
#include <fmt/format.h>

#include <torchkeep/format/pt.h>

#include "pickle/pickle.h"
#include "zip/zip.h"

namespace torchkeep {
namespace {

constexpr std::size_t kHeaderEstimate = 256;  // header, padding, descriptor and central entry of a record

}  // namespace

// The record .data/serialization_id is left out: it is a hash that depends on the C++ library's std::hash, and nobody
// reads it. With .format_version, records must come in this order and keys count from 0: PyTorch computes offsets then.
Plan plan_pt(const Value& value, const Limits& limits) {
  pickle::Pickled pickled = pickle::write(value);
  if (pickled.bytes.size() > limits.max_pickle_bytes) {
    throw Error(Code::refused, fmt::format("all that is not a tensor takes {} bytes, more than the {} a reader accepts "
                                           "(Limits::max_pickle_bytes): save large data as tensors",
                                           pickled.bytes.size(), limits.max_pickle_bytes));
  }
  zip::Writer zip("archive");
  zip.reserve(pickled.storages.size() + 8, pickled.bytes.size() + kHeaderEstimate * (pickled.storages.size() + 8));
  zip.add("data.pkl", pickled.bytes);
  zip.add(".format_version", "1");
  zip.add(".storage_alignment", "64");
  zip.add("byteorder", "little");
  char name[32] = "data/";
  for (std::size_t i = 0; i < pickled.storages.size(); ++i) {
    const char* end = std::to_chars(name + 5, name + sizeof(name), i).ptr;
    auto& [storage, nbytes] = pickled.storages[i];
    zip.add(std::string_view(name, end), std::move(storage), nbytes);
  }
  zip.add("version", "3\n");
  return std::move(zip).finish();
}

}  // namespace torchkeep
