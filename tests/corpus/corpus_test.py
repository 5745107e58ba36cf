# SPDX-License-Identifier: BSD-3-Clause
"""Reads every file of the corpus and compares it with what independent readers say that it holds.

A file without a truth must be refused, with the reason that REFUSED below states. Without the corpus the test is skipped
(exit status 77). With --table FILE the results are written as the table of docs/corpus.md.
"""
import argparse
import collections
import json
import pathlib
import struct
import subprocess
import sys

# Files that no reader opens: (part of the name, code, part of the message).
REFUSED = [
    (".zip", "unsupported", "files which may be checkpoints"),
    ("__0_0.distcp", "unsupported", "several zips"),
    ("__0_1.distcp", "unsupported", "several zips"),
    ("metadata.json", "unsupported", "JSON text"),
    ("LaurentMazare__tch-rs__tests_foo", "unsupported", "TorchScript archive of PyTorch before 1.4"),
    ("reader_test_data_broken.pt", "corrupt", "not a checkpoint of any format"),
    ("reader_test_data_tar_", "corrupt", "a tar archive without a member 'tensors'"),
]
# Files that only attack the program that unpickles them: (name, part of the message). Refused by default, and shown
# when they are asked for with UnknownClasses::inspect.
ATTACKS = [
    ("protectai__modelscan__malicious0.pt", "refused global '__builtin__.globals'"),
    ("protectai__modelscan__tests_data_unsafe_zip_pytorch.pt", "refused global 'posix.system'"),
    ("mmaitre314__picklescan__tests_data_pytorch_magic_bypass.pt", "refused global '__builtin__.eval'"),
]
# What the safetensors format calls the dtypes.
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
               "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
               "BOOL": "bool"}


class Mismatch(Exception):
    pass


