"""One HTML file with everything in it: style, script and pictures; nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.figure import Figure

DPI = 160

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #1a1a1a;
  background: #fff; max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 2px solid #0072b2; }
h3 { font-size: 1.08rem; margin: 1.75rem 0 .5rem; }
p, li { max-width: 46rem; }
nav ul { columns: 2; padding-left: 1.2rem; }
a { color: #005b8e; }
.warning { border-left: 5px solid #d55e00; background: #fdf3ec; padding: .6rem 1rem; }
td small { white-space: nowrap; color: #444; }
.small { font-size: .87rem; color: #444; }
.open { color: #8a3b00; font-style: italic; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid #d4d4d4; text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid #555; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
th button::after { content: "\\a0\\2195"; color: #777; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; color: #000; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; color: #000; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); gap: 1rem; }
figure { margin: .5rem 0; break-inside: avoid; }
figure img { width: 100%; height: auto; max-width: 44rem; }
figcaption { font-size: .87rem; color: #444; }
pre { font-size: .8rem; background: #f5f5f5; padding: .75rem; overflow-x: auto;
  white-space: pre-wrap; }
@page { size: A4; margin: 16mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav, th button::after { display: none; }
  h2, h3, caption { break-after: avoid; }
  tr, .warning { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .3rem; }
  td small { white-space: normal; }
  .pictures { grid-template-columns: 1fr 1fr; }
  a { color: inherit; text-decoration: none; }
}
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const text = row => row.cells[column].textContent.trim();
      const value = row => {
        const found = text(row).replace(/\\u2212/g, "-").replace(/,/g, "").match(/^[-+]?[0-9.]+/);
        return found ? parseFloat(found[0]) : NaN;
      };
      const rows = [...table.tBodies[0].rows];
      const numbers = rows.some(row => !isNaN(value(row)));
      rows.sort((a, b) => {
        if (!numbers) return text(a).localeCompare(text(b));
        const [x, y] = [value(a), value(b)];
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
        return x - y;
      });
      if (!rising) rows.reverse();
      table.tBodies[0].append(...rows);
    });
  });
}
"""


def page(title: str, sections: Sequence[tuple[str, str]], *, lead: str) -> str:
    """A page of titled sections, with a table of contents.

    Args:
        title: of the page, as text.
        sections: title as text, and content as HTML.
        lead: HTML above the contents.
    """
    links, bodies = [], []
    for number, (name, body) in enumerate(sections, start=1):
        escaped = html.escape(name)
        links.append(f'<li><a href="#section-{number}">{escaped}</a></li>')
        bodies.append(f'<section id="section-{number}"><h2>{escaped}</h2>{body}</section>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{lead}<nav><ul>{''.join(links)}</ul></nav>"
        f"{''.join(bodies)}<script>{SCRIPT}</script></body></html>\n"
    )


def table(rows: pd.DataFrame, caption: str, *, is_sortable: bool = True) -> str:
    """A table of texts and numbers; a click on a heading sorts it."""
    heads = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in rows)
    lines = "".join(
        f"<tr>{''.join(f'<td>{_cell(str(cell))}</td>' for cell in row)}</tr>"
        for row in rows.itertuples(index=False, name=None)
    )
    return (
        f'<div class="scroll"><table class="{"sortable" if is_sortable else "plain"}">'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """An interval stands below its value, unbroken."""
    value, bracket, interval = text.partition(" (")
    if bracket and interval.endswith(")") and " to " in interval and " " not in value:
        return f"{html.escape(value)}<br><small>({html.escape(interval)}</small>"
    return html.escape(text).replace("+", "+<wbr>")  # names of modalities may be long


def picture(figure: Figure, alt: str, caption: str) -> str:
    """A drawn figure as a picture of the page, with a text for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of text, of a class of the style."""
    of_kind = f' class="{kind}"' if kind else ""
    return f"<p{of_kind}>{html.escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list of texts."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
