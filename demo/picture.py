# SPDX-License-Identifier: BSD-3-Clause
"""Draws the loss curves of the three runs, and their distance from the uninterrupted one, as one SVG."""
import math
from dataclasses import dataclass
from html import escape

WHOLE, KILLED, WEIGHTS, INK, FAINT = "#8ec5ff", "#0b3d91", "#e8590c", "#1f2933", "#9aa5b1"
WIDTH, LEFT, RIGHT = 960, 56, 24
TOP_PANEL, BOTTOM_PANEL = (92, 400), (452, 560)
HEIGHT = 606


@dataclass
class Kill:
    at: int  # last step that the killed process finished
    resumed_from: int
    inside_save: bool


class Panel:
    """Maps steps and values to places in a rectangle."""

    def __init__(self, place, steps, low, high):
        self.top, self.bottom = place
        self.steps, self.low, self.high = steps, low, high

    def x(self, step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def y(self, value):
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def line(self, curve, colour, width, opacity=1.0):
        points = " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in curve)
        return (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'stroke-opacity="{opacity}" stroke-linejoin="round" stroke-linecap="round"/>')

    def grid(self, ticks, form="{:g}"):
        out = []
        for tick in ticks:
            y = self.y(tick)
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>')
            out.append(text(LEFT - 8, y + 4, form.format(tick) if tick else "0", FAINT, anchor="end"))
        return out


def text(x, y, content, colour=INK, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def nice_ticks(low, high, about=5):
    """Round numbers between low and high."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= min((m for m in (1, 2, 5, 10)), key=lambda m: abs((high - low) / (m * step) - about))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, int(high / step + 1e-9) + 1)]


def marks(panel, kills):
    """A band over the steps that were lost and done again, and a line where the process died."""
    out = []
    for kill in kills:
        x0, x1 = panel.x(kill.resumed_from), panel.x(kill.at)
        out.append(f'<rect x="{x0:.1f}" y="{panel.top}" width="{x1 - x0:.1f}" height="{panel.bottom - panel.top}" '
                   'fill="#f1d9a8" fill-opacity="0.55"/>')
        out.append(f'<line x1="{x1:.1f}" x2="{x1:.1f}" y1="{panel.top}" y2="{panel.bottom}" stroke="{INK}" '
                   'stroke-dasharray="3 3"/>')
        out.append(f'<line x1="{x0:.1f}" x2="{x0:.1f}" y1="{panel.top}" y2="{panel.bottom}" stroke="{FAINT}"/>')
    return out


def labels(panel, kills):
    """What the marks mean, beside them: to the right, or to the left where the picture ends."""
    out = []
    for kill in kills:
        lines = (f"SIGKILL at step {kill.at}", "inside a save" if kill.inside_save else "between two saves",
                 f"continued from step {kill.resumed_from}")
        fits = panel.x(kill.at) + 150 < WIDTH
        x, anchor = (panel.x(kill.at) + 6, "start") if fits else (panel.x(kill.resumed_from) - 6, "end")
        for number, line in enumerate(lines):
            out.append(text(x, panel.top + 12 + 16 * number, line, anchor=anchor, weight="normal" if number else "bold"))
    return out


def legend(entries):
    out, x = [], LEFT
    for name, colour, width in entries:
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="62" y2="62" stroke="{colour}" stroke-width="{width}" '
                   'stroke-linecap="round"/>')
        out.append(text(x + 36, 66, name, size=13))
        x += 36 + 7 * len(name) + 22
    return out


def distance_from(curve, reference):
    there = dict(reference)
    return [(step, loss - there[step]) for step, loss in curve if step in there]


def draw(steps, curves, kills):
    """The picture. curves: [(step, loss)] of (a), (b) and (c)."""
    whole, killed, weights = curves
    shown = [loss for curve in curves for _, loss in curve]
    loss = Panel(TOP_PANEL, steps, math.floor(min(shown) * 5) / 5, math.ceil(max(shown) * 5) / 5)
    kept = distance_from(killed, whole)
    lost = distance_from(weights, whole)
    reach = max(0.05, 1.1 * max(abs(value) for _, value in kept + lost))
    distance = Panel(BOTTOM_PANEL, steps, -reach, reach)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">',
           "<title>Loss of three training runs: uninterrupted, killed and resumed, resumed from weights only</title>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           text(LEFT, 34, "Loss on text the model does not learn from", size=18, weight="bold")]
    out += legend([("(a) never interrupted", WHOLE, 8), ("(b) killed twice, resumed by torchkeep", KILLED, 2.5),
                   ("(c) resumed from weights only", WEIGHTS, 2.5)])
    out += loss.grid(nice_ticks(loss.low, loss.high))
    out += marks(loss, kills)
    out += labels(loss, kills)
    out.append(loss.line(whole, WHOLE, 8))
    out.append(loss.line(weights, WEIGHTS, 2.2))
    out.append(loss.line(killed, KILLED, 2.2))

    title = "Distance from (a)" + ("" if any(value for _, value in kept) else ": (b) is exactly 0 at every step")
    out.append(text(LEFT, BOTTOM_PANEL[0] - 14, title, size=14, weight="bold"))
    out += distance.grid(nice_ticks(-reach, reach, 4), "{:+g}")
    out += marks(distance, kills)
    out.append(distance.line(lost, WEIGHTS, 2.2))
    out.append(distance.line(kept, KILLED, 2.5))
    for tick in nice_ticks(0, steps, 8):
        out.append(text(loss.x(tick), BOTTOM_PANEL[1] + 20, f"{tick:g}", FAINT, anchor="middle"))
    out.append(text(WIDTH - RIGHT, BOTTOM_PANEL[1] + 38, "training step", FAINT, anchor="end"))
    return "\n".join([*out, "</svg>", ""])