class Comparison:
    """Of two trees of nodes: `truth` as the corpus has it, `ours` as the program `nodes` prints it."""

    def __init__(self, truth, ours):
        self.truths, self.ours = {}, {}
        self.collect(truth, self.truths)
        self.collect(ours, self.ours)
        self.seen = set()
        self.storages = {}  # from the truth's name of a storage to ours
        self.tensors = 0
        self.compare(truth, ours, "")
        if len(set(self.storages.values())) != len(self.storages):
            raise Mismatch("storages are shared that the truth has apart")

    @staticmethod
    def collect(node, nodes):
        stack = [node]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                if "id" in node and node.get("t") != "ref":
                    nodes.setdefault(node["id"], node)
                stack.extend(node.values())
            elif isinstance(node, list):
                stack.extend(node)

    def compare(self, truth, ours, path):
        if truth["t"] == "ref":
            truth = self.truths[truth["id"]]
        if ours["t"] == "ref":
            ours = self.ours[ours["id"]]
        pair = (id(truth), id(ours))
        if pair in self.seen:
            return
        self.seen.add(pair)
        getattr(self, "compare_" + truth["t"], self.compare_plain)(truth, ours, path)

    def expect(self, path, what, truth, ours):
        if truth != ours:
            raise Mismatch(f"{path or '(root)'}: {what} is {ours!r}, the truth is {truth!r}")

    def compare_plain(self, truth, ours, path):
        self.expect(path, "kind", truth["t"], ours["t"])
        self.expect(path, "value", truth.get("v"), ours.get("v"))

    def compare_float(self, truth, ours, path):
        self.expect(path, "kind", "float", ours["t"])
        finite = truth["v"] not in ("inf", "-inf", "nan")
        bits = struct.pack(">d", float.fromhex(truth["hex"])).hex() if finite else truth["hex"]
        self.expect(path, "value", bits, ours["v"])

    def compare_items(self, truth, ours, path):
        self.expect(path, "kind", truth["t"], ours["t"])
        self.expect(path, "length", len(truth["v"]), len(ours["v"]))
        for i, (left, right) in enumerate(zip(truth["v"], ours["v"])):
            self.compare(left, right, f"{path}.{i}")

    compare_list = compare_tuple = compare_set = compare_frozenset = compare_items

    def compare_size(self, truth, ours, path):
        self.expect(path, "kind", "size", ours["t"])
        self.expect(path, "size", [str(n) for n in truth["v"]], [n["v"] for n in ours["v"]])

    def compare_dict(self, truth, ours, path):
        self.expect(path, "kind", truth["t"], ours["t"])
        self.expect(path, "length", len(truth["v"]), len(ours["v"]))
        for left, right in zip(truth["v"], ours["v"]):
            name = f"{path}.{left[0].get('v', '?')}"
            self.compare(left[0], right[0], name + " (key)")
            self.compare(left[1], right[1], name)
        self.expect(path, "attributes", "attrs" in truth, "attrs" in ours)
        if "attrs" in truth:
            self.compare(truth["attrs"], ours["attrs"], path + ".(attributes)")

    compare_odict = compare_counter = compare_dict

    def compare_tensor(self, truth, ours, path):
        self.expect(path, "kind", "tensor", ours["t"])
        self.tensors += 1
        self.expect(path, "dtype", SAFETENSORS.get(truth["dtype"], truth["dtype"]), ours["dtype"])
        for field in ("shape", "stride", "offset", "requires_grad", "location", "sha256"):
            if truth.get(field) is not None:
                self.expect(path, field, truth[field], ours[field])
        if self.storages.setdefault(truth["storage"], ours["storage"]) != ours["storage"]:
            raise Mismatch(f"{path}: does not share its storage as the truth says")

    def compare_parameter(self, truth, ours, path):
        self.compare_tensor({**truth["data"], "requires_grad": truth["requires_grad"]}, ours, path)
        self.expect(path, "parameter", True, ours["parameter"])

    def compare_storage(self, truth, ours, path):
        """A storage saved as a value of its own is an object that holds the tensor of its elements. The truth does not
        know views of storages, so it says which storage it is, and not which part."""
        self.expect(path, "kind", ("object", "torch.storage.TypedStorage"), (ours["t"], ours.get("cls")))
        if "storage" in truth:
            self.expect(path, "dtype", truth["dtype"], ours["args"]["dtype"])
            self.expect(path, "sharing", self.storages.setdefault(truth["storage"], ours["args"]["storage"]),
                        ours["args"]["storage"])

    def compare_ndarray(self, truth, ours, path):
        """An array whose dtype PyTorch has is a tensor."""
        self.expect(path, "kind", "tensor", ours["t"])
        for field in ("dtype", "shape", "sha256"):
            self.expect(path, field, truth[field], ours[field])

    def compare_global(self, truth, ours, path):
        if ours["t"] == "object":
            self.expect(path, "form", "global", ours["form"])
            self.expect(path, "name", truth["v"], ours["cls"])
        else:
            self.compare_plain(truth, ours, path)

    def compare_object(self, truth, ours, path):
        """An object of a class that is not interpreted. A module of TorchScript is its attributes, its lists are lists,
        and a Parameter of PyTorch before 0.4 is a tensor."""
        if truth["cls"].startswith("torch.jit._pickle."):
            return self.compare(truth["args"][0], ours, path)
        if truth["cls"] == "torch.nn.parameter.Parameter":
            parameter = {"data": truth["args"][0], "requires_grad": truth["state"]["v"][0]["v"]}
            return self.compare_parameter(parameter, ours, path)
        if truth["cls"].startswith("__torch__.") and ours["t"] == "dict":
            return self.compare(truth["state"], ours, path)
        self.expect(path, "kind", "object", ours["t"])
        self.expect(path, "class", truth["cls"], ours["cls"])
        args = ours.get("args", {"v": []})["v"]
        self.expect(path, "number of arguments", len(truth.get("args", [])), len(args))
        for i, (left, right) in enumerate(zip(truth.get("args", []), args)):
            self.compare(left, right, f"{path}.(argument {i})")
        self.expect(path, "state", "state" in truth, "state" in ours)
        if "state" in truth:
            self.compare(truth["state"], ours["state"], path + ".(state)")


def read_all(program, files, unknown):
    output = subprocess.run([program, f"--unknown={unknown}", *map(str, files)], check=True, capture_output=True).stdout
    results = [json.loads(line) for line in output.decode().splitlines()]
    if len(results) != len(files):
        raise SystemExit(f"{program} answered {len(results)} times for {len(files)} files")
    return results


def truth_of(corpus, file):
    path = corpus / "truth" / (file.name + ".json")
    return json.loads(path.read_text()) if path.exists() else None


def best_truth(truth):
    """Of a big-endian file and of storages, the reader without torch says more."""
    agree = truth["agree"] != "" and not truth["agree"].startswith("NO")
    has_storages = truth["root"].get("v") and any(
        isinstance(node, dict) and node.get("t") == "storage" for node in truth["root"]["v"])
    return truth["root"] if agree and not has_storages else truth.get("root_inert", truth["root"])


