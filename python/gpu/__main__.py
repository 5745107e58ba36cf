# SPDX-License-Identifier: BSD-3-Clause
"""Checks torchkeep with the GPU of this machine and measures it beside PyTorch. See tools/gpu-check."""
import argparse
import json
import pathlib
import sys
import tempfile
import time
import traceback

import torch

import checks
import figures
import torchkeep


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU: the script itself is tried"
    return (f"torchkeep {torchkeep.__version__}, PyTorch {torch.__version__}, Python {sys.version.split()[0]}, "
            f"{torch.get_num_threads()} threads; {name}")


def check(name: str, function, folder: pathlib.Path, device: str) -> dict:
    """One line of the table: what was seen, or how it failed. The other checks go on."""
    folder.mkdir()
    begin = time.perf_counter()
    try:
        seen, failed = function(folder, device), ""
    except Exception as error:
        traceback.print_exc()
        seen, failed = f"{type(error).__name__}: {error}".splitlines()[0][:300], "FAILED"
    line = {"check": name, "failed": bool(failed), "seen": seen, "seconds": round(time.perf_counter() - begin, 1)}
    print(f"{failed or 'ok':7}{name:34}{seen}  ({line['seconds']} s)", flush=True)
    return line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the script without a GPU")
    parser.add_argument("--sizes", default="1,4,16", help="gigabytes of the states that are measured")
    parser.add_argument("--only", default="", help="names of checks, with commas; 'figures' are the measurements")
    parser.add_argument("--out", type=pathlib.Path, help="a folder for results.json")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: PyTorch sees no GPU here; --device cpu tries the script itself", file=sys.stderr)
        return 2
    print(machine(options.device))
    wanted = {name for name in options.only.split(",") if name}
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, function in checks.ALL.items():
            if not wanted or name in wanted:
                results.append(check(name, function, pathlib.Path(scratch, name), options.device))
        if not wanted or "figures" in wanted:
            for size in (float(size) for size in options.sizes.split(",")):
                results.append(check(f"figures of {size:g} GB", figures.of(size), pathlib.Path(scratch, f"figures{size}"),
                                     options.device))
    failed = sum(line["failed"] for line in results)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text(json.dumps({"machine": machine(options.device), "results": results}, indent=1))
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
