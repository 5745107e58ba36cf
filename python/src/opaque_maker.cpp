// SPDX-License-Identifier: BSD-3-Clause
// Which class an object gets is decided here, by the table of the core; how it is made, in torchkeep._opaque.
#include "opaque_maker.h"

#include <torchkeep/format/data_class.h>

namespace torchkeep::python {
namespace {

const char* kind_of(Opaque::Form form) {
  switch (form) {
    case Opaque::Form::global:
      return "name";
    case Opaque::Form::persistent:
      return "persistent";
    default:
      return "object";
  }
}

/// The row of Python's own class that the object gets; null where it becomes a torchkeep.Opaque. Only a namespace can
/// contain itself.
const DataClass* builtin_class(const Value& value) {
  const DataClass* row = data_class_of(value.as_opaque());
  if (row == nullptr || !row->is_builtin) return nullptr;
  if (value.label() != 0 && row->shape != DataShape::attributes) return nullptr;
  return plain_data(value.as_opaque()) ? row : nullptr;
}

nb::object class_name(std::string_view module, std::string_view name) {
  std::string text(module);
  if (!text.empty()) text += '.';
  return from_text(text.append(name));
}

nb::object module() {
  return nb::module_::import_("torchkeep._opaque");
}

}  // namespace

nb::object begin_opaque(const Value& value) {
  const Opaque& object = value.as_opaque();
  const DataClass* row = builtin_class(value);
  const nb::object name = row != nullptr ? class_name(row->module, row->name) : class_name(object.module, object.name);
  return module().attr("begin")(name, kind_of(object.form), row != nullptr);
}

nb::object finish_opaque(const Value& value, const nb::object& made, std::span<const nb::object> parts) {
  const Opaque& object = value.as_opaque();
  const DataClass* row = data_class_of(object);
  const nb::object name = row != nullptr ? class_name(row->module, row->name) : class_name(object.module, object.name);
  nb::list list;
  for (const nb::object& part : parts) list.append(part);
  return module().attr("finish")(made, name, kind_of(object.form), list, object.list_items.size());
}

}  // namespace torchkeep::python
