// SPDX-License-Identifier: BSD-3-Clause
// Tensors are hashed first, on all threads, the largest first; then the tree from its leaves up, with an explicit
// stack.
#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <torchkeep/base/parallel.h>
#include <torchkeep/state/elements.h>
#include <torchkeep/state/hash.h>

#include "node.h"
#include "sha256.h"

namespace torchkeep {

using detail::NodeAccess;

namespace {

using Progress = std::function<void(std::uint64_t)>;  // bytes hashed since the last call

Digest hash_elements(const Tensor& tensor, const Progress& progress) {
  const Elements elements(tensor);
  Sha256 sha;
  std::vector<std::byte> buffer;
  for (std::uint64_t first = 0; first < elements.count(); first += elements.block()) {
    const auto nbytes =
        static_cast<std::size_t>(std::min(elements.block(), elements.count() - first)) * elements.item();
    if (const std::byte* data = elements.in_place()) {
      sha.add({data + first * elements.item(), nbytes});
    } else {
      buffer.resize(nbytes);
      elements.read(first, buffer);
      sha.add(buffer);
    }
    if (progress) progress(nbytes);
  }
  return sha.finish();
}

// A part of a node as the hash sees it: keys are parts too.
struct Part {
  const Value* value;
  Step step;
  bool is_key;  // the value that follows belongs to it
};

// Parts of a node, keys included: those without a key first and the attributes last, as Parts has them.
class KeyedParts {
 public:
  explicit KeyedParts(const Value& value) : parts_(value) {
    if (value.is_mapping()) {
      entries_ = value.items();
    } else if (value.is(Kind::opaque)) {
      entries_ = value.as_opaque().dict_items;
      before_ = 3 + value.as_opaque().list_items.size();
    }
  }

  std::size_t size() const noexcept { return parts_.size() + entries_.size(); }

  Part operator[](std::size_t i) const {
    if (i >= before_ && i < before_ + 2 * entries_.size()) {
      const Entry& entry = entries_[(i - before_) / 2];
      const bool is_key = (i - before_) % 2 == 0;
      return {is_key ? &entry.key : &entry.value, {Step::Kind::key, entry.key, 0, {}}, is_key};
    }
    const std::size_t at = i < before_ ? i : i - entries_.size();
    return {&parts_.value(at), parts_.step(at), false};
  }

 private:
  Parts parts_;
  std::span<const Entry> entries_;
  std::size_t before_ = 0;
};

// The digests of tensors' elements, computed on all threads.
class TensorHashes {
 public:
  explicit TensorHashes(const HashOptions& options) : options_(options) {}

  void collect(const Value& root) {
    walk(root, [&](const Visit& visit) {
      if (options_.skip && visit.place.depth > 0 && options_.skip(visit.place)) return Next::over;
      if (visit.value.is(Kind::tensor) && digests_.emplace(visit.value.id(), Digest()).second) {
        jobs_.push_back({&visit.value, visit.place.text()});
        bytes_ += visit.value.as_tensor().nbytes();
      }
      return Next::inside;
    });
    std::stable_sort(jobs_.begin(), jobs_.end(), [](const Job& a, const Job& b) {
      return a.value->as_tensor().nbytes() > b.value->as_tensor().nbytes();
    });
    compute();
  }

  /// A tensor inside a key was not walked to: it is hashed here.
  Digest of(const Value& value) const {
    const auto known = digests_.find(value.id());
    return known != digests_.end() ? known->second : sha256(value.as_tensor());
  }

 private:
  struct Job {
    const Value* value;
    std::string path;
  };

  void compute() {
    std::mutex mutex;
    std::uint64_t done = 0;
    Progress progress;
    if (options_.on_progress) {
      progress = [&](std::uint64_t bytes) {
        const std::lock_guard lock(mutex);
        options_.on_progress(done += bytes, bytes_);
      };
    }
    parallel_for(jobs_.size(), options_.threads, [&](std::uint64_t i) {
      try {
        digests_.find(jobs_[i].value->id())->second = hash_elements(jobs_[i].value->as_tensor(), progress);
      } catch (const Error& error) {
        throw error.at({.file = {}, .record = {}, .offset = {}, .key = jobs_[i].path});
      }
    });
  }

  const HashOptions& options_;
  std::vector<Job> jobs_;
  std::uint64_t bytes_ = 0;
  std::unordered_map<const void*, Digest> digests_;
};

class TreeHash {
 public:
  explicit TreeHash(const HashOptions& options) : options_(options), tensors_(options) {}

  Digest run(const Value& root) {
    tensors_.collect(root);
    enter(root, {});
    while (!stack_.empty()) {
      Frame& top = stack_.back();
      if (top.next < top.parts.size())
        next_part(top);
      else
        leave();
    }
    return result_;
  }

 private:
  struct Frame {
    const Value* value;
    Place place;
    KeyedParts parts;
    std::size_t next = 0;
    std::vector<Digest> digests = {};
    std::optional<Digest> attributes = std::nullopt;
  };

  void next_part(Frame& top) {
    const Part part = top.parts[top.next++];
    const bool belongs_to_key = !part.is_key && part.step.kind == Step::Kind::key;
    Place place{&top.place, part.step, top.place.depth + 1};
    if (options_.skip && !belongs_to_key && options_.skip(place)) {
      if (part.is_key) ++top.next;  // and its value
      return;
    }
    enter(*part.value, std::move(place));
  }

