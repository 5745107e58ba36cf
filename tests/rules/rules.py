# SPDX-License-Identifier: BSD-3-Clause
"""The hard rules of the source tree, each as a function from a tree to the list of its violations.

A tree is a dict from a file's path (relative to the project's root) to its text, so that rules_test.py can show for
every rule a tree that breaks it.
"""
import pathlib
import re

# What each layer may include besides itself (docs/architecture.md draws it). "front" are the layers that users start
# from; nothing includes them.
LAYERS = {
    "base": set(),
    "shard": {"base"},
    "state": {"base"},
    "files": {"base"},
    "peers": {"base", "files"},
    "format": {"base", "shard", "state"},
    "schedule": {"base", "state"},
    "data": {"base", "state"},
    "checkpoint": {"base", "shard", "state", "files", "format"},
    "ranks": {"base", "files", "peers"},
    "run": {"base", "shard", "state", "files", "peers", "format", "schedule", "data", "checkpoint", "ranks"},
    "torch": {"base", "shard", "state", "files", "peers", "format", "schedule", "data", "checkpoint", "ranks", "run"},
}

FOLDERS = ("include", "src", "tests", "examples", "demo", "tools", "cmake", "cli", "python", "fuzz", "bench", ".ci")
CPP = (".h", ".cpp")
MAX_HEADER_LINES = 400
MAX_SOURCE_LINES = 800
SPDX = "SPDX-License-Identifier: BSD-3-Clause"

