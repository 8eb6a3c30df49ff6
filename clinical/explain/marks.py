"""What a patient's page is made of: bars, small curves and tables, as HTML without a script."""

from clinical.explain.drawing import GREY, LOWERS, RAISES

import html
import math
from collections.abc import Sequence
from datetime import datetime

import pandas as pd

STYLE = """
:root { color-scheme: light; }
* { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
body { font: 15px/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #1a1a1a;
  background: #fff; max-width: 62rem; margin: 0 auto; padding: 1.2rem; }
h1 { font-size: 1.5rem; margin: .8rem 0 .2rem; }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; padding-bottom: .15rem;
  border-bottom: 2px solid #0072b2; break-after: avoid; }
p { margin: .3rem 0; max-width: 54rem; }
.patient { border: 2px solid #d55e00; background: #fdf3ec; padding: .5rem .8rem; font-weight: 600; }
.score { display: flex; gap: 1.2rem; align-items: baseline; flex-wrap: wrap; }
.score b { font-size: 2.4rem; line-height: 1.1; }
.small, td.source, summary { font-size: .82rem; color: #444; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th { text-align: left; border-bottom: 2px solid #555; font-size: .82rem; vertical-align: bottom; }
th, td { padding: .2rem .5rem; }
td { border-bottom: 1px solid #ddd; vertical-align: middle; }
tr { break-inside: avoid; }
td.number { text-align: right; white-space: nowrap; }
td.when { white-space: nowrap; }
td.name { min-width: 11rem; }
th.number { text-align: right; }
td.bar { width: 9rem; min-width: 7rem; }
tr.sum td { font-weight: 600; border-top: 2px solid #555; }
.track { position: relative; height: .95rem; background: linear-gradient(#888, #888) 50% / 1px 100%
  no-repeat; }
.track i { position: absolute; top: .1rem; bottom: .1rem; }
.curve { display: block; }
img { max-width: 100%; height: auto; }
details { margin-top: .5rem; }
@page { size: A4; margin: 12mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  table, .small, td.source { font-size: 8pt; }
  th, td { padding: .1rem .3rem; }
  td.bar { width: 6rem; min-width: 6rem; }
  img { max-height: 9cm; }
}
"""


def number(value: float) -> str:
    """A measured value, to four digits that matter."""
    return "" if math.isnan(value) else f"{value:.4g}".replace("-", "−")


def bar(value: float, *, strongest: float) -> str:
    """A bar from the middle: to the right what raises the score, to the left what lowers it."""
    share = 50 * min(abs(value) / strongest, 1.0) if strongest > 0 else 0.0
    left = 50.0 if value > 0 else 50 - share
    colour = RAISES if value > 0 else LOWERS
    style = f"left:{left:.1f}%;width:{share:.1f}%;background:{colour}"
    return f'<div class="track"><i style="{style}"></i></div>'


def curve(
    times: Sequence[datetime],
    values: Sequence[float],
    *,
    first: datetime,
    last: datetime,
    size: tuple[int, int] = (130, 26),
) -> str:
    """A small curve of a variable over the time from `first` to `last`, a dot a measurement."""
    width, height = size
    span = max((last - first).total_seconds(), 1.0)
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    points = [
        (
            4 + (width - 8) * (time - first).total_seconds() / span,
            height / 2 if high == low else 4 + (height - 8) * (high - value) / room,
        )
        for time, value in zip(times, values, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y in points)
    said = f"{len(points)}: {number(low)} to {number(high)}" if len(points) > 1 else "1"
    return (
        f'<svg class="curve" width="{width}" height="{height}" aria-hidden="true">'
        f'<path d="M{width - 1} 0V{height}" stroke="{GREY}" stroke-dasharray="2 2"/>'
        f'<polyline points="{line}" fill="none" stroke="#333"/>'
        f'<g fill="#333">{dots}</g></svg><span class="small">{said}</span>'
    )


def table(
    heads: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], *, last: str = ""
) -> str:
    """A table of cells (class of the style, HTML); `last` is the class of its last row."""
    kinds = [kind for kind, _ in rows[0]] if rows else [""] * len(heads)
    top = "".join(
        f'<th class="{kind}">{html.escape(head)}</th>'
        for kind, head in zip(kinds, heads, strict=True)
    )
    lines = []
    for place, row in enumerate(rows):
        kind = f' class="{last}"' if last and place == len(rows) - 1 else ""
        cells = "".join(f'<td class="{of}">{cell}</td>' for of, cell in row)
        lines.append(f"<tr{kind}>{cells}</tr>")
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def source(file: object, row: object) -> str:
    """Where an event stands."""
    return "" if pd.isna(file) else html.escape(f"{file}, row {row}")  # type: ignore[call-overload]


def before(time: pd.Timestamp, prediction: pd.Timestamp) -> str:
    """When something was recorded, and how long before the prediction."""
    if pd.isna(time):
        return "no time"
    hours = (prediction - time).total_seconds() / 3600
    away = f"{hours:.1f} h" if hours < 72 else f"{hours / 24:,.0f} days"
    return f"{time:%Y-%m-%d %H:%M}<br><span class='small'>{away} before</span>"
