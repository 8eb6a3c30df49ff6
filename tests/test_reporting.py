"""The report of a run: complete in itself, of no single patient, and working in a browser."""

import clinical
from clinical.errors import ConfigError
from clinical.evaluation.tripod import ITEMS

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory) -> Path:
    """A finished run's folder without its store."""
    out = tmp_path_factory.mktemp("report") / "run"
    ignored = shutil.ignore_patterns("store", "checkpoints", "logs")
    return Path(shutil.copytree(finished.out, out, ignore=ignored))


@pytest.fixture(scope="module")
def written(run, finished) -> Path:
    return clinical.report(run, extract=finished.extract)


def test_the_report_is_one_file_that_fetches_nothing(written):
    text = written.read_text()
    assert written.name == "report.html"
    assert re.findall(r'(?:src|href)="(?!#|data:image/png;base64,)', text) == []
    assert "@import" not in text
    assert "url(" not in text
    assert text.count("<img ") >= 4
    assert text.count("<img alt=") == text.count("<img ")


def test_its_figures_are_those_of_the_run(written, run):
    metrics = json.loads((run / "metrics.json").read_text())
    (task,) = metrics["evaluation"]["tasks"]
    text = written.read_text()
    for name in ("AUROC", "Brier", "calibration slope"):
        assert f"{task['metrics'][name]['value']:.3f}".replace("-", "−") in text
    assert "not a medical device" in text
    # So few died that four in five of them leave one in five who are few.
    assert "Thresholds not shown: " in text


def test_its_section_of_missing_inputs_says_what_the_card_says(written, run):
    text = written.read_text()
    section = text.partition(">When inputs are missing</h2>")[2].partition("</section>")[0]
    metrics = json.loads((run / "metrics.json").read_text())
    assert 'alt="AUROC of in_hospital_mortality without each part' in section
    for row in metrics["evaluation"]["costs"]:
        if row["metric"] == "AUROC":
            assert f"<td>{row['left_out']}</td><td>{row['without']:.3f}</td>" in section
    groups = {row["group"] for row in metrics["patterns"] if row["column"] == "modalities"}
    for group in groups - {"not shown"}:
        assert f"<td>{group}</td>" in section
    assert ("not shown" in groups) == ("Not shown: " in section)


def test_a_run_from_before_parts_were_left_out_says_so(run, tmp_path):
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    (changed / "predictions_left_out.parquet").unlink()
    assert "was not measured" in clinical.report(changed).read_text()


def test_it_holds_no_value_of_a_single_patient(written, run):
    text = re.sub(r'src="data:[^"]*"', "", written.read_text())
    predictions = pd.read_parquet(run / "predictions.parquet")
    for subject in predictions["subject_id"].unique():
        assert str(subject) not in text
    for score in predictions["score"].dropna():
        assert f"{score:.6f}" not in text
    for time in predictions["prediction_time"]:
        assert str(time) not in text


def test_where_few_were_judged_no_figure_is_shown(run, tmp_path):
    path = clinical.report(run, out=tmp_path / "few.html", smallest=25)
    text = path.read_text()
    assert "<img" not in text
    assert "Performance:" not in text
    assert "Fewer than 25 people, or with one of the outcomes, were judged" in text
    assert "fewer than 25" in text
    patients = text.partition(">Patients</h2>")[2].partition("</section>")[0]
    assert "<td>10</td>" not in patients  # the events


