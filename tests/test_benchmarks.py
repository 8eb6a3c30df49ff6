"""What the benchmarks' figures rest on: who sees which label, and what is compared with what."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import polars as pl
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    """The benchmarks' modules, which import each other by name."""
    found = {}
    sys.path.insert(0, str(BENCHMARKS))
    try:
        for name in (
            "bootstrap",
            "comparing",
            "fusions",
            "links",
            "physionet2012",
            "label_efficiency",
            "transfer",
        ):
            spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
            found[name] = importlib.util.module_from_spec(spec)
            sys.modules[name] = found[name]
            spec.loader.exec_module(found[name])
    finally:
        sys.path.remove(str(BENCHMARKS))
    return found


@pytest.fixture(scope="module")
def comparing(modules):
    return modules["comparing"]


@pytest.fixture(scope="module")
def physionet2012(modules):
    return modules["physionet2012"]


@pytest.fixture
def labels() -> pd.DataFrame:
    died = np.random.default_rng(0).random(1000) < 0.14
    return pd.DataFrame({"subject_id": np.arange(1000), "boolean_value": died})


# Labels


def test_every_subject_is_held_out_once_and_draws_share_the_fold(physionet2012, labels, tmp_path):
    parts = physionet2012.write_parts(
        labels, tmp_path, folds=5, repeats=1, shares=[1.0, 0.05], draws=2
    )
    assert len(parts) == 5 * (1 + 2)
    held_out = []
    for part in parts:
        split = pd.read_parquet(part.splits).set_index("subject_id")["split"]
        assert part.splits == part.whole.splits  # a draw is of its fold
        if part.share == 1:
            held_out += [*split[split == "held_out"].index]
    assert sorted(held_out) == list(range(1000))


def test_few_labels_are_drawn_twenty_times_and_many_five(modules, labels, tmp_path):
    efficiency = modules["label_efficiency"]
    for share, n_draws in ((0.01, 20), (0.1, 20), (0.25, 5), (1.0, 5)):
        parts = efficiency.parts_of(labels, tmp_path, share)
        assert len({part.name for part in parts}) == n_draws
        assert [part.fold for part in parts[:5]] == [0, 1, 2, 3, 4]  # a killed one has whole rounds
        assert {part.share for part in parts} == {share}


def test_both_lines_of_few_labels_differ_by_pretraining_alone(modules):
    pretrained, scratch = modules["label_efficiency"].LINES
    for share in (0.01, 0.25, 1.0):
        more = set(scratch.overrides(share)) - set(pretrained.overrides(share))
        assert more == {"pretrain=null"}
        assert set(pretrained.overrides(share)) < set(scratch.overrides(share))


def test_a_part_is_found_again_by_its_name(physionet2012, tmp_path):
    for part in (
        physionet2012.Part(tmp_path, 0, 3),
        physionet2012.Part(tmp_path, 1, 2, 0.05, 7),
    ):
        assert physionet2012.Part.named(tmp_path, part.name) == part


def test_scores_of_other_settings_are_not_mixed(physionet2012, tmp_path):
    import typer

    line = physionet2012.NETWORKS["event_set"]
    physionet2012.check_recipe(tmp_path, [line], ["seed=1"])
    physionet2012.check_recipe(tmp_path, [line], ["seed=1"])
    with pytest.raises(typer.BadParameter, match="other settings of event_set"):
        physionet2012.check_recipe(tmp_path, [line], ["seed=2"])


# Comparisons


def scored(model: str, noise: float, *, parts: int = 4, share: float = 1.0) -> pd.DataFrame:
    """Parts of one fold each; the smaller the noise, the better the ranks."""
    frames = []
    for number in range(parts):
        draws = np.random.default_rng(number)
        label = (draws.random(300) < 0.2).astype(float)
        score = label + noise * draws.normal(size=300) + 5 * number
        frame = pd.DataFrame({"subject_id": 300 * number + np.arange(300), "label": label})
        frame["score"] = 1 / (1 + np.exp(-score))
        names = {"model": model, "share": share, "part": f"0-{number}", "fold": f"0-{number}"}
        frames.append(frame.assign(core_minutes=1.0, peak_mb=2.0, **names))
    return pd.concat(frames, ignore_index=True)


