"""Pictures show the real thing, harmlessly, with the shade where it belongs."""

from clinical.errors import ConfigError
from clinical.explain import explain_inputs
from clinical.explain.drawing import FINE, draw_image, draw_parts, note_html
from clinical.modalities.decoding import Recipe

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def words_of(text: str, effects: dict[str, float]) -> pd.DataFrame:
    rows = [(text.index(w), text.index(w) + len(w), effect) for w, effect in effects.items()]
    frame = pd.DataFrame([*rows, (None, None, 0.5)], columns=["start", "end", "attribution"])
    return frame.astype({"start": "Int64", "end": "Int64"})


def test_a_note_is_shown_whole_and_as_text_alone():
    text = 'no <script>alert("x")</script> fever & pain\nnever read'
    shown = note_html(text, words_of(text, {"<": -1.0, "fever": 2.0, "pain": 0.1}), strongest=2.0)
    assert "<script" not in shown
    assert "&lt;</span>script&gt;" in shown
    plain = re.sub(r"<[^>]*>", "", shown)
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        plain = plain.replace(entity, letter)
    assert plain == text
    assert '<span style="color:#6E6E6E" title="not read">\nnever read</span>' in shown


def test_words_that_raise_are_orange_and_those_that_lower_blue_by_their_size():
    text = "cough fever rest"
    shown = note_html(
        text, words_of(text, {"cough": 2.0, "fever": -1.0, "rest": 0.0}), strongest=2.0
    )
    shades = re.findall(r"background:(#\w{6})(\w\w);[^>]*>(\w+)<", shown)
    assert [(colour, word) for colour, _, word in shades][:2] == [
        ("#D55E00", "cough"),
        ("#0072B2", "fever"),
    ]
    cough, fever, rest = (int(alpha, 16) for _, alpha, _ in shades)
    assert cough == pytest.approx(2 * fever, abs=1)
    assert cough < 200  # the letters stay readable
    assert rest == 0


def regions_of(side: int, at: tuple[int, int], effect: float) -> pd.DataFrame:
    down, across = np.divmod(np.arange(side**2), side)
    values = np.where((down == at[0]) & (across == at[1]), effect, 0.0)
    return pd.DataFrame({"down": down, "across": across, "attribution": values})


@pytest.mark.parametrize(
    ("width", "height", "square", "at", "where"),
    [
        (80, 80, "pad", (1, 1), (30, 30)),
        (80, 80, "pad", (2, 1), (30, 50)),
        (160, 80, "pad", (1, 2), (100, 20)),  # the square has a black border above and below
        (80, 160, "pad", (2, 1), (20, 100)),
        (160, 80, "stretch", (1, 2), (100, 30)),
    ],
)
def test_the_shade_of_a_patch_lies_over_what_it_shows(width, height, square, at, where):
    figure = Figure(figsize=(4, 2))
    axes = figure.subplots(1, 2)
    picture = np.full((height, width), 128, np.uint8)
    recipe, regions = Recipe(32, square=square), regions_of(4, at, 1.0)
    draw_image(picture, regions, (axes[0], axes[1]), recipe=recipe, strongest=1.0)
    assert axes[1].get_xlim() == (0, width)
    assert axes[1].get_ylim() == (height, 0)
    shade = axes[1].images[1]
    left, right, lower, upper = shade.get_extent()
    alpha = np.asarray(shade.get_array())[..., 3]
    row, column = np.unravel_index(alpha.argmax(), alpha.shape)
    x = left + (column + 0.5) * (right - left) / FINE
    y = upper + (row + 0.5) * (lower - upper) / FINE
    assert (x, y) == pytest.approx(where, abs=1.5)
    FigureCanvasAgg(figure).draw()


def test_parts_are_drawn_with_their_values_and_those_absent_named():
    parts = pd.DataFrame(
        {
            "task": "death",
            "part": ["events", "notes", "images"],
            "present": [True, True, False],
            "shapley": [0.8, -0.2, 0.0],
            "score": 0.7,
            "logit": 0.9,
            "logit_nothing": 0.3,
        }
    )
    ax = draw_parts(parts, Figure().subplots())
    assert [bar.get_width() for bar in ax.patches] == [-0.2, 0.8]
    assert "not recorded: images" in ax.get_xlabel()
    assert {text.get_text() for text in ax.texts} == {"+0.80", "−0.20"}


@pytest.fixture(scope="module")
def explained(small_predictor, small_extract):
    return explain_inputs(small_predictor, small_extract, highest=16, steps=2)


@pytest.mark.parametrize("slices", [1, 3])
def test_a_sample_is_drawn_over_its_own_notes_and_images(explained, slices):
    has = explained.regions.groupby("subject_id")["slice"].nunique()
    rank = next(
        rank
        for rank, subject in enumerate(explained.samples.query("task == 'death'")["subject_id"])
        if has.get(subject) == slices
    )
    shown = explained.notes_html(rank, task="death")
    row = explained.samples.query("task == 'death'").iloc[rank]["row"]
    text = explained.notes.filter(explained.notes["row"] == row)["text_value"][0]
    assert text in re.sub(r"<[^>]*>", "", shown)
    axes = explained.plot_images(rank, task="death", figure=Figure())
    assert len(axes) == 2 * slices
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes[::2]]
    assert {picture.shape for picture in shown} == {(12, 10)}
    titles = [ax.get_title() for ax in axes[::2]]
    if slices == 1:
        assert " slice " not in titles[0]
    else:
        assert [title.split(", ")[-1] for title in titles] == [f"slice {n} of 3" for n in (1, 2, 3)]
        assert shown[0].mean() > shown[1].mean() > shown[2].mean()  # as they were made
    ax = explained.plot_modalities(rank, task="death", ax=Figure().subplots())
    assert ax.get_title(loc="left").startswith("death: score ")


def test_a_picture_of_nobody_is_refused(explained):
    with pytest.raises(ConfigError, match="task: say which; choose one of death, transfer"):
        explained.plot_modalities()
    with pytest.raises(ConfigError, match="rank: 16 samples were looked at closely for this task"):
        explained.notes_html(16, task="death")
