"""Pictures of what moved a score: bars of parts, shaded notes, and images with maps over them.

What raises a score is orange, what lowers it blue, in all of them.
"""

from clinical.modalities.decoding import Recipe

import html
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from PIL import Image

# Okabe and Ito's, as in the pictures of the evaluation.
RAISES, LOWERS, GREY = "#D55E00", "#0072B2", "#6E6E6E"
SHADES = LinearSegmentedColormap.from_list("effect", [LOWERS, "#FFFFFF", RAISES])
STRONGEST = 0.75
"""Opacity of the strongest word or region: what is under it stays readable."""
FAINT = 0.02
"""Log odds that get the full shade at least: where no word matters none looks as if it did."""
FINE = 256
"""Side of a map before it is laid over an image, in pixels."""


def draw_parts(parts: pd.DataFrame, ax: Axes) -> Axes:
    """Bars of the Shapley values of one sample and task.

    Args:
        parts: rows of `InputExplanation.modalities`, in the order to be drawn.
        ax: to draw on.
    """
    shown = parts[parts["present"]][::-1]
    absent = parts["part"][~parts["present"]].tolist()
    values = shown["shapley"].to_numpy()
    colours = [RAISES if value > 0 else LOWERS for value in values]
    bars = ax.barh(shown["part"].tolist(), values, color=colours, height=0.6)
    ax.bar_label(bars, [signed(value) for value in values], padding=4)
    ax.axvline(0, color="black", linewidth=0.8)
    one = parts.iloc[0]
    title = f"{one['task']}: score {one['score']:.3f}"
    title += f"\nlog odds {signed(one['logit'])}, with nothing known {signed(one['logit_nothing'])}"
    ax.set_title(title, loc="left", fontsize="medium")
    words = "what each part adds (Shapley value, log odds)"
    ax.set_xlabel(words + (f"\nnot recorded: {', '.join(absent)}" if absent else ""))
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    room = 0.18 * max(high - low, 1e-6)  # for the numbers
    ax.set_xlim(low - room * (low < 0), high + room)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def signed(value: float) -> str:
    """A log odds with its sign; what rounds to nothing has none."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def note_html(text: str, words: pd.DataFrame, *, strongest: float) -> str:
    """A note with its words shaded by what they add to a score.

    Args:
        text: of the whole note.
        words: its rows of `InputExplanation.words`, for one task.
        strongest: the effect that gets the full shade, in log odds.

    Returns:
        HTML of the text, escaped. What lies behind the last word that was read is grey.
    """
    said = words[words["start"].notna()].sort_values("start")
    parts, reached = [], 0
    for start, end, effect in said[["start", "end", "attribution"]].itertuples(index=False):
        parts.append(html.escape(text[reached:start]))
        shade = STRONGEST * min(abs(effect) / strongest, 1.0) if strongest > 0 else 0.0
        colour = RAISES if effect > 0 else LOWERS
        alpha = f"{round(255 * shade):02x}"
        parts.append(
            f'<span style="background:{colour}{alpha};border-radius:2px" '
            f'title="{effect:+.3f}">{html.escape(text[start:end])}</span>'
        )
        reached = end
    rest = html.escape(text[reached:])
    if rest.strip():
        rest = f'<span style="color:{GREY}" title="not read">{rest}</span>'
    style = "white-space:pre-wrap;line-height:1.7;background:#fff;color:#000;padding:0.3em"
    return f'<div style="{style}">{"".join(parts)}{rest}</div>'


def draw_image(
    picture: NDArray[np.uint8],
    regions: pd.DataFrame,
    axes: tuple[Axes, Axes],
    *,
    recipe: Recipe,
    strongest: float,
) -> None:
    """A real image, and beside it the same under the map of what its regions add to a score.

    Args:
        picture: [H, W] grey.
        regions: the image's rows of `InputExplanation.regions`, for one task.
        axes: left and right.
        recipe: how the image was made a square.
        strongest: the effect that gets the full shade, in log odds.
    """
    height, width = picture.shape
    for ax in axes:
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    effect = _fine(regions)
    share = np.clip(effect / strongest, -1, 1) if strongest > 0 else np.zeros_like(effect)
    shaded = SHADES(0.5 + np.sign(share) / 2)
    shaded[..., 3] = STRONGEST * np.abs(share)
    # The map is of the square that the image was fitted into.
    left, upper, wide, high = replace(recipe, size=FINE).placed(width, height)
    across, down = width / wide, height / high
    extent = (-left * across, (FINE - left) * across, (FINE - upper) * down, -upper * down)
    axes[1].imshow(shaded, extent=extent, interpolation="nearest")
    axes[1].set(xlim=(0, width), ylim=(height, 0))


def _fine(regions: pd.DataFrame) -> NDArray[np.float32]:
    """[FINE, FINE] the effects of an image's patches, bilinear between their centres."""
    side = int(regions["down"].max()) + 1
    grid = np.zeros((side, side), dtype=np.float32)
    grid[regions["down"], regions["across"]] = regions["attribution"]
    fine = Image.fromarray(grid).resize((FINE, FINE), Image.Resampling.BILINEAR)
    return np.asarray(fine, dtype=np.float32)
