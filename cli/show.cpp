// SPDX-License-Identifier: BSD-3-Clause
// torchkeep show: the tree of a checkpoint, or one part of it in detail (show_parts.cpp).
#include "show.h"

#include <fmt/format.h>

#include <torchkeep/base/parallel.h>
#include <torchkeep/checkpoint/sections.h>
#include <torchkeep/state/hash.h>
#include <torchkeep/state/walk.h>

#include "input.h"
#include "json.h"
#include "text.h"

namespace torchkeep::cli {
namespace {

// The part of the checkpoint that is shown. Throws Error (not_found) that says what there is.
Value find_part(const OpenedCheckpoint& opened, const std::string& key) {
  if (auto part = find_path(opened.value, key)) return *part;
  std::string known;
  for (const SectionEntry& entry : sections_of(opened.value)) {
    if (!entry.key.empty()) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", entry.key);
  }
  throw Error(Code::not_found,
              fmt::format("there is no such part{}{}", known.empty() ? "" : "; at the top there are: ", known),
              {.file = opened.path, .record = {}, .offset = {}, .key = key});
}

// The digests of all tensors in a part, on all threads.
std::unordered_map<const void*, Digest> hash_tensors(const Value& part) {
  std::unordered_map<const void*, Digest> digests;
  std::vector<const Value*> tensors;
  walk(part, [&](const Visit& visit) {
    if (visit.value.is(Kind::tensor) && digests.emplace(visit.value.id(), Digest()).second)
      tensors.push_back(&visit.value);
    return Next::inside;
  });
  parallel_for(tensors.size(), 0,
               [&](std::uint64_t i) { digests.find(tensors[i]->id())->second = sha256(tensors[i]->as_tensor()); });
  return digests;
}

int show_json(Session& session, const ShowOptions& options, const OpenedCheckpoint& opened, const Value& part) {
  std::unordered_map<const void*, Digest> digests;
  NodeOptions node;
  node.statistics = options.statistics;
  node.bins = options.statistics ? options.bins : 0;
  JsonWriter json(session.out);
  json.begin_document("torchkeep.show/1");
  json.member("file", opened.path);
  json.member("format", opened.format);
  json.member("key", options.key);
  if (!options.hash.empty()) {
    digests = hash_tensors(part);
    node.sha256 = &digests;
    json.member("sha256", to_hex(hash(part)));
  }
  json.key("root");
  write_node(json, part, node);
  json.key("metadata"), json.begin_object();
  for (const auto& [name, text] : opened.metadata) json.member(name, text);
  json.end_object();
  json.end_document();
  return kGood;
}

}  // namespace

int run_show(Session& session, const ShowOptions& options) {
  const OpenedCheckpoint& opened = session.keep(open_to_look(options.path, options.inspect));
  const Value part = find_part(opened, options.key);
  if (session.json) return show_json(session, options, opened, part);
  if (part.is(Kind::tensor)) {
    show_tensor(session, part, options);
  } else {
    show_tree(session, part, options);
  }
  if (!options.hash.empty()) session.out.line(fmt::format("sha256 {}", to_hex(hash(part))));
  return kGood;
}

}  // namespace torchkeep::cli
