# SPDX-License-Identifier: BSD-3-Clause
"""The picture of `make bench`: bars of medians, ours beside the others'."""
from html import escape

from words import SECTIONS, seconds

WIDTH, LEFT, ROW, INK, OURS, THEIRS = 960, 300, 20, "#1f2933", "#0b3d91", "#b7c4d1"


def label(x, y, content, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{INK}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def bars(title, rows, nbytes, top):
    """One panel: a bar for each candidate, as long as its median; with its rate, of so many bytes. The parts and the height."""
    out = [label(16, top + 16, title, 15, weight="bold")]
    longest = max(row["median"] for row in rows.values()) or 1
    y = top + 28
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        length = max(1.5, (WIDTH - LEFT - 190) * row["median"] / longest)
        colour = OURS if name.startswith("torchkeep") else THEIRS
        out.append(label(LEFT - 8, y + 13, name, anchor="end", weight="bold" if colour == OURS else "normal"))
        out.append(f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}" rx="2" fill="{colour}"/>')
        rate = nbytes / row["median"] / 1e9 if nbytes else 0
        # What is faster than memory did not look at the bytes.
        words = f"  {rate:.1f} GB/s" if 0 < rate < 100 else ""
        out.append(label(LEFT + length + 6, y + 13, seconds(row["median"]) + words))
        y += ROW
    return out, y + 14 - top


def picture(results):
    workload = next(iter(results["workloads"].values()), {"bytes": 0})
    what = f"{workload['title']}, {workload['bytes'] / 1e6:,.0f} MB" if "title" in workload else "Saving while a model trains"
    out, top = [], 52
    for section, title in SECTIONS.items():
        for condition, rows in workload.get(section, {}).items():
            part, height = bars(f"{title}, {condition}", rows, workload["bytes"], top)
            out += part
            top += height
    for threads, training in results.get("training", {}).items():
        rows = {name: {"median": max(row["cost"], 0)} for name, row in training["rows"].items()}
        part, height = bars(f"What one save costs a training on {threads} thread(s)", rows, None, top)
        out += part
        top += height
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
            'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">',
            "<title>Medians of saving and loading, shorter is better</title>",
            f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
            label(16, 32, f"{what}: medians, shorter is better", 18, weight="bold")]
    return "\n".join([*head, *out, "</svg>", ""])
