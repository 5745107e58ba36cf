// SPDX-License-Identifier: BSD-3-Clause
// DCP folders put together by hand from parts that a test can get wrong.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torchkeep/format/dcp.h>
#include <torchkeep/shard/box.h>
#include <torchkeep/state/tensor.h>

namespace torchkeep::testing {

/// An entry of storage_data.
struct DcpItem {
  std::string fqn;
  std::optional<Shape> offset = {};  ///< of a chunk
  std::string file = "__0_0.distcp";
  std::int64_t begin = 0;
  std::int64_t length = 0;
  std::string transform = {};
  std::optional<std::int64_t> index = {};  ///< the hint
};

/// A tensor of state_dict_metadata; its properties' dtype as PyTorch calls it.
struct DcpTensor {
  std::string fqn;
  Shape shape;
  std::vector<Box> chunks;
  std::string dtype = "float32";
  /// Instructions that push the TensorProperties; empty: those of PyTorch 2.13.
  std::string properties = {};
};

/// What is in a folder. `metadata` is written by metadata_bytes() unless it is set.
struct DcpFolder {
  std::vector<DcpTensor> tensors;
  std::vector<std::string> values;  ///< names
  std::vector<DcpItem> items;
  using Paths = std::map<std::string, std::string>;
  /// Paths of planner_data, "model/#1/w": str, int, str. None: there is no planner_data.
  std::optional<Paths> paths = {};
  std::string metadata_class = "torch.distributed.checkpoint.metadata\nMetadata";
  std::string extra = {};                    ///< instructions that add entries to the state of Metadata
  std::map<std::string, std::string> files;  ///< without .metadata
  std::optional<std::string> metadata = {};

  std::string metadata_bytes() const;
  /// Appends an item of this object to a file and to `items`.
  void add_item(const Value& value, DcpItem item);
  /// Its files in memory, and .metadata unless `has_metadata` is false.
  Folder folder(bool has_metadata = true) const;
};

/// "w", float32 [6, 4] of 0 to 23, rows 0 to 3 in __0_0.distcp and 4 and 5 in __1_0.distcp; "n", 7, in __0_0.distcp.
DcpFolder sample_dcp_folder();

/// Elements of a box of a row-major float32 tensor of 0, 1, 2 ...
Tensor box_of_numbers(BoxView box, ShapeView shape);

}  // namespace torchkeep::testing
