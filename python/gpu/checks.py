# SPDX-License-Identifier: BSD-3-Clause
"""What must hold on a GPU. Each check gets a folder of its own and the device, returns what it saw, and raises when it fails."""
import concurrent.futures
import pathlib
import random
import resource
import subprocess
import sys
import warnings

import torch

import torchkeep

DTYPES = [getattr(torch, name) for name in (
    "float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool", "complex64", "complex128",
    "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "uint16", "uint32", "uint64")
    if hasattr(torch, name)]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def random_tensor(dtype: torch.dtype, device: str) -> torch.Tensor:
    """Of any bits but NaNs that are no numbers of the dtype; bools are 0 or 1."""
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (24 * dtype.itemsize,), dtype=torch.uint8)
    return raw.view(dtype).reshape(4, 6).to(device)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def dtypes(folder: pathlib.Path, device: str) -> str:
    """save, torch.load, load, load_into, inspect and verify of tensors of the device, of every dtype."""
    torch.manual_seed(0)
    state = {str(dtype): random_tensor(dtype, device) for dtype in DTYPES}
    state["view"] = state["torch.float32"].t()[1:, ::2]
    torchkeep.save(state, folder / "ours.pt")
    torch.save(state, folder / "theirs.pt")
    torchkeep.verify(folder / "ours.pt")
    for file in ("ours.pt", "theirs.pt"):
        for load in (torchkeep.load, lambda path, **options: torch.load(path, weights_only=True, **options)):
            for place in (None, "cpu", device):
                read = load(folder / file, map_location=place)
                wrong = [name for name in state if not same(read[name], state[name])]
                assert not wrong, f"{file}, {load}, {place}: {wrong} differ"
                expected = torch.device(place or device).type
                assert {tensor.device.type for tensor in read.values()} == {expected}, f"{file}: not on {expected}"
        into = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name != "view"}
        memory = {name: tensor.data_ptr() for name, tensor in into.items()}
        into["view"] = into["torch.float32"].t()[1:, ::2]
        torchkeep.load_into(folder / file, **into)
        assert all(same(into[name], state[name]) for name in state), f"load_into({file}) gave other bits"
        assert all(into[name].data_ptr() == where for name, where in memory.items()), "load_into moved a tensor"
        info = torchkeep.inspect(folder / file)
        assert {one.device.split(":")[0] for _, one in info.tensors()} == {device}
    return f"{len(DTYPES)} dtypes and a view, both ways"


def program(*words) -> subprocess.CompletedProcess:
    script = pathlib.Path(__file__).with_name("training.py")
    return subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True, timeout=240)


def digest_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-800:]}"
    return next(line for line in done.stdout.splitlines() if line.startswith("digest"))


def killed_and_resumed(mode: str):
    def check(folder: pathlib.Path, device: str) -> str:
        kills = [11, 30]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            whole = pool.submit(program, folder / "whole", 60, mode, device)
            for kill in kills:
                done = program(folder / "killed", 60, mode, device, kill)
                assert done.returncode == -9, f"it was to be killed after step {kill}: {done.returncode}\n{done.stderr[-800:]}"
            last = program(folder / "killed", 60, mode, device)
            assert "event resumed" in last.stdout, f"it did not resume: {last.stdout[-500:]}"
            assert digest_of(last) == digest_of(whole.result()), "not the bits of the run that was not killed"
        bad = [line for line in last.stdout.splitlines() if line.startswith(("event warning", "event save_failed"))]
        assert not bad, f"warnings: {bad}"
        return f"60 steps, killed after {kills}: the same bits"

    return check


