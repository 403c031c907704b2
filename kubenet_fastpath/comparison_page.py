"""A comparison as one self-contained HTML page with plots, in light and dark, for wide and narrow windows."""

from __future__ import annotations

from html import escape

from .comparison import Comparison
from .comparison_report import comparison_tables
from .report import Table
from .topology import Addressing

__all__ = ["comparison_page"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dee4; --paper: #ffffff; --card: #f6f8fa;
  --m0: #b35900; --m1: #1f6feb; --m2: #2da44e; --m3: #8250df; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #30363d; --paper: #0d1117;
  --card: #161b22; --m0: #f0883e; --m1: #58a6ff; --m2: #56d364; --m3: #bc8cff; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; font-size: .875rem; width: 100%; }
th, td { text-align: left; padding: .45rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top;
  min-width: 8rem; }
tr:last-child td { border-bottom: 0; } thead th { background: var(--card); }
td.other { font-weight: 600; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
.m0 { fill: var(--m0); } .m1 { fill: var(--m1); } .m2 { fill: var(--m2); } .m3 { fill: var(--m3); }
"""
WIDTH, BAR, GAP = 640, 12, 26  # of the plot, in its own units


def comparison_page(comparison: Comparison) -> str:
    """The page: UTF-8, no script, nothing loaded from elsewhere."""
    body = ["<h1>kubenet and Azure CNI, side by side</h1>"]
    body.append(
        '<p class="soft">The same flows, packet by packet, through the same nodes with each addressing mode. '
        "Bold cells differ from kubenet.</p>"
    )
    changes = comparison.changes()
    body.append("<h2>What changes when the cluster leaves kubenet</h2>")
    sentences = changes or ["Nothing that an end of a flow notices."]
    body.append("<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>")
    for mode, why in comparison.impossible.items():
        body.append(f"<p>{escape(mode.value)} cannot have this cluster: {escape(why)}.</p>")
    plot = _cost_plot(comparison)
    if plot:
        body.append("<h2>What a packet costs</h2>")
        body.append(
            '<p class="soft">ns of CPU time in all nodes on the way, established connections, median.</p>'
        )
        body.append(plot)
    for part in comparison_tables(comparison):
        if isinstance(part, Table):
            body.append(f"<h2>{escape(part.title[:1].upper() + part.title[1:])}</h2>{_table(part)}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>kubenet and Azure CNI, side by side</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    lines = []
    for row in table.rows:
        first, *cells = (str(cell) for cell in row)
        kubenet = cells[0] if table.columns[1:2] == (Addressing.KUBENET.value,) else None
        marks = [' class="other"' if kubenet is not None and cell != kubenet else "" for cell in cells]
        drawn = "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, cells, strict=True))
        lines.append(f"<tr><th>{escape(first)}</th>{drawn}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cost_plot(comparison: Comparison) -> str:
    """Bars of each class, one a mode, drawn to one scale."""
    modes = list(comparison.crossings)
    costs = {f.label: [comparison.ns_per_packet(mode, f.label) for mode in modes] for f in comparison.flows}
    highest = max((cost for row in costs.values() for cost in row if cost is not None), default=0.0)
    if not highest:
        return ""
    scale = (WIDTH - 70) / highest
    at, parts = 0, []
    for k, mode in enumerate(modes):
        x = k * 140
        parts.append(f'<rect class="m{k % 4}" x="{x}" y="2" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="13">{escape(mode.value)}</text>')
    at = 40
    for label, row in costs.items():
        parts.append(f'<text x="0" y="{at}">{escape(label)}</text>')
        at += 8
        for k, cost in enumerate(row):
            if cost is None:
                parts.append(f'<text class="soft" x="4" y="{at + 10}">not delivered</text>')
            else:
                width = cost * scale
                parts.append(
                    f'<rect class="m{k % 4}" x="0" y="{at}" width="{width:.1f}" height="{BAR}" rx="2"/>'
                )
                parts.append(f'<text class="soft" x="{width + 6:.1f}" y="{at + 11}">{cost:,.0f}</text>')
            at += BAR + 3
        at += GAP
    head = f'<svg viewBox="0 0 {WIDTH} {at}" role="img" aria-label="ns a packet by class and mode">'
    return f"{head}{''.join(parts)}</svg>"