def test_each_model_is_compared_with_the_best_classical_one(comparing):
    scores = pd.concat([scored("ours", 0.4), scored("poor", 2.0), scored("bar", 0.6)])
    rows = {r["model"]: r for r in comparing.judged(scores, ["poor", "bar"], resamples=50)}
    assert {row["auroc_bar"] for row in rows.values()} == {"bar"}
    assert rows["bar"]["auroc_difference"] == rows["bar"]["auroc_low"] == 0
    for metric in ("auroc", "auprc"):
        ours, difference = rows["ours"][metric], rows["ours"][f"{metric}_difference"]
        assert difference == pytest.approx(ours - rows["bar"][metric])
        assert 0 < rows["ours"][f"{metric}_low"] < difference < rows["ours"][f"{metric}_high"]
        assert rows["poor"][f"{metric}_high"] < 0


def test_parts_without_the_bar_are_left_out(comparing):
    scores = pd.concat([scored("ours", 0.5), scored("bar", 0.6, parts=3)])
    rows = {r["model"]: r for r in comparing.judged(scores, ["bar"], resamples=10)}
    assert {row["parts"] for row in rows.values()} == {3}
    fewer = pd.concat([scored("ours", 0.5, parts=3), scored("bar", 0.6, parts=3)])
    expected = {r["model"]: r for r in comparing.judged(fewer, ["bar"], resamples=10)}
    assert rows["ours"] == pytest.approx(expected["ours"])


def test_parts_with_scales_of_their_own_are_ranked_each_by_itself(comparing):
    rows = list(comparing.judged(scored("bar", 0.01), ["bar"], resamples=10))
    assert rows[0]["auroc"] == 1.0


def test_scoring_the_same_subjects_again_narrows_no_interval(comparing):
    ours, bar = scored("ours", 0.5), scored("bar", 0.6)

    def width(repeats: int) -> float:
        again = [
            frame.assign(part=f"{n}-" + frame["part"], fold=f"{n}-" + frame["fold"])
            for n in range(repeats)
            for frame in (ours, bar)
        ]
        found = pd.concat(again)
        both = (found[found["model"] == name] for name in ("ours", "bar"))
        values = comparing.resampled(*both, "AUROC", resamples=300)[1:]
        return float(np.ptp(np.quantile(values, (0.025, 0.975))))

    assert width(4) == pytest.approx(width(1), rel=0.05)


def test_draws_of_labels_that_differ_widen_the_interval(comparing):
    bar = scored("bar", 0.6, parts=1)

    def width(noises: tuple[float, float]) -> float:
        pairs = [(scored("ours", noise, parts=1), bar) for noise in noises]
        sides = [
            pd.concat([pair[side].assign(part=f"0-0-{n}") for n, pair in enumerate(pairs)])
            for side in (0, 1)
        ]
        values = comparing.resampled(*sides, "AUROC", resamples=300)[1:]
        return float(np.ptp(np.quantile(values, (0.025, 0.975))))

    assert width((0.3, 3.0)) > 2 * width((0.6, 0.6))


def test_a_network_costs_what_it_costs_alone_also_beside_its_ensemble(physionet2012, tmp_path):
    labels = pd.DataFrame({"subject_id": [1, 2, 3], "boolean_value": [True, False, False]})
    cost = {"seconds": 60.0, "core_seconds": 60.0, "peak_mb": 100.0}
    alone = pd.DataFrame({"event_set": [0.9, 0.2, 0.1]}, index=[1, 2, 3])
    together = alone.assign(**{"event_set, 3 networks": [0.8, 0.2, 0.2]})
    for slug, scores, times in (("event_set", alone, 1), ("event_set-x3", together, 3)):
        dear = scores.assign(**{name: times * value for name, value in cost.items()})
        physionet2012.write(dear, tmp_path / "scores" / "0-0" / f"{slug}.parquet")
    found = physionet2012.gathered(tmp_path, labels).groupby("model")
    assert found["core_minutes"].first().to_dict() == {
        "event_set": 1.0,
        "event_set, 3 networks": 3.0,
    }
    assert (found.size() == 3).all()


# Links


@pytest.fixture
def links(modules):
    return modules["links"]


