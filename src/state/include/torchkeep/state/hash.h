// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 of a tensor's elements, and of a whole Value.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include <torchkeep/base/bytes.h>
#include <torchkeep/base/progress.h>
#include <torchkeep/state/value.h>
#include <torchkeep/state/walk.h>

namespace torchkeep {

/// The 32 bytes of a SHA-256.
using Digest = std::array<std::byte, 32>;

/// As 64 lower-case hexadecimal digits.
std::string to_hex(const Digest& digest);

/// SHA-256 of `bytes`.
Digest sha256(Bytes bytes);
/// SHA-256 of a tensor's elements: contiguous, row-major, little-endian, conj and neg bits not applied. Two tensors of
/// one dtype and shape have equal hashes exactly when their elements have equal bits, whatever their strides.
Digest sha256(const Tensor& tensor);

struct HashOptions {
  /// Leave out a place and all below it.
  std::function<bool(const Place&)> skip = nullptr;
  unsigned threads = 0;  ///< 0: one per core. The result does not depend on it
  /// Called from time to time with bytes done and bytes in all; never from two threads at once.
  Progress on_progress = {};
};

/// One hash of everything a Value says: kinds, keys and their order, numbers, texts, dtypes, shapes, elements, flags,
/// quantizers, attributes. Left out is how it lies in memory: strides, offsets, device, and what is shared. So equal
/// Values have equal hashes. The hash of a part does not depend on the whole (unless the part holds back references).
///
/// It is a tree of SHA-256 digests. Of a node, these bytes are hashed: the kind's name as text, then its content; a
/// text is its length (u64) and its bytes, numbers are little-endian, a bool is one byte, an int a text in two's
/// complement, and a part is its 32-byte digest. Content by kind: str, bytes: the text. float: 8 bytes; complex: 16.
/// Sequences: number of elements (u64), the elements. Mappings: number of entries, then key and value of each. dtype,
/// device: the name. Tensor: the dtype's name, number of dimensions (u64), sizes (u64 each), requires_grad, Parameter,
/// conj, neg (a bool each), the digest of the elements, of a part of a tensor over ranks the text "shard", global sizes
/// and offsets (as above), then a bool for the quantizer and its fields, in the order of
/// the struct (for scales and zero_points a bool and the digest of the elements). Sparse tensor: layout, sizes (as
/// above), is_coalesced (0, 1, or 2 for unknown), the parts. Nested tensor: 4 (u64), the parts. Object: module, name,
/// form (one byte), number of list items, number of dict items, then args, kwargs, state, list items, keys and values.
/// A back reference: which of the containers with a label it means (u64), counted in the order of the walk. A node with
/// attributes is "attributes", the digest of the node without them, the digest of the attributes.
Digest hash(const Value& value, const HashOptions& options = {});

}  // namespace torchkeep
