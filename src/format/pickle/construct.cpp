// SPDX-License-Identifier: BSD-3-Clause
// Python's and PyTorch's plain objects.
#include <fmt/format.h>

#include "rebuild.h"
#include "show.h"
#include "text.h"

namespace torchkeep::pickle {

// A container made from one optional argument, which is a list, tuple, set or (for mappings) a dict.
Slot make_container(Heap& heap, const Arguments& args, ObjectKind kind) {
  args.expect(0, 1);
  if (args.count() == 0) return heap.make_object(kind);
  const bool is_mapping = kind == ObjectKind::ordered_dict || kind == ObjectKind::counter || kind == ObjectKind::dict;
  const Slot source = args[0];
  const bool fits = is_mapping ? heap.is(source, ObjectKind::dict)
                               : heap.is(source, ObjectKind::list) || heap.is(source, ObjectKind::tuple) ||
                                     heap.is(source, ObjectKind::set);
  if (!fits) args.wrong(0, is_mapping ? "a dict" : "a list");
  const std::vector<Slot> items(heap.items(source).begin(), heap.items(source).end());
  return heap.make_object(kind, items);
}

// Python 2 writes the items as a list of pairs.
Slot make_ordered_dict(Heap& heap, const Arguments& args) {
  args.expect(0, 1);
  if (args.count() == 0 || !heap.is(args[0], ObjectKind::list)) {
    return make_container(heap, args, ObjectKind::ordered_dict);
  }
  std::vector<Slot> items;
  for (const Slot pair : heap.items(args[0])) {
    const bool is_pair = heap.is(pair, ObjectKind::list) || heap.is(pair, ObjectKind::tuple);
    if (!is_pair || heap.items(pair).size() != 2) args.wrong(0, "a list of pairs");
    items.insert(items.end(), heap.items(pair).begin(), heap.items(pair).end());
  }
  return heap.make_object(ObjectKind::ordered_dict, items);
}

// A dict; what it would make for a missing key is kept for readers that know Python's own classes, and then only when
// that is one of these.
Slot make_default_dict(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(0, 2);
  const bool has_factory = args.count() == 1 && args[0].tag == Tag::global;
  const std::string_view module = has_factory ? heap.global(args[0]).module : "";
  const bool has_known_factory = module == "builtins" || module == "__builtin__";
  if (has_known_factory && heap.context().keep_builtin_classes)
    return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  if (args.count() < 2) return heap.make_object(ObjectKind::dict);
  if (!heap.is(args[1], ObjectKind::dict)) args.wrong(1, "a dict");
  const std::vector<Slot> items(heap.items(args[1]).begin(), heap.items(args[1]).end());
  return heap.make_object(ObjectKind::dict, items);
}

Slot make_size(Heap& heap, const Arguments& args) {
  args.expect(1, 1);
  args.integers(0);
  return make_container(heap, args, ObjectKind::size);
}

// ('cpu',) or ('cuda', 1)
Slot make_device(Heap& heap, const Arguments& args) {
  args.expect(1, 2);
  std::string name(args.text(0));
  if (args.count() == 2) name += fmt::format(":{}", args.integer(1));
  const Slot text = heap.make_decoded(Tag::string, name);
  return heap.make_object(ObjectKind::device, std::span(&text, 1));
}

Slot make_complex(Heap& heap, const Arguments& args) {
  args.expect(2, 2);
  const std::array<Slot, 2> parts = {Heap::make_real(args.real(0)), Heap::make_real(args.real(1))};
  return heap.make_object(ObjectKind::complex, parts);
}

// From bytes, or (Python 2) from a text of the characters 0 to 255
Slot make_bytearray(Heap& heap, const Arguments& args) {
  args.expect(0, 2);
  const Slot bytes = args.count() == 0   ? heap.make_decoded(Tag::bytes, {})
                     : args.count() == 1 ? args[0]
                                         : encode_latin1(heap, args);
  if (bytes.tag != Tag::bytes) args.wrong(0, "bytes");
  return heap.make_object(ObjectKind::bytearray, std::span(&bytes, 1));
}

Slot make_bytes(Heap& heap, const Arguments& args) {
  args.expect(0, 0);
  return heap.make_decoded(Tag::bytes, {});
}

// Bytes as a text of the characters 0 to 255: how protocol 2 writes them
Slot encode_latin1(Heap& heap, const Arguments& args) {
  args.expect(2, 2);
  if (args.text(1) != "latin1" && args.text(1) != "latin-1")
    args.fail(fmt::format("encoding '{}', expected 'latin1'", detail::show(args.text(1))), Code::unsupported);
  const auto bytes = utf8_to_latin1(args.text(0));
  if (!bytes) args.fail("a character above 255");
  return heap.make_decoded(Tag::bytes, *bytes);
}

// PyTorch has no other way to write a layout; as a value of its own it stays an Opaque.
Slot make_layout(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(1, 1);
  args.text(0);
  return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
}

// class, base, state: what protocols 0 and 1 make of an object. Those of a plain class are told apart from those of a
// class that extends a built-in one, whose content is the state.
Slot reconstruct(Heap& heap, const Arguments& args, Slot tuple) {
  args.expect(3, 3);
  if (args[0].tag != Tag::global || args[1].tag != Tag::global) args.wrong(0, "a class");
  if (heap.global(args[1]).name != "object" || args[2].tag != Tag::none) {
    return heap.make_opaque(args.callee(), Opaque::Form::reduce, tuple);
  }
  return heap.make_opaque(args[0], Opaque::Form::newobj, heap.make_object(ObjectKind::tuple));
}

// The lists and dicts of TorchScript, which say of what type their elements are
Slot first_argument(const Arguments& args) {
  args.expect(1, 2);
  return args[0];
}

}  // namespace torchkeep::pickle