def check_metadata(truth, result):
    """The truth of a safetensors file has its texts among the tensors, and everything in the order of the header; ours
    is in the order of the bytes. Returns the truth without the texts and in our order."""
    entries = {key["v"]: (key, node) for key, node in truth["v"]}
    texts = entries.pop("__metadata__", (None, {"v": []}))[1]["v"]
    expected = [[key["v"], value["v"]] for key, value in texts]
    if sorted(expected) != sorted(result["metadata"]):
        raise Mismatch(f"metadata is {result['metadata']}, the truth is {expected}")
    order = [key["v"] for key, _ in result["root"]["v"]]
    if sorted(order) != sorted(entries):
        raise Mismatch(f"names are {order}, the truth is {sorted(entries)}")
    return {"t": "dict", "v": [entries[name] for name in order]}


def judge(file, truth, result):
    """What became of a file: ("matched", tensors), ("refused", reason) or ("wrong", why)."""
    reasons = [(code, part) for name, code, part in REFUSED if name in file.name] if truth is None else []
    if "error" in result:
        said = (result["code"], result["error"]["v"])
        if any(said[0] == code and part in said[1] for code, part in reasons):
            return "refused", ": ".join(said)
        return "wrong", ": ".join(said)
    if reasons:
        return "wrong", "opened, but should be refused"
    if truth is None:
        return "matched", 0
    try:
        root = best_truth(truth)
        if result["format"]["v"] == "safetensors":
            root = check_metadata(root, result)
        return "matched", Comparison(root, result["root"]).tensors
    except Mismatch as mismatch:
        return "wrong", str(mismatch)


def check_attacks(program, corpus):
    wrong = []
    names = [name for name, _ in ATTACKS]
    for (name, part), result in zip(ATTACKS, read_all(program, [corpus / "real" / n for n in names], "opaque")):
        if result.get("code") != "refused" or part not in result["error"]["v"]:
            wrong.append(f"{name}: expected a refusal with \"{part}\", found {str(result)[:200]}")
    return wrong


def write_table(path, rows):
    kinds = collections.Counter((kind, verdict) for _, kind, verdict, _ in rows)
    lines = [
        "# Real checkpoints",
        "",
        "Files from public repositories, read by torchkeep and compared with what independent readers found in them:",
        "kinds, keys, numbers, and for each tensor dtype, shape, strides, offset, sharing and the SHA-256 of its bytes.",
        "`tests/corpus/corpus_test.py --table` writes this page; `ctest -R corpus` checks it where the files are at hand.",
        "",
        "| kind | matched | refused |",
        "|---|---|---|",
    ]
    for kind in sorted({kind for _, kind, _, _ in rows}):
        lines.append(f"| {kind} | {kinds[kind, 'matched']} | {kinds[kind, 'refused']} |")
    total = collections.Counter(verdict for _, _, verdict, _ in rows)
    lines.append(f"| **all** | **{total['matched']}** | **{total['refused']}** |")
    lines += ["", "| file | kind | result |", "|---|---|---|"]
    for name, kind, verdict, detail in rows:
        result = f"matched, {detail} tensors" if verdict == "matched" else f"{verdict}: {detail}"
        lines.append(f"| {name} | {kind} | {result} |".replace("\n", " "))
    pathlib.Path(path).write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", required=True, help="the program that prints nodes")
    parser.add_argument("--corpus", required=True, type=pathlib.Path)
    parser.add_argument("--table", help="write the results as a page of the documentation")
    arguments = parser.parse_args()
    real = arguments.corpus / "real"
    if not real.is_dir():
        print(f"skipped: no corpus at {arguments.corpus}")
        return 77
    kinds = {}
    for line in (arguments.corpus / "INDEX.tsv").read_text().splitlines()[1:]:
        fields = line.split("\t")
        kinds[fields[0]] = fields[7]
    files = sorted(path for path in real.iterdir() if path.is_file())
    rows = []
    for file, result in zip(files, read_all(arguments.nodes, files, "inspect")):
        verdict, detail = judge(file, truth_of(arguments.corpus, file), result)
        rows.append((file.name, kinds.get(file.name, "?"), verdict, detail))
    wrong = [f"{name}: {detail}" for name, _, verdict, detail in rows if verdict == "wrong"]
    wrong += check_attacks(arguments.nodes, arguments.corpus)
    print("\n".join(wrong))
    count = collections.Counter(verdict for _, _, verdict, _ in rows)
    print(f"{len(rows)} files: {count['matched']} matched, {count['refused']} refused, {count['wrong']} wrong")
    if arguments.table and not wrong:
        write_table(arguments.table, rows)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
