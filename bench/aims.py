# SPDX-License-Identifier: BSD-3-Clause
"""What was aimed at, and whether it was reached."""
from words import seconds

# (workload, section, condition, our row, rival's row, aim, in words): rival's median divided by ours is at least `aim`.
RATIOS = [
    ("gpt2", "saves", "WARM", "torchkeep", "torch.save", 2.0, "save: >= 2x torch.save"),
    ("gpt2", "saves", "WARM", "torchkeep", "torch.save, CRC off", 1.0, "save: no slower than torch.save without CRC"),
    ("gpt2", "saves", "WARM", "torchkeep", "safetensors", 1.0, "save: no slower than safetensors"),
    ("gpt2", "saves", "COLD", "torchkeep", "torch.save", 3.0, "save: >= 3x torch.save"),
    ("gpt2", "saves", "WARM", "torchkeep", "plain write", 0.9, "save: >= 0.9 of the plain copy by hand"),
    ("gpt2", "saves", "WARM", "torchkeep, durable", "torch.save + fsync", 2.5, "durable save: >= 2.5x torch.save + fsync"),
    ("gpt2", "saves", "WARM", "torchkeep, durable", "DCP save (fsync)", 3.5, "durable save: >= 3.5x DCP"),
    ("gpt2", "saves", "WARM", "torchkeep, durable", "plain direct ring + fsync", 0.9, "durable save: >= 0.9 of the raw direct ring"),
    ("gpt2", "saves", "COLD", "torchkeep, durable", "torch.save + fsync", 6.0, "durable save: >= 6x torch.save + fsync"),
    ("gpt2", "loads", "WARM", "torchkeep", "torch.load", 2.0, "load, every byte verified: >= 2x torch.load"),
    ("gpt2", "loads", "COLD", "torchkeep", "torch.load", 3.0, "load, every byte verified: >= 3x torch.load"),
    ("gpt2", "loads", "WARM", "torchkeep, mapped", "safetensors load_file", 1.0, "mapped: no slower than safetensors"),
    ("gpt2", "loads", "WARM", "torchkeep, verify only", "memory read by all cores", 0.7, "verify: >= 0.7 of memory-read speed"),
    ("gpt2", "resumes", "WARM", "torchkeep", "torch.load + load_state_dict", 4.0, "resume: >= 4x torch.load + load_state_dict"),
    ("gpt2", "resumes", "WARM", "torchkeep", "DCP load", 5.0, "resume: >= 5x DCP load"),
    ("gpt2", "resumes", "WARM", "torchkeep", "torch.load(mmap) + copy", 1.0, "resume: no slower than the unverified mapped copy"),
    ("gpt2", "resumes", "WARM", "torchkeep", "safetensors + copy", 1.0, "resume: no slower than safetensors + copy"),
    ("gpt2", "resumes", "WARM", "torchkeep", "plain read by all cores", 0.9, "resume: >= 0.9 of plain cached reads by all cores"),
    ("gpt2", "from_disk", "WARM", "torchkeep", "torch.load", 1.3, "load from disk: >= 1.3x torch.load"),
    ("gpt2", "from_disk", "COLD", "torchkeep", "torch.load", 3.0, "load from disk: >= 3x torch.load"),
    ("small", "saves", "WARM", "torchkeep", "torch.save", 40.0, "100,000 tensors, save: >= 40x torch.save"),
    ("small", "loads", "WARM", "torchkeep", "torch.load", 90.0, "100,000 tensors, load: >= 90x torch.load"),
]
# (workload, section, condition, row, figure, most, in words)
BOUNDS = [
    ("gpt2", "loads", "WARM", "torchkeep, mapped", "median", 5e-3, "open by map: <= 5 ms"),
    ("gpt2", "resumes", "WARM", "torchkeep", "extra_bytes", 64 << 20, "resume: <= 64 MiB of memory more"),
    ("small", "saves", "WARM", "torchkeep", "median", 0.1, "100,000 tensors, save: <= 0.1 s"),
    ("small", "loads", "WARM", "torchkeep", "median", 0.1, "100,000 tensors, load: <= 0.1 s"),
    ("small", "loads", "WARM", "torchkeep, open and list", "median", 0.1, "100,000 tensors, open and list: <= 0.1 s"),
]


def verdict(words, reached, met):
    return f"| {words} | {reached} | {'met' if met else 'not met'} |"


def rows_of(results, workload, section, condition):
    return results["workloads"].get(workload, {}).get(section, {}).get(condition, {})


def ratio_lines(results):
    for workload, section, condition, ours, rival, aim, words in RATIOS:
        rows = rows_of(results, workload, section, condition)
        if ours in rows and rival in rows:
            ratio = rows[rival]["median"] / rows[ours]["median"]
            yield verdict(f"{condition}: {words}", f"{ratio:.2f}x", ratio >= aim)


def bound_lines(results):
    for workload, section, condition, name, figure, most, words in BOUNDS:
        value = rows_of(results, workload, section, condition).get(name, {}).get(figure)
        if value is not None:
            text = seconds(value) if figure == "median" else f"{value / 2**20:.0f} MiB"
            yield verdict(f"{condition}: {words}", text, value <= most)


def training_lines(results):
    for threads, training in results.get("training", {}).items():
        ours, blocking = (training["rows"][name] for name in ("torchkeep", "torchkeep, not in the background"))
        staged = training["rows"]["DCP async_save, staged"]
        on = f"training on {threads} thread(s): "
        yield verdict(on + "a save blocks <= 10 ms", seconds(ours["blocked"]), ours["blocked"] <= 10e-3)
        share = ours["cost"] / blocking["blocked"]
        yield verdict(on + "a save costs <= 5 % of a synchronous one", f"{share:.0%}", share <= 0.05)
        yield verdict(on + "less than DCP's staged save", f"{seconds(ours['cost'])}, DCP {seconds(staged['cost'])}",
                      ours["cost"] < staged["cost"])
        if ours["seconds"] < ours["step"]:
            share = ours["staged_bytes"] / ours["bytes"]
            yield verdict(on + "<= 10 % of the state is copied", f"{share:.0%}", share <= 0.1)


def aims_table(results):
    return ["| aim | reached | |", "|---|---|---|", *ratio_lines(results), *bound_lines(results), *training_lines(results)]
