// SPDX-License-Identifier: BSD-3-Clause
// DCP's .metadata as a pickle of protocol 2, written piece by piece.
#include <torchkeep/format/manifest.h>

#include "block_numbers.h"
#include "chunk_index.h"
#include "flatten.h"
#include "pickle/emitter.h"

namespace torchkeep {
namespace {

using dcp::Leaf;
using pickle::Emitter;
using pickle::Name;
using pickle::Op;

constexpr std::size_t kBatch = 1000;                  // items per MARK, as CPython
constexpr std::size_t kPiece = std::size_t{1} << 20;  // bytes that are handed on at once

class MetadataWriter {
 public:
  MetadataWriter(const Manifest& manifest, const std::function<void(Bytes)>& write)
      : manifest_(manifest), index_(manifest.tensors, manifest.chunks), write_(write) {}

  void run() {
    begin_object(Name::dcp_metadata);
    out_.text("state_dict_metadata"), write_entries();
    out_.text("planner_data"), write_paths();
    out_.text("storage_data"), write_places();
    out_.text("storage_meta"), write_storage_meta();
    out_.text("version"), out_.text("1.0.0");
    end_object();
    out_.op(Op::stop);
    out_.flush(write_);
  }

 private:
  // A dict whose entries are written in batches.
  class Dict {
   public:
    explicit Dict(MetadataWriter& writer) : writer_(writer) { writer.out_.op(Op::empty_dict); }
    void begin_entry() {
      if (count_++ % kBatch == 0) writer_.out_.op(Op::mark);
    }
    void end_entry() {
      if (count_ % kBatch == 0) writer_.out_.op(Op::set_items);
      if (writer_.out_.pending() >= kPiece) writer_.out_.flush(writer_.write_);
    }
    void end() {
      if (count_ % kBatch != 0) writer_.out_.op(Op::set_items);
    }

   private:
    MetadataWriter& writer_;
    std::size_t count_ = 0;
  };

  // An object without arguments, whose state is the dict up to end_object().
  void begin_object(Name name) {
    out_.global(name);
    out_.op(Op::empty_tuple), out_.op(Op::new_obj);
    out_.op(Op::empty_dict), out_.op(Op::mark);
  }
  void end_object() { out_.op(Op::set_items), out_.op(Op::build); }

  void size(ShapeView numbers) {
    out_.global(Name::size);
    out_.integers(numbers);
    out_.op(Op::tuple1), out_.op(Op::reduce);
  }

  void write_entries() {
    Dict dict(*this);
    for (std::size_t i = 0; i < manifest_.tensors.size(); ++i) {
      dict.begin_entry();
      out_.text(manifest_.tensors.name(i));
      write_tensor(i);
      dict.end_entry();
    }
    for (std::size_t i = 0; i < manifest_.values.names.size(); ++i) {
      dict.begin_entry();
      out_.text(manifest_.values.names[i]);
      out_.global(Name::dcp_bytes_metadata);
      out_.op(Op::empty_tuple), out_.op(Op::new_obj);
      dict.end_entry();
    }
    dict.end();
  }

  void write_tensor(std::size_t i) {
    begin_object(Name::dcp_tensor_metadata);
    out_.text("properties");
    out_.global(Name::dcp_properties);
    out_.op(Op::empty_tuple), out_.op(Op::new_obj);
    out_.op(Op::mark);  // (dtype, layout, requires_grad, memory format, pin_memory)
    out_.global(manifest_.tensors.dtype(i));
    out_.global(Name::get_layout), out_.text("torch.strided"), out_.op(Op::tuple1), out_.op(Op::reduce);
    out_.boolean(false);
    out_.global(Name::dcp_memory_format), out_.integer(0), out_.op(Op::tuple1), out_.op(Op::reduce);
    out_.boolean(false);
    out_.op(Op::tuple), out_.op(Op::build);
    out_.text("size"), size(manifest_.tensors.shape(i));
    out_.text("chunks"), write_chunks(i);
    end_object();
  }

