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

/// What str() says of an exception; that runs code of the user's, which may fail in turn.
std::string message_of(const nb::object& exception) {
  try {
    return to_text(nb::str(exception).ptr());
  } catch (nb::python_error& other) {
    other.discard_as_unraisable(exception);
    return "its message cannot be shown";
  }
}

/// What "raise ... from" gave an exception; null: nothing.
std::exception_ptr cause_of(const nb::object& exception) {
  const nb::object cause = nb::steal(PyException_GetCause(exception.ptr()));
  if (!cause.is_valid() || cause.is_none()) return nullptr;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(cause.ptr())), cause.ptr());
  return std::make_exception_ptr(nb::python_error());
}

/// Makes the exception that led to another one its __cause__, as "raise ... from" does, with the traceback it has.
void set_cause(const nb::object& exception, const std::exception_ptr& cause) {
  if (cause == nullptr) return;
  try {
    std::rethrow_exception(cause);
  } catch (const nb::python_error& from) {
    PyException_SetCause(exception.ptr(), nb::borrow(from.value()).release().ptr());  // takes the reference
  } catch (...) {
    // An exception of C++: its message is in the error already.
  }
}

}  // namespace

nb::object exception_of(const Error& error) {
  const Where& where = error.where();
  const nb::object offset = where.offset ? nb::object(nb::int_(*where.offset)) : nb::object(nb::none());
  const nb::object exception =
      nb::module_::import_("torchkeep._errors")
          .attr("make")(from_text(to_string(error.code())), from_text(error.message()), path_or_none(where.file),
                        text_or_none(where.record), offset, text_or_none(where.key), error.system_error(),
                        from_text(error.what()));
  set_cause(exception, error.cause());
  return exception;
}

void set_python_error(const Error& error) {
  const nb::object exception = exception_of(error);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
}

Error error_from_python(const nb::python_error& caught, Code fallback) {
  const nb::object exception = nb::borrow(caught.value());
  if (!nb::isinstance(exception, nb::module_::import_("torchkeep._errors").attr("Error"))) {
    const std::string type = to_text(nb::str(caught.type().attr("__name__")).ptr());
    return Error(fallback, type + ": " + message_of(exception))
        .caused_by(std::make_exception_ptr(nb::python_error(caught)));
  }
  const nb::object file = exception.attr("file");
  Where where{.file = file.is_none() ? std::string() : to_path(file),
              .record = text_at(exception, "record"),
              .offset = std::nullopt,
              .key = text_at(exception, "key")};
  if (const nb::object offset = exception.attr("offset"); !offset.is_none())
    where.offset = nb::cast<std::uint64_t>(offset);
  const Error error(code_named(text_at(exception, "code")), text_at(exception, "message"), std::move(where));
  // What an adapter of ours found out says all; what led to it is the cause.
  return error.caused_by(error.code() == Code::mismatch ? cause_of(exception)
                                                        : std::make_exception_ptr(nb::python_error(caught)));
}

bool set_interruption(const nb::python_error& caught) {
  const nb::object raised = nb::module_::import_("torchkeep._errors").attr("interruption")(caught.value());
  if (raised.is_none()) return false;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(raised.ptr())), raised.ptr());
  return true;
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
