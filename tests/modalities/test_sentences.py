from clinical.modalities.sentences import Wordings, sentence_starts

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def sentences(text: str) -> list[str]:
    starts = [*sentence_starts(text).tolist(), len(text)]
    return [text[a:b] for a, b in pairwise(starts)]


@pytest.mark.parametrize(
    "expected",
    [
        ["No pain. ", "No oedema."],
        ["Temp 38.1 today; ", 'he said "no."  ', "Rest"],
        ["LUNGS: clear\n\n  ", "HEART: regular\n", "PLAN\n"],
        ["ALLERGIES: none.,", "PLAN: rest."],
        ["one line without an end"],
        ["\n\n", "after empty lines"],
        [""],
    ],
)
def test_sentences_end_at_their_marks_and_at_line_ends(expected) -> None:
    assert sentences("".join(expected)) == expected


@given(text=st.text("ab.,;!\n \")'", max_size=80))
def test_sentences_are_the_text_cut_before_something_written(text: str) -> None:
    found = sentences(text)
    assert "".join(found) == text
    assert all(not part[:1].isspace() for part in found[1:])


def test_lines_that_say_the_same_have_one_number_and_short_ones_none() -> None:
    wordings, text = (
        Wordings(),
        "He is on  home oxygen. HE IS ON HOME\toxygen. No pain.\nhe is on it",
    )
    numbers = wordings.of(text, sentence_starts(text)).tolist()
    assert numbers == [0, 0, -1, -1]
    another = "No change today at all. He is on home oxygen."
    assert wordings.of(another, sentence_starts(another)).tolist() == [1, 0]
    assert np.array_equal(Wordings().of("", sentence_starts("")), [-1])