def test_a_share_of_each_subjects_codes_is_gone_from_the_extract(links, hospital, tmp_path):
    altered = links.hide_once(hospital, tmp_path / "hidden", share=0.2)
    before, after = (
        pl.read_parquet(folder / "data" / "**" / "*.parquet") for folder in (hospital, altered)
    )
    hidden = pl.read_parquet(altered / "hidden.parquet")
    assert after.join(hidden, on=["subject_id", "code"]).is_empty()
    gone = before.join(hidden, on=["subject_id", "code"], how="anti")
    assert after.equals(gone)
    assert hidden["code"].str.contains(r"^(ICD10CM|ATC)//").all()
    table = pl.read_parquet(hospital / "metadata" / "codes.parquet")
    coded = before.join(table.filter(pl.col("parent_codes").list.len() > 0), on="code")
    counts = coded.group_by("subject_id").agg(pl.col("code").n_unique())
    taken = hidden.group_by("subject_id").len()
    joined = counts.join(taken, on="subject_id", how="left")
    expected = (0.2 * joined["code"]).round().clip(lower_bound=1)
    assert joined["len"].to_list() == expected.to_list()
    assert links.hide_once(hospital, altered, share=0.9) == altered
    assert pl.read_parquet(altered / "hidden.parquet").equals(hidden)


def test_the_bayes_posterior_knows_the_hospital_better_than_popularity(links, hospital, tmp_path):
    altered = links.hide_once(hospital, tmp_path / "hidden", share=0.2)
    hidden = pl.read_parquet(altered / "hidden.parquet").with_columns(is_edge=pl.lit(True))
    seen = pl.read_parquet(altered / "data" / "**" / "*.parquet").select("subject_id", "code")
    codes = pl.concat([seen, hidden.select("subject_id", "code")])
    codes = codes.filter(pl.col("code").str.contains(r"^(ICD10CM|ATC)//")).unique()
    counts = codes.group_by("code").agg(train_subjects=pl.len())
    pairs = codes.select("subject_id").unique().join(counts, how="cross")
    pairs = pairs.join(seen, on=["subject_id", "code"], how="anti")
    pairs = pairs.join(hidden, on=["subject_id", "code"], how="left").to_pandas()
    pairs["is_edge"] = pairs["is_edge"].notna()
    pairs["score"] = links.bayes_scores(altered, pairs, share=0.2)
    rows = links.evaluate_links(pairs, resamples=2)
    assert (rows["difference"] > [0.06, 0.3]).all()


# Fusions


@pytest.fixture
def fusions(modules):
    return modules["fusions"]


def leave_out_of(fusions, known: pd.DataFrame, *, noise: float, less: dict[str, float]) -> object:
    """What `leave_out` gives of a line whose scores are so noisy, and noisier without a part."""
    frames = []
    for part in (None, *fusions.MODALITIES):
        draws = np.random.default_rng(5)
        blur = (noise + less.get(part, 0.0)) * draws.normal(size=len(known))
        score = 1 / (1 + np.exp(-known["boolean_value"] - blur))
        frame = known[fusions.KEYS].assign(score=score, modalities=known["modalities"])
        frames.append(frame.assign(left_out=pd.Series([part] * len(known), dtype="string")))
    return pd.concat(frames, ignore_index=True).sample(frac=1, random_state=0)


def test_a_modality_that_hurts_is_told_apart_from_one_that_helps(fusions):
    draws = np.random.default_rng(0)
    n = 400
    pattern = np.where(np.arange(n) % 2, "+".join(fusions.MODALITIES), "events+static+codes")
    known = pd.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pd.Timestamp("2020-01-01"),
            "boolean_value": draws.random(n) < 0.4,
            "modalities": pattern,
        }
    )
    lines = fusions.fusion_lines() | fusions.modality_lines()
    noise = dict.fromkeys(lines, 2.0) | {"attention": 1.0, "without notes": 0.3}
    scores = {
        line: [leave_out_of(fusions, known, noise=noise[line], less={"images": 2.0})] * 2
        for line in lines
    }
    found = fusions.tables(known.drop(columns="modalities"), scores)
    additions = found["additions"].set_index("with all, against")
    assert additions.index[additions["hurts"]].tolist() == ["without notes"]
    assert additions.loc["only events", "low"] > 0
    assert additions["samples"].to_dict()["without images"] == n / 2
    assert additions["samples"].to_dict()["without events"] == n
    removals = found["removals"].set_index(["fusion", "removed"])
    assert removals.loc[("attention", "images"), "high"] < 0
    assert removals.loc[("attention", "codes"), ["difference", "low", "high"]].tolist() == [0] * 3
    whole = found["fusions"].set_index("fusion")
    assert whole.loc["attention", "difference"] == 0
    assert whole.loc["gated", "high"] < 0
    patterns = found["patterns"]
    assert set(patterns["present"]) == set(pattern)
    assert set(patterns["fusion"]) == set(fusions.FUSIONS)
    assert (patterns["samples"] == n / 2).all()


