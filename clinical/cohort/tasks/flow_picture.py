"""The flow of a cohort as boxes: who is there from top to bottom, who leaves beside them."""

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, PAD, GAP = 1.0, 0.6, 1.0  # heights in lines of text
LEFT, RIGHT = (0.0, 0.44), (0.54, 1.0)
MARGIN = 0.2
WIDTH, INCHES = 8.5, 0.2  # of the picture, and of a line
MOST_OUTCOMES = 6
DIGIT = "\u2007"  # a space as wide as one

Box = list[str]


def size(lines: pl.DataFrame) -> tuple[float, float]:
    """Width and height in inches at which the texts fit their boxes."""
    return WIDTH, INCHES * (_total(_heights(*boxes(lines))) + 2 * MARGIN)


def draw(lines: pl.DataFrame, ax: "Axes | None") -> "Axes":
    """Draw the lines of a `Flow`."""
    main, beside = boxes(lines)
    heights = _heights(main, beside)
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=size(lines), layout="constrained")
    ax.set(xlim=(-0.01, 1.01), ylim=(_total(heights) + MARGIN, -MARGIN))
    ax.axis("off")
    middle = (LEFT[0] + LEFT[1]) / 2
    top = 0.0
    for box, side, height in zip(main, [*beside, []], heights, strict=True):
        end = _draw_box(ax, box, LEFT, top, is_centred=True)
        if side:
            # The arrow to those who leave starts on the one that goes on.
            following = top + height + GAP
            half = _height(side) / 2
            level = max((end + following) / 2, top + half)
            _draw_box(ax, side, RIGHT, level - half, is_centred=False)
            _arrow(ax, (middle, end), (middle, following))
            _arrow(ax, (middle, level), (RIGHT[0], level))
            top = following
    return ax


def _heights(main: list[Box], beside: list[Box]) -> list[float]:
    """Of each box from top to bottom with what stands beside it."""
    pairs = zip(main, [*beside, []], strict=True)
    return [max(_height(box), _height(side)) for box, side in pairs]


def _total(heights: list[float]) -> float:
    return sum(heights) + GAP * (len(heights) - 1)


def boxes(lines: pl.DataFrame) -> tuple[list[Box], list[Box]]:
    """The texts of the boxes from top to bottom, and of those beside the arrows between them."""
    stages = {
        name: rows.rows(named=True)
        for (name,), rows in lines.group_by("stage", maintain_order=True)
    }
    (extract,), (anchor,) = stages["extract"], stages["anchor"]
    (eligible,), (labelled,) = stages["eligible"], stages["labelled"]
    main = [
        [f"{extract['subjects']:,} {extract['what']}"],
        [f"{anchor['samples']:,} {anchor['what']}", f"of {anchor['subjects']:,} subjects"],
        [f"{eligible['samples']:,} {eligible['what']} of {eligible['subjects']:,} subjects"],
        [f"{labelled['samples']:,} {labelled['what']} of {labelled['subjects']:,} subjects"],
    ]
    main[-1] += _outcomes(stages.get("outcome", []))
    (nobody,) = stages["no anchor"]
    beside = [
        [f"{nobody['subjects']:,} subjects: {nobody['what']}"],
        _leaving("left out", stages.get("left out", [])),
        _leaving("without a label", stages.get("no label", [])),
    ]
    return main, beside


def _leaving(title: str, rows: list[dict[str, object]]) -> Box:
    total = sum(int(str(row["samples"])) for row in rows)
    counts = [f"{row['samples']:,}" for row in rows]
    wide = max(map(len, counts), default=0)
    # Numbers stand under one another by spaces as wide as a digit.
    # They also keep their width in an SVG file, in which others collapse.
    padded = [DIGIT * 2 + count.rjust(wide, DIGIT) + DIGIT for count in counts]
    lines = [f"{count}{row['what']}" for count, row in zip(padded, rows, strict=True)]
    return [f"{total:,} {title}", *lines]


def _outcomes(rows: list[dict[str, object]]) -> Box:
    shown = [f"{row['samples']:,} {row['what']}" for row in rows[:MOST_OUTCOMES]]
    more = len(rows) - MOST_OUTCOMES
    return [*shown, *([f"and {more} more classes"] if more > 0 else [])]


def _height(box: Box) -> float:
    return LINE * len(box) + PAD if box else 0.0


def _draw_box(
    ax: "Axes", box: Box, across: tuple[float, float], top: float, *, is_centred: bool
) -> float:
    """Draws it and gives where it ends."""
    from matplotlib.patches import Rectangle

    height = _height(box)
    width = across[1] - across[0]
    ax.add_patch(
        Rectangle((across[0], top), width, height, facecolor="none", edgecolor="0.3", linewidth=0.8)
    )
    x = across[0] + width / 2 if is_centred else across[0] + 0.015
    ax.text(
        x,
        top + height / 2,
        "\n".join(box).replace("$", r"\$"),
        ha="center" if is_centred else "left",
        va="center",
        fontsize=9,
        linespacing=1.35,
    )
    return top + height


def _arrow(ax: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0, "lw": 0.8},
    )
