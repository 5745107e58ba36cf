// SPDX-License-Identifier: BSD-3-Clause
// Looks globals up in the allow-list.
#include "allow_list.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "show.h"

namespace torchkeep::pickle {
namespace {

constexpr bool before(const Known& a, const Known& b) {
  return a.module != b.module ? a.module < b.module : a.name < b.name;
}
static_assert(std::is_sorted(std::begin(kAllowed), std::end(kAllowed), before));

// Python 2's names, and modules that moved.
std::string_view modern_module(std::string_view module) noexcept {
  if (module == "__builtin__") return "builtins";
  if (module == "copy_reg") return "copyreg";
  if (module == "numpy.core.multiarray") return "numpy._core.multiarray";
  if (module == "numpy.core.numeric") return "numpy._core.numeric";
  if (module == "torch.tensor") return "torch._tensor";
  return module;
}

// The dtype whose name in C++ is `name`: "Float8_e4m3fn", "ComplexHalf". LibTorch makes class names of them that
// PyTorch does not have.
std::optional<DType> dtype_from_cpp_name(std::string_view name) noexcept {
  if (name == "ComplexHalf") return DType::complex32;
  std::array<char, 32> lower{};
  if (name.size() > lower.size()) return std::nullopt;
  std::transform(name.begin(), name.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; });
  const auto dtype = dtype_from_name({lower.data(), name.size()});
  return dtype && info(*dtype).storage_class.empty() ? dtype : std::nullopt;
}

// torch.<X>Storage, torch.<X>Tensor (which PyTorch had classes for before 0.4) and torch.<dtype>.
void look_up_by_rule(Global& global, std::string_view module) noexcept {
  constexpr std::string_view kStorage = "Storage";
  constexpr std::string_view kTensor = "Tensor";
  const std::string_view name = global.name;
  if (name == "UntypedStorage") {
    global.role = Role::storage_class;
  } else if (name.ends_with(kStorage)) {
    global.dtype = dtype_from_storage_class(name);
    if (!global.dtype) global.dtype = dtype_from_cpp_name(name.substr(0, name.size() - kStorage.size()));
    if (global.dtype) global.role = Role::storage_class;
  } else if (name.ends_with(kTensor)) {
    std::array<char, 32> storage_class{};
    if (name.size() >= storage_class.size() - 1) return;
    const auto end = std::copy_n(name.begin(), name.size() - kTensor.size(), storage_class.begin());
    std::copy(kStorage.begin(), kStorage.end(), end);
    if (dtype_from_storage_class({storage_class.data(), name.size() - kTensor.size() + kStorage.size()}))
      global.role = Role::tensor_class;
  } else if (module == "torch" && name != "boolean") {
    global.dtype = dtype_from_name(name);
    if (global.dtype) global.role = Role::dtype;
  }
}

// Calls f(part) for the parts of a dotted name until one returns true.
template <class F>
bool any_part(std::string_view name, F f) noexcept {
  for (;;) {
    const std::size_t end = name.find('.');
    if (f(name.substr(0, end))) return true;
    if (end == std::string_view::npos) return false;
    name.remove_prefix(end + 1);
  }
}

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) noexcept {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string Global::full_name() const {
  return detail::show(module).append(1, '.').append(detail::show(name));
}

Global look_up(std::string_view module, std::string_view name) noexcept {
  Global global{.module = module, .name = name, .role = Role::unknown, .dtype = {}};
  const Known wanted{modern_module(module), name, Role::unknown};
  const auto* row = std::lower_bound(std::begin(kAllowed), std::end(kAllowed), wanted, before);
  if (row != std::end(kAllowed) && !before(wanted, *row)) {
    global.role = row->role;
  } else if (module == "torch" || module == "torch.storage" || module == "torch.cuda") {
    look_up_by_rule(global, module);
  } else if (module == "__torch__" || module.starts_with("__torch__.")) {
    global.role = Role::script_class;
  }
  return global;
}

namespace {

// Code execution, files, processes, the network, imports, walking along attributes: through whatever module they are
// reached, for protocol 4 follows dots, so that "torch" "hub.os.system" is os.system.
constexpr auto kAnywhere = std::to_array<std::string_view>(
    {"os", "posix", "nt", "subprocess", "sys", "__builtin__", "__builtins__", "builtins", "importlib"});
constexpr auto kModules = std::to_array<std::string_view>(
    {"_pickle",   "_posixsubprocess", "_pyrepl",     "_socket",     "_ssl",       "_winapi",   "asyncio",
     "bdb",       "cPickle",          "cProfile",    "cffi",        "codeop",     "ctypes",    "distutils",
     "doctest",   "ensurepip",        "ftplib",      "httplib",     "idlelib",    "imaplib",   "lib2to3",
     "linecache", "mailcap",          "marshal",     "nntplib",     "pdb",        "pickle",    "pip",
     "pkgutil",   "poplib",           "popen2",      "pty",         "pydoc",      "requests",  "runpy",
     "shelve",    "shutil",           "smtplib",     "socket",      "ssl",        "telnetlib", "tempfile",
     "timeit",    "urllib",           "urllib2",     "venv",        "webbrowser", "wsgiref",   "xmlrpc",
     "zipapp",    "zipimport",        "rlcompleter", "socketserver"});
// Of libraries that honest files speak of too.
constexpr auto kInside = std::to_array<std::string_view>(
    {"joblib.numpy_pickle", "logging.config", "numpy.f2py", "numpy.testing", "pandas.io.pickle", "torch.hub",
     "torch.jit.unsupported_tensor_ops", "torch.utils.bottleneck", "torch.utils.collect_env"});
// Whatever their module is: one's own may well be called "code" or "platform".
constexpr auto kNames = std::to_array<std::string_view>({"InteractiveConsole", "InteractiveInterpreter", "execWrapper",
                                                         "getoutput", "getstatusoutput", "interact", "popen",
                                                         "read_pickle", "runctx", "runstring", "system"});
// Functions "load" and "loads" of these run what a file says; in other modules they may be anybody's.
constexpr auto kLoaders =
    std::to_array<std::string_view>({"cloudpickle", "dill", "hickle", "joblib", "jsonpickle", "keras", "numpy",
                                     "pandas", "sklearn", "tensorflow", "torch", "yaml"});
constexpr auto kBuiltins = std::to_array<std::string_view>(
    {"__import__", "apply", "breakpoint", "compile", "delattr", "eval", "exec", "execfile", "exit", "file", "globals",
     "input", "locals", "open", "quit", "raw_input", "reload", "setattr", "vars"});

/// Names of the modules above that are data: structs, enumerations, exceptions. They do nothing, and honest files say
/// where and how they were made.
struct Harmless {
  std::string_view module;
  std::string_view name;  // "*": everything in the module and its submodules
};
constexpr Harmless kHarmless[] = {
    {"asyncio.exceptions", "*"},
    {"importlib.metadata", "PackagePath"},
    {"nt", "stat_result"},
    {"nt", "terminal_size"},
    {"nt", "times_result"},
    {"nt", "uname_result"},
    {"os", "DirEntry"},
    {"os", "PathLike"},
    {"os", "sched_param"},
    {"os", "stat_result"},
    {"os", "statvfs_result"},
    {"os", "terminal_size"},
    {"os", "times_result"},
    {"os", "uname_result"},
    {"os", "waitid_result"},
    {"pickle", "PickleError"},
    {"pickle", "PicklingError"},
    {"pickle", "UnpicklingError"},
    {"posix", "DirEntry"},
    {"posix", "sched_param"},
    {"posix", "stat_result"},
    {"posix", "statvfs_result"},
    {"posix", "terminal_size"},
    {"posix", "times_result"},
    {"posix", "uname_result"},
    {"posix", "waitid_result"},
    {"requests.exceptions", "*"},
    {"requests.structures", "*"},
    {"shutil", "Error"},
    {"shutil", "SameFileError"},
    {"shutil", "_ntuple_diskusage"},
    {"socket", "AddressFamily"},
    {"socket", "AddressInfo"},
    {"socket", "MsgFlag"},
    {"socket", "SocketKind"},
    {"socket", "gaierror"},
    {"socket", "herror"},
    {"socket", "timeout"},
    {"ssl", "SSLError"},
    {"ssl", "TLSVersion"},
    {"subprocess", "CalledProcessError"},
    {"subprocess", "CompletedProcess"},
    {"subprocess", "SubprocessError"},
    {"subprocess", "TimeoutExpired"},
    {"sys", "flags"},
    {"sys", "float_info"},
    {"sys", "hash_info"},
    {"sys", "int_info"},
    {"sys", "thread_info"},
    {"sys", "version_info"},
    {"urllib.error", "*"},
    {"urllib.parse", "DefragResult"},
    {"urllib.parse", "DefragResultBytes"},
    {"urllib.parse", "ParseResult"},
    {"urllib.parse", "ParseResultBytes"},
    {"urllib.parse", "SplitResult"},
    {"urllib.parse", "SplitResultBytes"},
};

bool is_inside(std::string_view module, std::string_view parent) noexcept {
  return module.starts_with(parent) && (module.size() == parent.size() || module[parent.size()] == '.');
}

// A dotted name leads on from the class, and is not harmless.
bool is_harmless(std::string_view module, std::string_view name) noexcept {
  if (name.find('.') != std::string_view::npos) return false;
  return std::any_of(std::begin(kHarmless), std::end(kHarmless), [&](const Harmless& row) {
    return row.name == "*" ? is_inside(module, row.module) : row.module == module && row.name == name;
  });
}

bool is_loader(std::string_view module, std::string_view name) noexcept {
  return (name == "load" || name == "loads") && contains(kLoaders, module.substr(0, module.find('.')));
}

}  // namespace

bool is_attack(std::string_view module, std::string_view name) noexcept {
  const auto anywhere = [](std::string_view part) { return contains(kAnywhere, part); };
  if (is_harmless(module, name)) return false;
  const std::string_view modern = modern_module(module);
  if (modern == "builtins" || modern == "io" || modern == "_io")
    return contains(kBuiltins, name.substr(0, name.find('.'))) || any_part(name, anywhere);
  const bool is_of_library =
      std::any_of(kInside.begin(), kInside.end(), [&](std::string_view parent) { return is_inside(module, parent); });
  if (is_of_library || contains(kNames, name) || is_loader(module, name)) return true;
  return contains(kModules, module.substr(0, module.find('.'))) || any_part(module, anywhere) ||
         (name.find('.') != std::string_view::npos && any_part(name, anywhere));
}

}  // namespace torchkeep::pickle