  void write_chunks(std::size_t tensor) {
    out_.op(Op::empty_list);
    const auto chunks = index_.chunks(tensor);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      if (i % kBatch == 0) out_.op(Op::mark);
      const BoxView box = index_.box(chunks[i]);
      begin_object(Name::dcp_chunk);
      out_.text("offsets"), size(box.offset);
      out_.text("sizes"), size(box.size);
      end_object();
      if (i % kBatch == kBatch - 1 || i + 1 == chunks.size()) out_.op(Op::appends);
      if (out_.pending() >= kPiece) out_.flush(write_);
    }
  }

  void write_paths() {
    Dict dict(*this);
    const auto add = [&](const Leaf& leaf) {
      dict.begin_entry();
      out_.text_once(leaf.fqn);
      out_.op(Op::mark);
      for (const dcp::PathStep& step : leaf.path) {
        if (const auto* key = std::get_if<std::string>(&step))
          out_.text_once(*key);
        else
          out_.integer(std::get<std::int64_t>(step));
      }
      out_.op(Op::tuple);
      dict.end_entry();
      return leaf.value;
    };
    dcp::flatten(manifest_.structure, {}, dcp::Tensors::meta, add);
    for (const auto& [rank, state] : manifest_.own)
      dcp::flatten(state, {"rank", std::to_string(rank)}, dcp::Tensors::meta, add);
    dict.end();
  }

  void write_places() {
    Dict dict(*this);
    std::vector<std::int64_t> hints(manifest_.tensors.size(), 0);  // the next position among the chunks of a tensor
    ChunkCursor at(manifest_.tensors, manifest_.chunks.tensor, manifest_.chunks.boxes);
    for (const Manifest::File& file : manifest_.files) {
      for (std::uint64_t i = 0; i < file.chunks; ++i, at.next()) {
        dict.begin_entry();
        begin_object(Name::dcp_index);
        out_.text("fqn"), out_.text(manifest_.tensors.name(at.tensor()));
        out_.text("index"), out_.integer(hints[at.tensor()]++);
        out_.text("offset"), size(at.box().offset);
        end_object();
        write_place(file, item_of(at));
        dict.end_entry();
      }
    }
    const ValueTable& values = manifest_.values;
    for (std::size_t i = 0; i < values.names.size(); ++i) {
      dict.begin_entry();
      begin_object(Name::dcp_index);
      out_.text("fqn"), out_.text(values.names[i]);
      out_.text("index"), out_.op(Op::none);
      end_object();
      write_place(manifest_.files[manifest_.value_file[i]], {values.offset[i], values.length[i]});
      dict.end_entry();
    }
    dict.end();
  }

  ByteRange item_of(const ChunkCursor& at) const {
    const ChunkTable& chunks = manifest_.chunks;
    const std::uint64_t nbytes = chunk_bytes(manifest_.tensors, at);
    const std::uint64_t before = chunks.before[at.chunk()];
    return {chunks.offset[at.chunk()] - before, before + nbytes + chunks.behind[at.chunk()]};
  }

  void write_place(const Manifest::File& file, ByteRange item) {
    begin_object(Name::dcp_storage_info);
    out_.text("relative_path"), out_.text(file.tail.name);
    out_.text("offset"), out_.integer(static_cast<std::int64_t>(item.begin));
    out_.text("length"), out_.integer(static_cast<std::int64_t>(item.size));
    end_object();
  }

  void write_storage_meta() {
    begin_object(Name::dcp_storage_meta);
    out_.text("checkpoint_id"), out_.op(Op::none);
    out_.text("save_id"), out_.text(manifest_.save);
    out_.text("load_id"), out_.op(Op::none);
    out_.text("modules"), out_.op(Op::empty_list);
    end_object();
  }

  const Manifest& manifest_;
  ChunkIndex index_;
  const std::function<void(Bytes)>& write_;
  Emitter out_;
};

}  // namespace

void write_dcp_metadata(const Manifest& manifest, const std::function<void(Bytes)>& write) {
  MetadataWriter(manifest, write).run();
}

}  // namespace torchkeep
