// SPDX-License-Identifier: BSD-3-Clause
// Crossing the edge with an error in either direction.
#include "errors.h"

#include <nanobind/stl/string.h>

namespace torchkeep::python {
namespace {

nb::object text_or_none(const std::string& text) {
  return text.empty() ? nb::object(nb::none()) : from_text(text);
}

nb::object path_or_none(const std::string& path) {
  return path.empty() ? nb::object(nb::none()) : from_path(path);
}

std::string text_at(const nb::object& object, const char* name) {
  const nb::object text = object.attr(name);
  return text.is_none() ? std::string() : to_text(text.ptr());
}

Code code_named(std::string_view name) {
  for (const Code code : {Code::not_found, Code::corrupt, Code::unsupported, Code::refused, Code::mismatch, Code::io,
                          Code::busy, Code::invalid_argument}) {
    if (to_string(code) == name) return code;
  }
  return Code::invalid_argument;
}

}  // namespace

void set_python_error(const Error& error) {
  const Where& where = error.where();
  const nb::object offset = where.offset ? nb::object(nb::int_(*where.offset)) : nb::object(nb::none());
  const nb::object exception =
      nb::module_::import_("torchkeep._errors")
          .attr("make")(from_text(to_string(error.code())), from_text(error.message()), path_or_none(where.file),
                        text_or_none(where.record), offset, text_or_none(where.key), error.system_error(),
                        from_text(error.what()));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
}

Error error_from_python(const nb::python_error& caught, Code fallback) {
  const nb::object exception = nb::borrow(caught.value());
  if (!nb::isinstance(exception, nb::module_::import_("torchkeep._errors").attr("Error"))) {
    const std::string type = to_text(nb::str(caught.type().attr("__name__")).ptr());
    return {fallback, type + ": " + to_text(nb::str(exception).ptr())};
  }
  const nb::object file = exception.attr("file");
  Where where{.file = file.is_none() ? std::string() : to_path(file),
              .record = text_at(exception, "record"),
              .offset = std::nullopt,
              .key = text_at(exception, "key")};
  if (const nb::object offset = exception.attr("offset"); !offset.is_none())
    where.offset = nb::cast<std::uint64_t>(offset);
  return {code_named(text_at(exception, "code")), text_at(exception, "message"), std::move(where)};
}

void register_errors() {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& error) {
      try {
        set_python_error(error);
      } catch (nb::python_error& other) {
        other.restore();
      }
    }
  });
}

}  // namespace torchkeep::python