  void enter(const Value& value, Place place) {
    if (const auto known = shared_.find(value.id()); known != shared_.end()) return deliver(known->second);
    if (value.label() != 0 && !value.is(Kind::back_reference)) labels_.emplace(value.label(), labels_.size());
    stack_.push_back({&value, std::move(place), KeyedParts(value)});
  }

  void leave() {
    const Frame frame = std::move(stack_.back());
    stack_.pop_back();
    Digest digest = digest_of(*frame.value, frame.digests);
    if (frame.attributes) {
      sha_.text("attributes");
      sha_.add(digest);
      sha_.add(*frame.attributes);
      digest = sha_.finish();
    }
    if (NodeAccess::use_count(*frame.value) > 1) shared_.emplace(frame.value->id(), digest);
    deliver(digest);
  }

  // Hands a part's digest to the node it is part of.
  void deliver(const Digest& digest) {
    if (stack_.empty()) {
      result_ = digest;
      return;
    }
    Frame& top = stack_.back();
    const bool is_attributes = top.next == top.parts.size() && NodeAccess::node(*top.value)->attributes().is_mapping();
    if (is_attributes)
      top.attributes = digest;
    else
      top.digests.push_back(digest);
  }

  Digest digest_of(const Value& value, std::span<const Digest> parts) {
    sha_.text(to_string(value.kind()));
    switch (value.kind()) {
      case Kind::none:
        break;
      case Kind::boolean:
        sha_.number(static_cast<std::uint8_t>(value.as_boolean()));
        break;
      case Kind::integer:
        sha_.text(value.as_integer().to_twos_complement());
        break;
      case Kind::real:
        sha_.number(value.as_real());
        break;
      case Kind::complex:
        sha_.number(value.as_complex().real());
        sha_.number(value.as_complex().imag());
        break;
      case Kind::string:
        sha_.text(value.as_string());
        break;
      case Kind::bytes:
      case Kind::bytearray:
        sha_.text(value.as_bytes());
        break;
      case Kind::dtype:
        sha_.text(to_string(value.as_dtype()));
        break;
      case Kind::device:
        sha_.text(value.as_device().name);
        break;
      case Kind::tensor:
        add_tensor(value.as_tensor(), tensors_.of(value));
        break;
      case Kind::sparse_tensor:
        add_sparse(value.as_sparse_tensor());
        break;
      case Kind::opaque:
        return digest_of_object(value.as_opaque(), parts);
      case Kind::back_reference:
        sha_.number(reference(value.label()));
        break;
      default:
        sha_.number(static_cast<std::uint64_t>(value.is_mapping() ? parts.size() / 2 : parts.size()));
    }
    for (const Digest& part : parts) sha_.add(part);
    return sha_.finish();
  }

  void add_tensor(const Tensor& tensor, const Digest& elements) {
    sha_.text(to_string(tensor.dtype));
    add_sizes(tensor.sizes);
    for (const bool flag : {tensor.requires_grad, tensor.is_parameter, tensor.is_conj, tensor.is_neg}) {
      sha_.number(static_cast<std::uint8_t>(flag));
    }
    sha_.add(elements);
    if (tensor.shard != nullptr) {
      sha_.text("shard");
      add_sizes(tensor.shard->global);
      add_sizes(tensor.shard->offset);
    }
    const Quantizer* quantizer = tensor.quantizer.get();
    sha_.number(static_cast<std::uint8_t>(quantizer != nullptr));
    if (quantizer == nullptr) return;
    sha_.text(quantizer->scheme);
    sha_.number(quantizer->scale);
    sha_.number(quantizer->zero_point);
    for (const auto& channel : {quantizer->scales, quantizer->zero_points}) {
      sha_.number(static_cast<std::uint8_t>(channel != nullptr));
      if (channel) sha_.add(sha256(*channel));
    }
    sha_.number(quantizer->axis);
  }

  void add_sparse(const SparseTensor& tensor) {
    sha_.text(tensor.layout);
    add_sizes(tensor.sizes);
    sha_.number(static_cast<std::uint8_t>(tensor.is_coalesced ? *tensor.is_coalesced : 2));
  }

  // The fixed parts come first, then list items, then keys and values.
  Digest digest_of_object(const Opaque& object, std::span<const Digest> parts) {
    sha_.text(object.module);
    sha_.text(object.name);
    sha_.number(static_cast<std::uint8_t>(object.form));
    sha_.number(static_cast<std::uint64_t>(object.list_items.size()));
    sha_.number(static_cast<std::uint64_t>(object.dict_items.size()));
    for (const Digest& part : parts) sha_.add(part);
    return sha_.finish();
  }

  void add_sizes(const std::vector<std::int64_t>& sizes) {
    sha_.number(static_cast<std::uint64_t>(sizes.size()));
    for (const std::int64_t size : sizes) sha_.number(size);
  }

  std::uint64_t reference(std::uint64_t label) const {
    const auto known = labels_.find(label);
    return known == labels_.end() ? ~std::uint64_t{0} : known->second;
  }

  const HashOptions& options_;
  TensorHashes tensors_;
  std::deque<Frame> stack_;
  std::unordered_map<const void*, Digest> shared_;  // nodes that may be met again
  std::unordered_map<std::uint64_t, std::uint64_t> labels_;
  Sha256 sha_;
  Digest result_{};
};

}  // namespace

std::string to_hex(const Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : digest) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

Digest sha256(Bytes bytes) {
  Sha256 sha;
  sha.add(bytes);
  return sha.finish();
}

Digest sha256(const Tensor& tensor) {
  return hash_elements(tensor, {});
}

Digest hash(const Value& value, const HashOptions& options) {
  return TreeHash(options).run(value);
}

}  // namespace torchkeep
