# SPDX-License-Identifier: BSD-3-Clause
"""The report of `make bench`: tables in Markdown, the aims with what was reached, and a picture."""
from html import escape

# (section, condition, our row, rival's row, aim, in words): rival's median divided by ours is at least `aim`. The rows
# are those of the GPT-2-small state.
AIMS = [
    ("saves", "WARM", "torchkeep", "torch.save", 2.0, "save: >= 2x torch.save"),
    ("saves", "WARM", "torchkeep", "torch.save, CRC off", 1.0, "save: no slower than torch.save without CRC"),
    ("saves", "WARM", "torchkeep", "safetensors", 1.0, "save: no slower than safetensors"),
    ("saves", "COLD", "torchkeep", "torch.save", 3.0, "save: >= 3x torch.save"),
    ("saves", "WARM", "torchkeep", "plain write", 0.9, "save: >= 0.9 of the plain copy by hand"),
    ("saves", "WARM", "torchkeep, durable", "torch.save + fsync", 2.5, "durable save: >= 2.5x torch.save + fsync"),
    ("saves", "WARM", "torchkeep, durable", "DCP save (fsync)", 3.5, "durable save: >= 3.5x DCP"),
    ("saves", "COLD", "torchkeep, durable", "torch.save + fsync", 6.0, "durable save: >= 6x torch.save + fsync"),
    ("loads", "WARM", "torchkeep", "torch.load", 2.0, "load, every byte verified: >= 2x torch.load"),
    ("loads", "COLD", "torchkeep", "torch.load", 3.0, "load, every byte verified: >= 3x torch.load"),
    ("loads", "WARM", "torchkeep, mapped", "safetensors load_file", 1.0, "mapped: no slower than safetensors"),
    ("resumes", "WARM", "torchkeep", "torch.load + load_state_dict", 4.0, "resume: >= 4x torch.load + load_state_dict"),
    ("resumes", "WARM", "torchkeep", "DCP load", 5.0, "resume: >= 5x DCP load"),
    ("resumes", "WARM", "torchkeep", "torch.load(mmap) + copy", 1.0, "resume: no slower than the unverified mapped copy"),
    ("resumes", "WARM", "torchkeep", "safetensors + copy", 1.0, "resume: no slower than safetensors + copy"),
    ("resumes", "WARM", "torchkeep", "plain read", 0.9, "resume: >= 0.9 of plain cached reads by one thread"),
]
SECTIONS = {"saves": "Saving", "loads": "Loading (cached files)", "resumes": "Resuming into live model and optimizer (cached files)"}


def seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} us"


def table(section, nbytes):
    conditions = list(section)
    lines = ["| | " + " | ".join(f"{c}, median [best..worst] | GB/s" for c in conditions) + " | memory |",
             "|---|" + "---|" * (2 * len(conditions) + 1)]
    names = sorted(section[conditions[0]], key=lambda name: section[conditions[0]][name]["median"])
    for name in names:
        cells = []
        for condition in conditions:
            row = section[condition][name]
            cells.append(f"{seconds(row['median'])} [{seconds(row['best'])}..{seconds(row['worst'])}]")
            cells.append(f"{nbytes / row['median'] / 1e9:.2f}")
        extra = section[conditions[0]][name].get("extra_bytes")
        cells.append("" if extra is None else f"+{extra / 1e6:,.0f} MB")
        bold = "**" if name.startswith("torchkeep") else ""
        lines.append(f"| {bold}{name}{bold} | " + " | ".join(cells) + " |")
    return lines


def aims(workload):
    lines = ["| aim | reached | |", "|---|---|---|"]
    for section, condition, ours, rival, aim, words in AIMS:
        rows = workload.get(section, {}).get(condition, {})
        if ours not in rows or rival not in rows:
            continue
        ratio = rows[rival]["median"] / rows[ours]["median"]
        lines.append(f"| {condition}: {words} | {ratio:.2f}x | {'met' if ratio >= aim else 'not met'} |")
    return lines


def growth_table(growth):
    names = list(next(iter(growth.values()))["rows"])
    lines = ["| state | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for title, entry in growth.items():
        lines.append(f"| {title} | " + " | ".join(seconds(entry["rows"][name]["median"]) for name in names) + " |")
    return lines


def markdown(results):
    machine = results["machine"]
    lines = ["# Benchmarks", "",
             f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, PyTorch "
             f"{machine['torch']}; size \"{results['size']}\", {results['runs']} runs of each in turns; load average "
             f"{machine['load']:.1f} at the start, {machine['load_at_end']:.1f} at the end. GB = 1e9 bytes. \"memory\" is what "
             "the process needed beyond what it held.", "",
             "WARM: free memory was touched just before. COLD: the machine was idle for 9 s before each run. All candidates",
             "were checked for equality before they were timed. torchkeep's loads verify every byte, the others none;",
             "\"mapped\" and \"open and list\" verify when bytes are handed out.", "", "![the figures](bench.svg)"]
    for workload in results["workloads"].values():
        lines += ["", f"## {workload['title']}, {workload['bytes'] / 1e6:,.0f} MB"]
        for section, title in SECTIONS.items():
            if section in workload:
                lines += ["", f"### {title}", "", *table(workload[section], workload["bytes"])]
    if "gpt2" in results["workloads"]:
        lines += ["", "## Aims (GPT-2-small)", "", *aims(results["workloads"]["gpt2"])]
    if results.get("growth"):
        lines += ["", "## How the cost grows (WARM)", "", *growth_table(results["growth"])]
    return "\n".join([*lines, ""])


WIDTH, LEFT, ROW, INK, OURS, THEIRS = 960, 300, 20, "#1f2933", "#0b3d91", "#b7c4d1"


def label(x, y, content, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{INK}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def bars(title, rows, nbytes, top):
    """One panel: a bar for each candidate, as long as its median. The parts and the height used."""
    out = [label(16, top + 16, title, 15, weight="bold")]
    longest = max(row["median"] for row in rows.values())
    y = top + 28
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        length = max(1.5, (WIDTH - LEFT - 190) * row["median"] / longest)
        colour = OURS if name.startswith("torchkeep") else THEIRS
        out.append(label(LEFT - 8, y + 13, name, anchor="end", weight="bold" if colour == OURS else "normal"))
        out.append(f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}" rx="2" fill="{colour}"/>')
        out.append(label(LEFT + length + 6, y + 13, f"{seconds(row['median'])}  {nbytes / row['median'] / 1e9:.1f} GB/s"))
        y += ROW
    return out, y + 14 - top


def picture(results):
    workload = next(iter(results["workloads"].values()))
    out, top = [], 52
    for section, title in SECTIONS.items():
        for condition, rows in workload.get(section, {}).items():
            part, height = bars(f"{title}, {condition}", rows, workload["bytes"], top)
            out += part
            top += height
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">',
            "<title>Medians of saving and loading, shorter is better</title>",
            f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
            label(16, 32, f"{workload['title']}, {workload['bytes'] / 1e6:,.0f} MB: medians, shorter is better", 18,
                  weight="bold")]
    return "\n".join([*head, *out, "</svg>", ""])


def write_report(results, folder):
    (folder / "report.md").write_text(markdown(results))
    (folder / "bench.svg").write_text(picture(results))
