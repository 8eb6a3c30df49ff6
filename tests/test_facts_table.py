"""What objects show of themselves in a notebook: counts and names, never a patient."""

import clinical
from clinical.cohort.store import Store
from clinical.extract.schema import Extract
from clinical.facts_table import html_of

import html
import re

import polars as pl


def rows_of(shown: str) -> dict[str, str]:
    found = re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", shown)
    return {html.unescape(name): html.unescape(fact) for name, fact in found}


def test_texts_are_escaped():
    shown = html_of("A <b>", {"<i>": "1 < 2 & 3"})
    assert rows_of(shown) == {"<i>": "1 < 2 & 3"}
    assert "<i>" not in shown
    assert "A &lt;b&gt;" in shown


def test_an_extract_shows_what_it_has(finished, hospital_tools):
    shown = Extract.open(finished.extract)._repr_html_()
    events = pl.scan_parquet(finished.extract / "data" / "**" / "*.parquet").select(pl.len())
    facts = rows_of(shown)
    assert facts["events"].startswith(f"{events.collect().item():,} in ")
    assert facts["labels"] == "in_hospital_mortality"
    assert "samples.parquet" in facts["has"]
    assert str(hospital_tools.FIRST)[:6] not in shown


def test_what_lies_below_the_working_folder_is_shown_from_there_on(finished, monkeypatch):
    extract = Extract.open(finished.extract)
    assert repr(extract) == f"Extract({str(finished.extract.resolve())!r})"
    monkeypatch.chdir(finished.extract.parent)
    assert repr(extract) == f"Extract({finished.extract.name!r})"
    assert rows_of(extract._repr_html_())["folder"] == finished.extract.name


def test_a_validation_shows_its_findings_or_that_there_are_none(finished, tmp_path):
    assert "valid" in rows_of(clinical.validate(finished.extract)._repr_html_())["findings"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.parquet").write_text("no table")
    shown = rows_of(clinical.validate(tmp_path)._repr_html_())
    assert any(" error: " in name for name in shown)


def test_a_prepared_cohort_shows_its_counts(finished, hospital_tools):
    store = Store.open(finished.out / "store")
    shown = store._repr_html_()
    facts = rows_of(shown)
    assert facts["samples"].startswith(f"{store.n_samples:,} in ")
    assert f"train {len(store.samples.filter(pl.col('split') == 'train')):,}" in facts["splits"]
    assert "similar" in facts["with neighbours by"]
    assert str(hospital_tools.FIRST)[:6] not in shown