# Folders whose files may include LibTorch's headers.
LIBTORCH_HOMES = ("src/torch/", "tests/torch/", "tests/install/", "examples/", "demo/", "bench/")
LIBTORCH_HEADER = re.compile(r'^\s*#\s*include\s*[<"](torch|ATen|c10|caffe2)/', re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
# Calls that change which bytes a name stands for, or make them durable. A member call (fs.rename) is the seam itself.
DURABILITY_CALL = re.compile(
    r"(?<![\w.>])((?:::|std::|std::filesystem::)?"
    r"(?:renameat2?|rename|fsync|fdatasync|syncfs|sync_file_range|unlinkat|unlink|rmdir))\s*\(")
# The seam: where these calls are declared as members, and where they are made.
SEAM = ("src/files/include/torchkeep/files/fs.h", "src/files/posix_fs.cpp", "python/src/watched_fs.h", "python/src/source.cpp")
# Who knows how a checkpoint of a run is called, and renames it.
CHECKPOINT_PATH_HOMES = ("src/run/checkpoint_store.cpp", "src/run/pt_file_kind.cpp", "src/run/names.cpp",
                         "src/run/include/torchkeep/run/names.h")
# What opens a file by its name. A file outside a run may stand under any name of it, as a link, pipe or folder: src/files
# opens without following or waiting, and looks at what it opened.
OPENING_CALL = re.compile(r"(?<![\w.>:])(::(?:open|openat|openat2|creat)|(?:::|std::)?(?:fopen|freopen)|std::[io]?fstream)\b")
OPENING_HOMES = ("src/files/posix_fs.cpp", "src/files/posix_lock.cpp", "src/files/direct_reads.cpp",
                 "src/base/memory.cpp")  # /proc, which no user of a run can change
# Of those, what may create or write to a file, up to the end of the statement.
CREATING_OPEN = re.compile(r"::open\([^;]*(?:O_CREAT|O_WRONLY|O_RDWR)[^;]*;")
CHECKED_FLAGS = re.compile(r"\b(?:kOwnFile|O_EXCL|O_NOFOLLOW)\b")
# Arithmetic on the address of a storage: what leads to an element without a checked extent.
STORAGE_ADDRESS = re.compile(r"\b(\w*(?:storage|live)\w*(?:\(\))?\s*(?:->|\.)\s*(?:data|writable)\(\))\s*[+\[]")
# Tensor::memory() and its sisters; and a run's snapshot, which compares whole storages with themselves.
STORAGE_ADDRESS_HOMES = ("src/state/tensor.cpp", "src/run/snapshot.cpp")
# Symbols through which a library prints or ends the program that uses it.
PRINTING_OR_ENDING = re.compile(
    r"^(stdout|stderr|_?_?(v?f?printf|v?dprintf)(_chk)?|puts|fputs|putchar|fputc|fwrite|perror|abort|exit|_exit"
    r"|quick_exit|__assert_fail|_ZSt4cout|_ZSt4cerr|_ZSt4clog|_ZNSt8ios_base4InitC[12]Ev)(@.*)?$")


def read_tree(root):
    """The tree on the disk."""
    root = pathlib.Path(root)
    tree = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                try:
                    tree[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    pass  # binary test data
    return tree


def without_comments_and_strings(text):
    """C++ text with comments and the insides of literals blanked; newlines stay, so line numbers do too."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
    return token.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def cpp_files(tree, prefix=""):
    return {path: text for path, text in tree.items() if path.endswith(CPP) and path.startswith(prefix)}


def at(path, text, match):
    return f"{path}:{text.count(chr(10), 0, match.start()) + 1}"


def check_layers(tree):
    """Layers include only downwards."""
    bad = []
    for path, text in cpp_files(tree, "src/").items():
        layer = path.split("/")[1]
        if layer not in LAYERS:
            bad.append(f"{path}: layer '{layer}' is not in the drawing")
            continue
        for match in INCLUDE.finditer(text):
            parts = match.group(1).split("/")
            if parts[0] == "torchkeep" and len(parts) > 2:
                if parts[1] != layer and parts[1] not in LAYERS[layer]:
                    bad.append(f"{at(path, text, match)}: {layer} must not include {match.group(1)}")
            elif parts[0] == "torchkeep" and layer not in ("torch",):
                bad.append(f"{at(path, text, match)}: the umbrella {match.group(1)} is for users, not for layers")
            elif ".." in parts:
                bad.append(f"{at(path, text, match)}: {match.group(1)} leaves the folder")
    return bad


def check_libtorch_homes(tree):
    """LibTorch's headers are included by the adapter, its tests, the examples and the demo only."""
    return [
        f"{at(path, text, match)}: only {', '.join(LIBTORCH_HOMES)} include LibTorch's headers"
        for path, text in cpp_files(tree).items()
        if not path.startswith(LIBTORCH_HOMES) and path != "include/torchkeep/torch.h"
        for match in LIBTORCH_HEADER.finditer(text)
    ]


def check_durability_calls(tree):
    """Only src/files/posix_fs.cpp renames, removes or syncs."""
    bad = []
    for path, text in cpp_files(tree).items():
        if path.startswith(("src/", "include/", "cli/", "python/")) and path not in SEAM:
            code = without_comments_and_strings(text)
            bad += [f"{at(path, code, match)}: {match.group(1)}() belongs behind Fs, into src/files/posix_fs.cpp"
                    for match in DURABILITY_CALL.finditer(code)]
    return bad


def check_checkpoint_paths(tree):
    """In src/run only the store of checkpoints, its kinds and the names themselves know how a checkpoint is called."""
    pattern = re.compile(r"\bnames::(checkpoint|parse_checkpoint|pin|parse_pin|broken|parse_broken|doomed|parse_doomed)\(|"
                         r"\b(?:fs_?|fs\(\))\s*\.\s*rename\(")
    bad = []
    for path, text in cpp_files(tree, "src/run/").items():
        if path not in CHECKPOINT_PATH_HOMES:
            code = without_comments_and_strings(text)
            bad += [f"{at(path, code, match)}: {match.group().rstrip('(')} belongs into the store of checkpoints"
                    for match in pattern.finditer(code)]
    return bad


def check_openings(tree):
    """Only src/files opens by name, and it writes to nothing that it did not make or look at without following links."""
    bad = []
    for path, text in cpp_files(tree).items():
        if not path.startswith(("src/", "include/", "cli/", "python/")):
            continue
        code = without_comments_and_strings(text)
        if path in OPENING_HOMES:
            bad += [f"{at(path, code, match)}: open with kOwnFile, or O_EXCL for a new file"
                    for match in CREATING_OPEN.finditer(code) if not CHECKED_FLAGS.search(match.group())]
        else:
            bad += [f"{at(path, code, match)}: {match.group(1)} opens whatever stands under a name; use Fs"
                    for match in OPENING_CALL.finditer(code)]
    return bad


def is_public_header(path):
    return path.endswith(".h") and "/include/torchkeep/" in "/" + path


def check_sizes(tree):
    """Public headers stay under 400 lines, other sources under 800."""
    bad = []
    for path, text in cpp_files(tree).items():
        limit = MAX_HEADER_LINES if is_public_header(path) else MAX_SOURCE_LINES
        lines = text.count("\n")
        if lines >= limit:
            bad.append(f"{path}: {lines} lines; split it (the limit is {limit})")
    return bad


def check_licence_lines(tree):
    """Every source names its licence in the first line (the second, after a #!)."""
    bad = []
    for path, text in tree.items():
        lines = text.split("\n", 2)
        script = lines[0].startswith("#!")
        if (script or path.endswith(CPP + (".py",))) and SPDX not in (lines[1] if script else lines[0]):
            bad.append(f"{path}: the first line must say {SPDX}")
    return bad


def check_pragma_once(tree):
    """Every header is guarded, and with #pragma once."""
    return [f"{path}: no #pragma once" for path, text in cpp_files(tree).items()
            if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.MULTILINE)]


def check_torch_namespace(tree):
    """There is no namespace torchkeep::torch: it would hide ::torch from every user of `using namespace torchkeep`."""
    pattern = re.compile(r"namespace\s+(torchkeep::torch\b(?!\w)|torch\s*\{)")
    return [f"{at(path, text, match)}: namespace torchkeep::torch would shadow ::torch"
            for path, text in cpp_files(tree).items() if path.startswith(("src/", "include/"))
            for match in pattern.finditer(without_comments_and_strings(text))]


def check_storage_addresses(tree):
    """Only Tensor::memory(), writable_memory() and extent() lead from a shape to bytes."""
    bad = []
    for path, text in cpp_files(tree).items():
        if path.startswith(("src/", "cli/", "python/")) and path not in STORAGE_ADDRESS_HOMES:
            code = without_comments_and_strings(text)
            bad += [f"{at(path, code, match)}: {match.group(1)} leads anywhere; use Tensor::memory()"
                    for match in STORAGE_ADDRESS.finditer(code)]
    return bad


def check_undefined_symbols(names):
    """From the undefined symbols of the library: those that print or end the program."""
    return [f"the library refers to {name}" for name in sorted(set(names)) if PRINTING_OR_ENDING.match(name)]