def test_counts_of_few_are_withheld(run, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["counts"]["samples"] = {"train": 90, "no split": 3, "held_out": None}
    metrics["counts"]["modalities"] = {"events": None, "events+notes": 90}
    metrics["present"] = {"events": "over 95 %", "notes": "about 90 %"}
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    (changed / "metrics.json").write_text(json.dumps(metrics))
    text = clinical.report(changed).read_text()
    assert "<td>no split</td><td>fewer than 10</td>" in text
    assert "<td>train</td><td>90</td>" in text
    assert "<td>held_out</td><td>withheld</td>" in text
    assert "<td>with notes</td><td>about 90 %</td>" in text


def test_thresholds_are_not_judged_where_they_were_chosen(run, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["evaluation"]["at_thresholds"]  # as of a run without a held-out label
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    (changed / "metrics.json").write_text(json.dumps(metrics))
    assert "Thresholds not shown: " not in clinical.report(changed).read_text()


def test_authors_say_what_a_run_cannot_know(run, tmp_path):
    said = tmp_path / "about.yaml"
    said.write_text("3b: Adults <in> intensive care\n17: Not needed\n")
    text = clinical.report(run, about=said, out=tmp_path / "r.html").read_text()
    assert "Adults &lt;in&gt; intensive care" in text
    assert text.count("for the authors to say</td>") == written_open(run, tmp_path) - 2
    with pytest.raises(ConfigError, match="TRIPOD\\+AI has no item 28; known are 1, 2, 3a"):
        clinical.report(run, about={"28": "x"})
    with pytest.raises(ConfigError, match="about: 17 should be text"):
        clinical.report(run, about={"17": 5})


def written_open(run, tmp_path):
    """Items without an answer where the authors say nothing."""
    return (
        clinical.report(run, out=tmp_path / "open.html")
        .read_text()
        .count("for the authors to say</td>")
    )


def test_every_item_of_the_checklist_is_there(written):
    text = written.read_text()
    assert len(ITEMS) == 52
    for item in ITEMS:
        assert f"<td>{item}</td>" in text


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"has no run\.yaml, metrics\.json, .*no finished run"):
        clinical.report(tmp_path)
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        clinical.report(run, out=tmp_path)
    with pytest.raises(ConfigError, match="smallest: 0 should be at least 1"):
        clinical.report(run, smallest=0)


PROBE = """
<script>
window.addEventListener("load", () => {
  const images = [...document.images];
  const tables = [...document.querySelectorAll("table.sortable")];
  const table = tables.find(each => each.tBodies[0].rows.length > 3);
  const column = 1;
  const read = () => [...table.tBodies[0].rows].map(row => parseFloat(
    row.cells[column].textContent.replace("\\u2212", "-")));
  const head = table.querySelectorAll("thead th button")[column];
  const before = read();
  head.click();
  const rising = read();
  head.click();
  const falling = read();
  // Every table that can be sorted is sorted by its last column, and keeps its rows.
  const kept = tables.every(each => {
    const rows = [...each.tBodies[0].rows].map(row => row.textContent).sort().join();
    each.querySelector("thead tr").lastElementChild.firstElementChild.click();
    return rows === [...each.tBodies[0].rows].map(row => row.textContent).sort().join();
  });
  const links = [...document.querySelectorAll("nav a")].filter(
    each => document.querySelector(each.getAttribute("href")) === null).length;
  const drawn = images.filter(image => image.naturalWidth > 300).length;
  const result = {errors, images: images.length, drawn, before, rising, kept, links,
    falling, wide: document.documentElement.scrollWidth - innerWidth};
  document.title = "probe:" + JSON.stringify(result);
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: apt-get install chromium")
def test_in_chromium_every_picture_is_drawn_and_tables_sort(written, tmp_path):
    text = written.read_text()
    catch = "<script>const errors = []; onerror = message => errors.push(message);</script>"
    page = tmp_path / "probe.html"
    page.write_text(
        text.replace("<head>", f"<head>{catch}", 1).replace("</body>", f"{PROBE}</body>", 1)
    )
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    found = subprocess.run(
        [BROWSER, *arguments, profile, "--window-size=1200,900", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (title,) = re.findall(r"<title>probe:(.*?)</title>", found.stdout)
    result = json.loads(title)
    assert result["errors"] == []
    assert "CONSOLE" not in found.stderr
    assert result["images"] == result["drawn"] == text.count("<img ")
    rising = np.array([value for value in result["rising"] if value is not None])
    assert (np.diff(rising) >= 0).all()
    assert sorted(rising) == sorted(value for value in result["before"] if value is not None)
    assert [v for v in result["falling"] if v is not None] == list(rising[::-1])
    assert result["kept"]
    assert result["links"] == 0
    assert result["wide"] <= 0
