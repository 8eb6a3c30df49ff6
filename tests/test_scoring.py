"""What is asked of a finished model is written whole, or not at all."""

from clinical.errors import ConfigError
from clinical.scoring import Explained, embed_extract, explain_extract

import pandas as pd
import pytest

ASKING = [embed_extract, explain_extract]


@pytest.mark.parametrize("ask", ASKING)
def test_a_place_that_cannot_hold_what_is_written_is_told_before_anything_is_asked(ask, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out, words in ((tmp_path, "is a folder"), (tmp_path / "file" / "x", "file is a file")):
        with pytest.raises(ConfigError, match=words):
            ask(tmp_path / "no-bundle", tmp_path / "no-extract", out=out)


@pytest.mark.parametrize("ask", ASKING)
def test_what_is_written_is_what_is_given_back_and_nothing_half_written_stays(
    ask, finished, tmp_path
):
    out = tmp_path / "new" / "answer.parquet"
    given = ask(finished.bundle, finished.extract, out=out)
    if isinstance(given, Explained):
        given = given.neighbours
    pd.testing.assert_frame_equal(pd.read_parquet(out), given, check_dtype=False)
    assert [path.name for path in out.parent.iterdir()] == ["answer.parquet"]