def provoked_saves(folder: pathlib.Path, device: str) -> str:
    """Memory that changes between finish_step and the next step, on another stream too: every checkpoint is of its step."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(4)]).to(device)
    teacher = torch.nn.Linear(1024, 1024).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    stream = torch.cuda.Stream() if device == "cuda" else None
    expected = {}
    with warnings.catch_warnings(), torchkeep.Run(folder / "run", save_every=1, keep_last=0, on_event=lambda event: None) as run:
        run.track(model=model, teacher=teacher, optimizer=optimizer)
        for step in run.steps(12):
            optimizer.zero_grad()
            model(torch.randn(8, 1024, device=device)).square().mean().backward()
            optimizer.step()
            state = {**model.state_dict(), **{f"teacher.{name}": value for name, value in teacher.state_dict().items()}}
            expected[step + 1] = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            run.finish_step()
            provoke(step % 3, model, teacher, stream)
    wrong = [one.step for one in torchkeep.checkpoints(folder / "run") if not is_state(one.path, expected[one.step])]
    assert not wrong, f"checkpoints that are not of their step: {wrong}"
    return f"{len(torchkeep.checkpoints(folder / 'run'))} checkpoints, each the state of its step"


def provoke(kind: int, model: torch.nn.Module, teacher: torch.nn.Module, stream) -> None:
    if kind == 0:  # an average that is swapped in for an evaluation
        kept = [parameter.data.clone() for parameter in model.parameters()]
        for parameter in model.parameters():
            parameter.data.zero_()
        for parameter, old in zip(model.parameters(), kept):
            parameter.data.copy_(old)
    elif kind == 1:
        for parameter in teacher.parameters():
            parameter.data.add_(1)
    elif stream is not None:
        with torch.cuda.stream(stream):
            for parameter in model.parameters():
                parameter.data.mul_(1.5)
        torch.cuda.current_stream().wait_stream(stream)
    else:
        for parameter in model.parameters():
            parameter.data.mul_(1.5)


def is_state(path: str, expected: dict) -> bool:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    read = {**saved["model"], **{f"teacher.{name}": value for name, value in saved["teacher"].items()}}
    return all(same(read[name], tensor) for name, tensor in expected.items())


def other_device(folder: pathlib.Path, device: str) -> str:
    """A checkpoint of the GPU is resumed on the CPU, and that of the CPU on the GPU: weights and moments keep their bits."""
    for number, (first, second) in enumerate(((device, "cpu"), ("cpu", device))):
        directory, seen = folder / str(number), []
        for place in (first, second):
            torch.manual_seed(number)
            model = torch.nn.Linear(64, 64).to(place)
            optimizer = torch.optim.AdamW(model.parameters())
            with torchkeep.Run(directory, any_devices=True, on_event=lambda event: None) as run:
                run.track(model=model, optimizer=optimizer)
                step = run.resume()
                if not seen:
                    for step in run.steps(3):
                        model(torch.ones(2, 64, device=place)).square().sum().backward()
                        optimizer.step()
                        run.finish_step()
                else:
                    assert step == 3, f"{first} -> {second}: resumed at {step}"
                    assert next(model.parameters()).device.type == second
                    assert all(state["exp_avg"].device.type == second for state in optimizer.state.values())
                seen.append([bits(value) for value in model.state_dict().values()] +
                            [bits(state[name]) for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")])
        assert seen[0] == seen[1], f"{first} -> {second}: other bits"
    return "both ways"


def memory(folder: pathlib.Path, device: str) -> str:
    """How much more memory saving and loading 1 GiB takes, on the device and on the host."""
    count, size = 16, 1 << 24
    state = {str(i): torch.full((size,), float(i), device=device) for i in range(count)}
    path, mib = folder / "big.pt", 1 << 20
    total = count * size * 4
    torchkeep.save(state, path)  # buffers that stay are made once
    figures = []
    for name, call in (("save", lambda: torchkeep.save(state, path)), ("load_into", lambda: torchkeep.load_into(path, **state))):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = torch.cuda.memory_allocated() if device == "cuda" else 0
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        call()
        more = torch.cuda.max_memory_allocated() - used if device == "cuda" else 0
        host = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        figures.append(f"{name}: device +{more // mib} MiB, host +{host // mib} MiB")
        assert more <= total // 4, f"{name} took {more} bytes of the device for a state of {total}"
    return f"{total // mib} MiB; " + "; ".join(figures)


def many_threads(folder: pathlib.Path, device: str) -> str:
    """Loads in several threads at once, each on the device."""
    state = {str(i): torch.randn(1000, device=device) for i in range(50)}
    torchkeep.save(state, folder / "a.pt")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: torchkeep.load(folder / "a.pt"), range(8)))
    assert all(same(one[name], state[name]) for one in read for name in state)
    return "8 loads in 4 threads"


def damaged(folder: pathlib.Path, device: str) -> str:
    """A flipped bit anywhere is an error, and live tensors of the device keep their bits where verify_first is set."""
    state = {str(i): torch.randn(4096, device=device) for i in range(4)}
    torchkeep.save(state, folder / "a.pt")
    good = (folder / "a.pt").read_bytes()
    generator = random.Random(0)
    for _ in range(20):
        spoiled = bytearray(good)
        spoiled[generator.randrange(8192, len(good) - 8192)] ^= 1 << generator.randrange(8)
        (folder / "b.pt").write_bytes(spoiled)
        into = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        try:
            torchkeep.load_into(folder / "b.pt", verify_first=True, **into)
        except torchkeep.Error:
            assert not any(tensor.any() for tensor in into.values()), "an error, and yet a tensor changed"
        else:
            assert all(same(into[name], state[name]) for name in state), "other numbers without an error"
    return "20 flipped bits: no other number"


ALL = {
    "dtypes": dtypes,
    **{f"training_{mode}": killed_and_resumed(mode) for mode in ("amp", "fused", "streams", "graph")},
    "provoked_saves": provoked_saves,
    "other_device": other_device,
    "memory": memory,
    "many_threads": many_threads,
    "damaged": damaged,
}
