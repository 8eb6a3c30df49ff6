"""A concept that nobody labelled is scored from text, where notes and images were aligned."""

import clinical
from clinical.bundle import Bundle, write_draft
from clinical.errors import BundleError, ConfigError
from clinical.extract.write import write_extract
from clinical.manifest import seal

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

N_SUBJECTS = 150
START = datetime(2020, 1, 1)
PLACES = {  # where in the film's two halves
    "apical": (slice(0, 8), slice(0, 8)),
    "hilar": (slice(0, 8), slice(8, 16)),
    "basal": (slice(8, 16), slice(0, 8)),
    "pleural": (slice(8, 16), slice(8, 16)),
}
SAYINGS = ("Shadow in the {} zone.", "Opacity is seen, {}.", "Old film: {} haze.", "Now {}.")
PROMPTS = {place: [saying.format(place) for saying in SAYINGS[:2]] for place in PLACES}
KEYS = ["subject_id", "prediction_time"]


def write(root: Path, *, shuffled: bool) -> tuple[Path, np.ndarray]:
    """X-rays with an opacity somewhere, and notes that say where; or where another's is.

    Every tenth subject has no X-ray. Nothing else tells where it is; but a film and its note are
    of the same hour, any of two days.
    """
    (root / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    truth = generator.choice([*PLACES], N_SUBJECTS)
    said = truth.copy()
    for place in PLACES if shuffled else ():  # all words as often beside each kind of film
        said[truth == place] = np.resize([*PLACES], (truth == place).sum())
    hours = np.random.default_rng(1).uniform(1, 47, N_SUBJECTS)
    rows, labels = [], []
    for subject in range(N_SUBJECTS):
        rows.append((subject, None, f"GENDER//{'FM'[subject % 2]}", None, None, None))
        text = " ".join(
            s.format(said[subject]) for s in generator.choice(SAYINGS, 2, replace=False)
        )
        time = START + timedelta(days=subject, hours=float(hours[subject]))
        rows.append((subject, time, "NOTE//XRAY", None, text, None))
        if subject % 10:
            pixels = generator.integers(0, 120, (16, 16), dtype=np.uint8)
            pixels[PLACES[truth[subject]]] += 100
            Image.fromarray(pixels).save(root / "images" / f"{subject}.png")
            rows.append((subject, time, "XRAY", None, None, f"images/{subject}.png"))
        died = bool(generator.random() < 0.4)
        labels.append((subject, START + timedelta(days=subject + 2), died))
    columns = ("subject_id", "time", "code", "numeric_value", "text_value", "image_path")
    dtypes = (pl.Int64, pl.Datetime("us"), pl.String, pl.Float32, pl.String, pl.String)
    events = pl.DataFrame(rows, schema=dict(zip(columns, dtypes, strict=True)), orient="row")
    label = pl.DataFrame(
        labels,
        schema={**dict.fromkeys(KEYS, pl.Int64), KEYS[1]: pl.Datetime("us")}
        | {"boolean_value": pl.Boolean},
        orient="row",
    )
    where = np.repeat(["train", "tuning", "held_out"], [90, 20, 40])
    write_extract(
        root,
        shards=[events],
        codes=events.select("code").unique(),
        dataset={
            "dataset_name": "films",
            "consistent_calendar": True,
            "additional_value_modality_columns": ["image_path"],
        },
        splits=pl.DataFrame({"subject_id": range(N_SUBJECTS), "split": where}),
        samples=label.select(KEYS),
        labels={"death": label},
    )
    return root, truth


def train(extract: Path, out: Path) -> Path:
    """The bundle of a short run; labels play no part in what is asked."""
    run = clinical.Run.parse(
        {
            "extract": extract,
            "out": out,
            "tasks": {"death": {"kind": "binary", "labels": "tasks/death"}},
            "modalities": {
                "static": {"encoder": "mlp", "width": 16},
                "notes": {
                    "encoder": "bert",
                    "width": 16,
                    "layers": 1,
                    "heads": 2,
                    "codes": ["NOTE//.*"],
                    "min_subjects": 1,
                    "max_tokens": 24,
                },
                "images": {"encoder": "cnn", "width": 16, "stages": 1, "size": 16, "patch": 4},
            },
            "fusion": {"width": 16},
            "pretrain": {
                "epochs": 12,
                "learning_rate": 4e-3,
                "objectives": {
                    "alignment": {"pairs": [["notes", "images"], ["notes", "static"]], "width": 16}
                },
            },
            "finetune": {"epochs": 1, "average": None},
            "evaluate": {"resamples": 2},
            "trainer": {"accelerator": "cpu", "threads": 1},
        },
        where="here",
    )
    clinical.run(run)
    return out / "bundle"


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("films")
    extract, truth = write(folder / "extract", shuffled=False)
    bundle = train(extract, folder / "run")
    predictor = clinical.Predictor.load(bundle)
    scores = predictor.zero_shot(extract, PROMPTS, modality="images")
    return SimpleNamespace(
        extract=extract, truth=truth, bundle=bundle, predictor=predictor, scores=scores
    )


def surprise(scores: pd.DataFrame, truth: np.ndarray) -> float:
    """Mean of -log score of the true class of those held out who have one; guessing is log 4."""
    rows = scores[(scores["subject_id"] >= 110) & scores["score"].notna()]
    true = rows.loc[truth[rows["subject_id"]] == rows["class"], "score"]
    return float(-np.log(true).mean())


def test_a_concept_is_found_in_images_that_nobody_labelled(films):
    assert surprise(films.scores, films.truth) < 0.5 * np.log(4)


def test_where_notes_are_about_other_patients_films_nothing_is_found(films, tmp_path):
    extract, truth = write(tmp_path / "extract", shuffled=True)
    predictor = clinical.Predictor.load(train(extract, tmp_path / "run"))
    scores = predictor.zero_shot(extract, PROMPTS, modality="images")
    # Not the share of right answers: a network that knows nothing gives all films of a place one
    # name, so that of four places one or two may be right by chance.
    assert surprise(scores, truth) > 0.9 * np.log(4)
    least = []
    for run in (films.bundle.parent, tmp_path / "run"):
        curves = pd.read_csv(run / "logs" / "member-0" / "pretrain.csv")
        own = curves[curves["name"] == "tuning/alignment/notes+images"]
        least.append(own["value"].min())
    # A half of the pairs' mean, so that guessing is 0.5.
    assert least[0] < 0.42
    assert least[1] > 0.46


def test_a_row_a_sample_and_class_whose_scores_add_up_to_one(films):
    scores = films.scores
    assert list(scores.columns) == [*KEYS, "class", "score", "reason"]
    assert scores["class"].tolist() == [*PROMPTS] * N_SUBJECTS
    has_film = scores["subject_id"] % 10 != 0
    sums = scores[has_film].groupby("subject_id")["score"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-9)
    assert scores.loc[has_film, "reason"].isna().all()
    assert scores.loc[~has_film, "score"].isna().all()
    assert (scores.loc[~has_film, "reason"] == "no images").all()


def test_by_default_it_asks_all_that_notes_are_aligned_with_and_that_is_there(films):
    scores = films.predictor.zero_shot(films.extract, PROMPTS)
    assert scores["score"].notna().all()
    assert scores["reason"].isna().all()
    assert surprise(scores, films.truth) < 0.6 * np.log(4)
    static = films.predictor.zero_shot(films.extract, PROMPTS, modality="static")
    no_film = scores["subject_id"] % 10 == 0
    pd.testing.assert_frame_equal(scores[no_film], static[no_film])
    assert static.loc[static["class"] == "basal", "score"].nunique() == 2


def test_a_sample_has_the_same_scores_alone_in_the_order_asked(films):
    keys = films.scores[KEYS].drop_duplicates()
    asked = keys.sample(5, random_state=0)
    found = films.predictor.zero_shot(films.extract, PROMPTS, modality="images", samples=asked)
    assert found[KEYS].drop_duplicates().to_numpy().tolist() == asked.to_numpy().tolist()
    expected = found.merge(films.scores, on=[*KEYS, "class"], suffixes=("", "_all"))
    np.testing.assert_allclose(expected["score"], expected["score_all"], rtol=0, atol=1e-5)


def test_a_samples_own_notes_play_no_part(films, tmp_path):
    mute = tmp_path / "mute"
    shutil.copytree(films.extract, mute)
    for path in (mute / "data").rglob("*.parquet"):
        events = pl.read_parquet(path)
        events.filter(~pl.col("code").str.starts_with("NOTE")).write_parquet(path)
    found = films.predictor.zero_shot(mute, PROMPTS, modality="images")
    pd.testing.assert_frame_equal(found, films.scores)


def test_more_texts_of_a_class_count_by_the_mean_of_their_places(films):
    one = {name: texts[0] for name, texts in PROMPTS.items()}
    twice = {name: [texts[0]] * 2 for name, texts in PROMPTS.items()}
    first, again = (
        films.predictor.zero_shot(films.extract, prompts, modality="images")
        for prompts in (one, twice)
    )
    np.testing.assert_allclose(first["score"], again["score"], atol=1e-6)
    assert not np.allclose(first["score"], films.scores["score"], equal_nan=True)


@pytest.mark.parametrize(
    ("prompts", "problem"),
    [
        ({"upper": ["x"]}, "name two or more"),
        ({}, "name two or more"),
        (["upper", "lower"], "give the texts of each class"),
        ({"upper": ["x"], "lower": []}, r"prompts\.lower: has no text"),
        ({"upper": ["x"], "lower": ["  "]}, r"prompts\.lower: a prompt should be text"),
        ({"upper": ["x"], "lower": [3]}, r"prompts\.lower: a prompt should be text"),
        ({"upper": ["x"], "lower": 3}, r"prompts\.lower: has no text"),
        ({"upper": ["x"], 3: ["y"]}, "name of a class should be text"),
        (
            {"upper": ["x"], "lower": ["a shadow " * 400]},
            "some are longer than what the model reads",
        ),
    ],
)
def test_prompts_that_say_nothing_are_refused(films, prompts, problem):
    with pytest.raises(ConfigError, match=problem):
        films.predictor.zero_shot("nowhere", prompts)


def test_a_modality_that_notes_are_not_aligned_with_is_refused(films):
    with pytest.raises(ConfigError, match=r"not aligned with image; did you mean images\?$"):
        films.predictor.zero_shot("nowhere", PROMPTS, modality="image")


def test_a_model_that_is_not_aligned_says_what_to_train(finished):
    with pytest.raises(ConfigError, match=r"train it with alignment among pretrain\.objectives"):
        clinical.Predictor.load(finished.bundle).zero_shot("nowhere", PROMPTS)


def test_the_projections_travel_and_a_bundle_without_them_is_refused(films, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(films.bundle, folder)
    (folder / "pretrained_objectives.safetensors").unlink()
    seal(folder)
    with pytest.raises(BundleError, match="cannot be opened"):
        clinical.Predictor.load(folder).zero_shot(films.extract, PROMPTS)
    (folder / "pretrained_model.safetensors").unlink()
    seal(folder)
    with pytest.raises(BundleError, match="do not fit together"):
        clinical.Predictor.load(folder)


def test_each_network_of_an_ensemble_has_its_own_projections(films, tmp_path):
    bundle = films.predictor.bundle
    (network,) = bundle.pretrained_networks()
    (other,) = bundle.pretrained_networks()
    torch.nn.init.normal_(other.objectives["alignment"].project["notes"][1].weight)
    config = bundle.config.model_copy(update={"ensemble": 2})
    write_draft(
        tmp_path / "bundle",
        config=config,
        fitted=bundle.fitted,
        networks=[network, other],
        experts={},
        pretrained=[network, other],
    )
    read = Bundle.read(tmp_path / "bundle", draft=True)
    for kept, own in zip(read.pretrained_networks(), (network, other), strict=True):
        expected = own.objectives["alignment"].state_dict()
        found = kept.objectives["alignment"].state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert not kept.objectives["alignment"].training
    both = clinical.Predictor(read).zero_shot(films.extract, PROMPTS, modality="images")
    has_film = films.scores["score"].notna()
    assert not np.allclose(both["score"][has_film], films.scores["score"][has_film], atol=1e-3)


def test_the_command_writes_what_the_function_gives(films, command, tmp_path):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump(PROMPTS, sort_keys=False))
    code, out, _ = command(
        "zero-shot", films.bundle, films.extract, prompts, "--modality", "images", "--threads", 1
    )
    assert code == 0
    assert "zero_shot.parquet" in out
    written = pd.read_parquet(tmp_path / "zero_shot.parquet")
    pd.testing.assert_frame_equal(written, films.scores, check_dtype=False)
