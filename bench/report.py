# SPDX-License-Identifier: BSD-3-Clause
"""The report of `make bench`: tables in Markdown, the aims with what was reached, and a picture."""
from aims import aims_table
from picture import picture
from words import SECTIONS, seconds


def spread(row, middle="median"):
    return f"{seconds(row[middle])} [{seconds(row['best'])}..{seconds(row['worst'])}]"


def megabytes(value):
    return "" if value is None else f"{value / 1e6:+,.0f} MB"


def emphasis(name):
    return f"**{name}**" if name.startswith("torchkeep") else name


def table(section, nbytes):
    conditions = list(section)
    lines = ["| | " + " | ".join(f"{c}, median [best..worst] | GB/s" for c in conditions) + " | memory |",
             "|---|" + "---|" * (2 * len(conditions) + 1)]
    for name in sorted(section[conditions[0]], key=lambda name: section[conditions[0]][name]["median"]):
        cells = []
        for condition in conditions:
            row = section[condition][name]
            cells += [spread(row), f"{nbytes / row['median'] / 1e9:.2f}"]
        cells.append(megabytes(section[conditions[0]][name].get("extra_bytes")))
        lines.append(f"| {emphasis(name)} | " + " | ".join(cells) + " |")
    return lines


def training_table(training):
    lines = ["| | cost of a save, median [best..worst] | blocked, median (most) | throughput | memory | copied aside |",
             "|---|---|---|---|---|---|"]
    for name, row in sorted(training["rows"].items(), key=lambda item: item[1]["cost"]):
        whole = training["period"] * row["step"]
        lines.append(f"| {emphasis(name)} | {spread(row, 'cost')} | {seconds(row['blocked'])} "
                     f"({seconds(row['blocked_worst'])}) | {whole / (whole + max(row['cost'], 0)):.1%} | "
                     f"{megabytes(row['extra_bytes'])} | {megabytes(row['staged_bytes']).lstrip('+')} |")
    return lines


def training_part(results):
    lines = ["", "## Saving while the demo's language model trains", "",
             "The state is saved every few steps; the cost of a save is what the steps up to the next one take beyond as",
             "many undisturbed ones. The losses are those of a training without saves, to the last bit. \"throughput\" is",
             "that of a training that saves so often, beside one that never does; \"memory\" what it needs beyond that one.",
             "A training that uses every core shares them with whoever writes; one core less is what a training on an",
             "accelerator leaves free."]
    for threads, training in results["training"].items():
        sizes = [row["bytes"] for row in training["rows"].values() if row["bytes"]]
        step = seconds(training["rows"]["torchkeep"]["step"])
        lines += ["", f"### {threads} thread(s), steps of {step}, a state of {max(sizes) / 1e6:,.0f} MB, saved every "
                  f"{training['period']} steps", "", *training_table(training)]
    return lines


def growth_table(growth):
    names = list(next(iter(growth.values()))["rows"])
    lines = ["| state | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for title, entry in growth.items():
        lines.append(f"| {title} | " + " | ".join(seconds(entry["rows"][name]["median"]) for name in names) + " |")
    return lines


def head(results):
    machine = results["machine"]
    return ["# Benchmarks", "",
            f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, PyTorch "
            f"{machine['torch']}; size \"{results['size']}\", {results['runs']} runs of each in turns; load average "
            f"{machine['load']:.1f} at the start, {machine['load_at_end']:.1f} at the end. GB = 1e9 bytes. \"memory\" is what "
            "the process needed beyond what it held.", "",
            "WARM: free memory was touched just before. COLD: the machine was idle for 9 s before each run. All candidates",
            "were checked for equality before they were timed. torchkeep's loads verify every byte, the others none;",
            "\"mapped\" and \"open and list\" verify when bytes are handed out.", "", "![the figures](bench.svg)"]


def markdown(results):
    lines = head(results)
    for workload in results["workloads"].values():
        lines += ["", f"## {workload['title']}, {workload['bytes'] / 1e6:,.0f} MB"]
        for section, title in SECTIONS.items():
            if section in workload:
                lines += ["", f"### {title}", "", *table(workload[section], workload["bytes"])]
    if "training" in results:
        lines += training_part(results)
    lines += ["", "## Aims", "", *aims_table(results)]
    if results.get("growth"):
        lines += ["", "## How the cost grows (WARM)", "", *growth_table(results["growth"])]
    return "\n".join([*lines, ""])


def write_report(results, folder):
    (folder / "report.md").write_text(markdown(results))
    (folder / "bench.svg").write_text(picture(results))
