# SPDX-License-Identifier: BSD-3-Clause
"""The page that shows at a glance what happened, in one file without scripts or outside links."""
from html import escape

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f7fa; color: #1f2933; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 32px 0 8px; }
p { margin: 6px 0; }
.lead { color: #52606d; font-size: 17px; max-width: 780px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px; margin: 24px 0; }
.card { background: #fff; border-radius: 10px; padding: 14px 16px; border-top: 4px solid #9aa5b1; box-shadow: 0 1px 2px #0002; }
.card.good { border-color: #2f9e44; } .card.lost { border-color: #e8590c; } .card.bad { border-color: #c92a2a; }
.card b { display: block; font-size: 23px; line-height: 1.25; }
.card span { color: #52606d; font-size: 14px; display: block; overflow-wrap: anywhere; }
.paper { background: #fff; border-radius: 10px; padding: 10px; box-shadow: 0 1px 2px #0002; }
.paper svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; background: #fff; border-radius: 10px; box-shadow: 0 1px 2px #0002; font-size: 15px; }
td, th { text-align: left; padding: 8px 14px; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
th { color: #52606d; font-weight: 600; } tr:last-child td { border-bottom: 0; }
pre { background: #fff; border-radius: 10px; padding: 14px 16px; box-shadow: 0 1px 2px #0002; font-size: 13px; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0; }
code { font-size: 14px; } .prompt { color: #9aa5b1; }
footer { color: #7b8794; font-size: 14px; margin-top: 32px; }
"""


def card(kind, headline, explanation):
    return f'<div class="card {kind}"><b>{escape(headline)}</b><span>{escape(explanation)}</span></div>'


def table(rows, head):
    out = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    out += ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return "".join([*out, "</table>"])


def page(headline, lead, cards, svg, happened, proofs, sample, about):
    """cards: (kind, headline, explanation); happened and proofs: rows of text; sample: (prompt, text)."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>torchkeep demo</title><style>{STYLE}</style></head><body><main>
<h1>{escape(headline)}</h1>
<p class="lead">{escape(lead)}</p>
<div class="cards">{"".join(card(*entry) for entry in cards)}</div>
<div class="paper">{svg}</div>
<h2>What happened to run (b)</h2>
{table(happened, ("process", "started from", "ended", "what the kill cost"))}
<h2>What was checked</h2>
{table(proofs, ("", "result", "how"))}
<h2>What the model writes now</h2>
<p>The same text in (a) and (b), after {escape(str(about["steps"]))} steps:</p>
<pre><span class="prompt">{escape(sample[0])}</span>{escape(sample[1])}</pre>
<footer>{escape(about["line"])}</footer>
</main></body></html>
"""