def test_every_line_of_the_fusions_is_a_run(fusions):
    import clinical

    for own in (fusions.fusion_lines() | fusions.modality_lines()).values():
        for given in ([], ["pretrain=null"]):
            clinical.Run.read(fusions.CONFIG, fusions.overridden(own, given))


# Coverage of the bootstrap


def test_the_true_figures_are_those_of_very_many_rows(modules):
    from clinical.evaluation.metrics import Scored, compute

    for a, b in modules["bootstrap"].RISKS.values():
        rows = modules["bootstrap"].drawn(400_000, a, b, np.random.default_rng(0))
        found = compute(Scored.of(*rows), np.ones((1, 400_000)))
        for name, value in modules["bootstrap"].truth(a, b).items():
            assert found[name][0] == pytest.approx(value, abs=0.012), name


def test_intervals_hold_the_truth_about_as_often_as_they_say(modules):
    repeats = 200
    hits = list(modules["bootstrap"].hits(2000, 1.0, 9.0, repeats=repeats, resamples=200, seed=3))
    for name in ("AUROC", "Brier"):
        # Three standard errors of 200 repeats below and above 95 %.
        assert 181 <= sum(one[name] for one in hits) <= 199, name


# Beginning from another unit's bundle


def test_a_fold_of_the_target_sees_a_tenth_of_the_labels_and_all_held_out(modules, tmp_path):
    transfer = modules["transfer"]
    died = np.random.default_rng(0).random(500) < 0.1
    labels = pd.DataFrame({"subject_id": np.arange(500), "boolean_value": died})
    (split, *_) = transfer.dealt(died, folds=5)
    part = transfer.Part(tmp_path, unit=1, fold=0)
    transfer.write_folds(part, labels, split)
    seen = pd.read_parquet(part.labels)["subject_id"]
    assert set(np.flatnonzero(split == "held_out")) <= set(seen)
    few = labels[labels["subject_id"].isin(seen) & (split != "held_out")]
    assert len(few) == pytest.approx(0.1 * (split != "held_out").sum(), abs=2)
    assert few["boolean_value"].sum() >= 2


def test_the_target_has_a_quarter_of_other_codes_without_a_word_on_them(modules, tmp_path):
    from clinical.extract.schema import Extract
    from clinical.extract.write import write_extract

    transfer = modules["transfer"]
    codes = [f"V{number}" for number in range(8)]
    rows = {"subject_id": [1] * 8 + [2] * 8, "time": [None] * 16, "code": codes * 2}
    events = pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us")})
    when = pl.DataFrame({"subject_id": [1, 2], "prediction_time": [pd.Timestamp("2020")] * 2})
    when = when.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))
    (tmp_path / "whole").mkdir()
    write_extract(
        tmp_path / "whole",
        shards=[events.with_columns(numeric_value=pl.lit(1.0, pl.Float32))],
        codes=pl.DataFrame({"code": codes, "description": codes, "unit": ["1"] * 8}),
        dataset={"dataset_name": "whole"},
        splits=pl.DataFrame({"subject_id": [1, 2], "split": ["train", "tuning"]}),
        samples=when,
        labels={transfer.TASK: when.with_columns(boolean_value=pl.lit(value=True))},
    )
    names = transfer.renamed_codes(codes, 3)
    assert len(names) == 2
    assert names == transfer.renamed_codes(codes[::-1], 3)
    whole = Extract.open(tmp_path / "whole")
    transfer.write_part_of(whole, tmp_path / "part", [2], names)
    part = Extract.open(tmp_path / "part")
    assert part.scan().collect()["subject_id"].unique().to_list() == [2]
    found = set(part.scan().collect()["code"])
    assert found == set(codes) - set(names) | set(names.values())
    table = part.codes()
    assert set(table["code"]) == found
    local = table.filter(pl.col("code").str.starts_with("LOCAL"))
    assert local["description"].to_list() == [None, None]
