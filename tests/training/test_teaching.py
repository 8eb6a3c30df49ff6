"""Teachers: never of a subject that they were fitted on, and heard as far as they should be."""

from clinical.batch import Target
from clinical.calibration import sigmoid
from clinical.cohort.lineage import Learned
from clinical.cohort.store import Store
from clinical.datamodule import make_loader
from clinical.errors import ConfigError, SchemaError
from clinical.experiment import Run
from clinical.experts import EXPERTS
from clinical.sections import FinetuneConfig
from clinical.training import build, teaching
from clinical.training.build import build_model
from clinical.training.members import members

import shutil
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

TASK = "mortality"


@dataclass(frozen=True)
class Parrot:
    """Says of a sample it was fitted on what it heard, and one half of all others."""

    heard: dict[bytes, float]

    @classmethod
    def check(cls):
        pass

    @classmethod
    def fit(cls, features, labels, *, seed, threads):
        assert set(labels) == {0.0, 1.0}
        return cls({row.tobytes(): label for row, label in zip(features, labels, strict=True)})

    def logit(self, features):
        return np.array([20 * self.heard.get(row.tobytes(), 0.5) - 10 for row in features])


@pytest.fixture
def config(synthetic, monkeypatch):
    monkeypatch.setitem(EXPERTS, "parrot", Parrot)
    finetune = FinetuneConfig(teachers=["parrot"])
    return synthetic.make_config().model_copy(update={"finetune": finetune})


@pytest.fixture
def cohort():
    """Features, labels of which some are unknown, and subjects with two samples each."""
    draws = np.random.default_rng(0)
    subject = np.repeat(np.arange(30), 2)
    features = np.repeat(draws.normal(size=(30, 3)), 2, axis=0)  # both samples of one look alike
    labels = np.repeat((draws.random(30) < 0.4).astype(float), 2)
    labels[[1, 5, 20, 21, 40, 41]] = np.nan
    return features, labels, subject


def risks(config, features, labels, subject, width=0) -> np.ndarray:
    teachers = list(teachers_of(config, features, labels, subject, width=width))
    return sigmoid(teaching.out_of_fold_logit(teachers, features, subject))


def teachers_of(config, features, labels, subject, width=0):
    experts = config.finetune.teachers
    return teaching.teachers_of(
        config, TASK, features, labels, subject, experts=experts, width=width
    )


def test_no_teacher_knows_the_label_of_the_subject_it_speaks_of(config, cohort):
    assert risks(config, *cohort).tolist() == [0.5] * 60


def test_a_parrot_that_knew_would_be_heard(config, cohort):
    features, labels, subject = cohort
    (first, *_) = teachers_of(config, features, labels, subject)
    known = np.isin(subject, first.subjects) & ~np.isnan(labels)
    assert np.array_equal(first.model.logit(features[known]) > 0, labels[known] == 1)


def test_whoever_has_no_label_is_told_by_every_fold_and_others_by_one(cohort):
    _, labels, subject = cohort
    known = ~np.isnan(labels)
    folds = teaching.folds_of(labels[known], subject[known], seed=0)
    times = np.sum([~np.isin(subject, subjects) for subjects in folds], axis=0)
    unknown = [20, 21, 40, 41]  # samples of subjects without any label
    assert set(times[unknown]) == {len(folds)} == {teaching.FOLDS}
    assert set(np.delete(times, unknown)) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_its_share_of_each_class(seed):
    labels = np.zeros(100)
    labels[:8] = [1, 0] * 4  # a subject with differing labels counts as a positive one
    folds = teaching.folds_of(labels, np.arange(100) // 2, seed=seed)
    assert len(folds) == 4
    assert {int(np.isin(np.arange(4), subjects).sum()) for subjects in folds} == {3}


def test_teachers_speak_with_one_voice(config, cohort, monkeypatch):
    monkeypatch.setitem(EXPERTS, "sure", type("Sure", (Parrot,), {"logit": lambda _, f: f[:, 0]}))
    together = config.finetune.model_copy(update={"teachers": ["parrot", "sure"]})
    risk = risks(config.model_copy(update={"finetune": together}), *cohort)
    np.testing.assert_allclose(np.log(risk / (1 - risk)), cohort[0][:, 0] / 2)


@pytest.mark.parametrize(("n", "weight"), [(60, 1.0), (400, 0.25)])
def test_a_probe_of_the_embedding_counts_for_less_the_more_labels_there_are(config, n, weight):
    draws = np.random.default_rng(2)
    features, labels = draws.normal(size=(n, 5)), np.resize([0.0, 1.0], n)
    features[:, 4] += 4 * labels
    features[:, :3] = np.nan  # flat features; a probe reads the embedding alone
    _, probe, *_ = teachers_of(config, features, labels, np.arange(n), width=2)
    assert probe.weight == weight
    others = ~np.isin(np.arange(n), probe.subjects)
    told = probe.model.logit(features[others])
    assert ((told > 0) == labels[others]).mean() > 0.9


def test_a_teacher_is_heard_as_far_as_it_counts(cohort):
    features, _, subject = cohort
    first, second = (type("Sure", (), {"logit": lambda _, f, i=i: f[:, i]})() for i in (0, 1))
    nobody = np.array([], dtype=int)
    teachers = [teaching.Teacher(first, nobody, 3.0), teaching.Teacher(second, nobody, 1.0)]
    risk = sigmoid(teaching.out_of_fold_logit(teachers, features, subject))
    mean = 0.75 * features[:, 0] + 0.25 * features[:, 1]
    np.testing.assert_allclose(np.log(risk / (1 - risk)), mean)


@pytest.mark.parametrize("ones", [0, 1, teaching.FEWEST_SUBJECTS - 1])
def test_with_too_few_subjects_of_a_class_nobody_teaches_and_that_is_said(
    config, cohort, ones, caplog
):
    features, _, subject = cohort
    few = np.where(subject < ones, 1.0, 0.0)
    assert np.isnan(risks(config, features, few, subject)).all()
    assert "no teachers" in caplog.text


def test_real_teachers_tell_the_outcome_out_of_fold(config):
    draws = np.random.default_rng(1)
    features = draws.normal(size=(400, 4))
    labels = (features[:, 1] > 0).astype(float)
    taught_by = config.finetune.model_copy(update={"teachers": ["additive"]})
    risk = risks(
        config.model_copy(update={"finetune": taught_by}), features, labels, np.arange(400)
    )
    assert risk[labels == 1].mean() > risk[labels == 0].mean() + 0.4


def test_a_stage_learns_label_and_teacher_in_their_shares(workshop):
    nan = float("nan")
    stage = workshop.finetune(teacher_risks={TASK: torch.tensor([nan, 0.2, 0.2, 0.2, nan, 0.9])})
    batch = workshop.train[0]
    observed = torch.tensor([True, True, True, False, False, False])
    target = Target(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), observed)
    mixed = stage.target(TASK, replace(batch, targets={TASK: target}))
    assert mixed.observed.tolist() == [True, True, True, True, False, True]
    torch.testing.assert_close(mixed.value[:4], torch.tensor([1.0, 0.6, 0.1, 0.2]))
    assert mixed.value[5] == pytest.approx(0.9)


def test_a_task_nobody_teaches_keeps_its_labels(workshop):
    stage, batch = workshop.finetune(), workshop.train[0]
    assert stage.target(TASK, batch) is batch.targets[TASK]


@torch.no_grad()
def test_validation_asks_the_labels_alone(workshop):
    batch = workshop.train[0]
    plain, taught = (
        workshop.finetune(),
        workshop.finetune(teacher_risks={TASK: torch.full((64,), 0.5)}),
    )
    for stage in (plain, taught):
        stage.model.eval()
        stage.validation_step(batch, 0)
    (logits, targets), (same_logits, same_targets) = *plain._tuning, *taught._tuning
    assert torch.equal(logits[TASK], same_logits[TASK])
    assert targets[TASK] is same_targets[TASK] is batch.targets[TASK]
    assert not torch.equal(taught.target(TASK, batch).value, batch.targets[TASK].value)


HOSPITAL_TASK = "in_hospital_mortality"
LABEL = f"label.{HOSPITAL_TASK}"


@pytest.fixture
def hospital_run(hospital_tools, hospital, finished, tmp_path):
    def read(*more: str) -> Run:
        own = hospital_tools.overrides(hospital, tmp_path / "out", "finetune.teachers=[additive]")
        return Run.read(hospital_tools.TINY, [*own, *more])

    return read


@pytest.fixture
def store(finished) -> Store:
    return Store.open(finished.out / "store")


def less_labels(store: Store, rows: np.ndarray) -> Store:
    """The same store, as if nothing were known of the outcome of `rows`."""
    unknown = pl.int_range(pl.len()).is_in(rows.tolist())
    changed = Store.open(store.folder)
    changed.__dict__["samples"] = store.samples.with_columns(
        pl.when(unknown).then(None).otherwise(pl.col(LABEL)).alias(LABEL)
    )
    return changed


def test_train_samples_are_taught_and_no_other(hospital_run, store):
    config = hospital_run()
    risk = teaching.teacher_risks(config, store, build_model(config, store))[HOSPITAL_TASK].numpy()
    train = np.isin(np.arange(store.n_samples), store.rows("train"))
    assert np.array_equal(~np.isnan(risk), train)
    assert ((risk[train] > 0) & (risk[train] < 1)).all()


@pytest.mark.parametrize("every", [False, True])
def test_a_sample_without_a_label_is_taught_where_asked_for(hospital_run, store, every):
    config = hospital_run(f"finetune.teach_unlabelled={every}".lower())
    unknown = store.rows("train")[::3]
    store = less_labels(store, unknown)
    risk = teaching.teacher_risks(config, store, build_model(config, store))[HOSPITAL_TASK].numpy()
    assert np.isnan(risk[unknown]).all() != every
    assert not np.isnan(risk[np.setdiff1d(store.rows("train"), unknown)]).any()


def test_labels_outside_of_train_teach_nothing(hospital_run, store):
    config = hospital_run()
    model = build_model(config, store)
    others = np.setdiff1d(np.arange(store.n_samples), store.rows("train"))
    told = [
        teaching.teacher_risks(config, some, model)[HOSPITAL_TASK]
        for some in (store, less_labels(store, others))
    ]
    assert torch.equal(told[0].nan_to_num(-1.0), told[1].nan_to_num(-1.0))


def test_each_row_has_its_own_features(hospital_run, store):
    config = hospital_run()
    model = build_model(config, store).train()
    features = teaching.Features(config, store, model)
    rows = store.rows("train")[[7, 2, 5]]
    alone = np.concatenate([features.table(row[None]) for row in rows])
    np.testing.assert_allclose(features.table(rows), alone, atol=1e-5)
    assert model.training
    batch = next(
        iter(
            make_loader(store.folder, config, rows[:1], batch_size=1, workers=0, shuffle_seed=None)
        )
    )
    flat = features.tabulator.features(batch)
    assert np.array_equal(alone[0, : flat.shape[1]], flat[0], equal_nan=True)
    np.testing.assert_allclose(
        alone[0, flat.shape[1] :], model.eval().embed(batch)[0].detach(), atol=1e-5
    )


@pytest.mark.parametrize("pretrain", ["pretrain=null", "pretrain.epochs=1"])
def test_a_network_from_a_bundle_that_knows_train_subjects_is_not_asked(
    hospital_run, store, finished, caplog, tmp_path, pretrain
):
    def features(init):
        config = hospital_run(pretrain, f"finetune.init={init}")
        return teaching.Features(config, store, build_model(config, store))

    assert features(finished.bundle).width == 0
    (said,) = [record.message for record in caplog.records if "has learned from" in record.message]
    n_train = store.samples[store.rows("train")]["subject_id"].n_unique()
    assert f"from {n_train} of the {n_train} subjects" in said
    # One of other people is.
    other = tmp_path / "bundle"
    shutil.copytree(finished.bundle, other)
    known = store.fitted
    learned = Learned.of(np.array([1, 2]), dataset_name=known.dataset_name, salt="other")
    replace(known, lineage=(learned,)).write(other)
    assert features(other).width == 16


def test_a_network_that_was_not_pretrained_says_nothing(hospital_run, store):
    config = hospital_run("pretrain=null")
    features = teaching.Features(config, store, build_model(config, store))
    assert features.table(store.rows("train")[:2]).shape == (2, features.tabulator.n_columns)


class Stopped(Exception):
    """Stands for a training that nobody needs here."""


def started(config, store, monkeypatch):
    """The stage and the train rows that fine-tuning would begin with."""
    seen = {}

    def fit(stage, *, train, **_):
        seen.update(stage=stage, rows=np.sort(torch.cat([batch.row for batch in train])))
        raise Stopped

    monkeypatch.setattr(build, "fit", fit)
    with pytest.raises(Stopped):
        build.finetune_model(members(config)[0], store, build_model(config, store), progress=False)
    return seen["stage"], seen["rows"]


@pytest.mark.parametrize("every", [False, True])
def test_fine_tuning_begins_with_all_who_are_labelled_or_taught(
    hospital_run, finished, monkeypatch, tmp_path, every
):
    folder = tmp_path / "store"
    shutil.copytree(finished.out / "store", folder)
    store = Store.open(folder)
    train = store.rows("train")
    unknown = train[::3]
    hidden = less_labels(store, unknown).samples
    hidden.write_ipc(folder / "samples.arrow", compression="uncompressed")
    config = hospital_run(f"finetune.teach_unlabelled={every}".lower())
    stage, rows = started(config, Store.open(folder), monkeypatch)
    assert np.array_equal(rows, train if every else np.setdiff1d(train, unknown))
    assert not stage.teacher_risks[HOSPITAL_TASK][rows].isnan().any()


def test_nobody_teaches_unless_asked(hospital_run, store, monkeypatch):
    stage, rows = started(hospital_run("finetune.teachers=[]"), store, monkeypatch)
    assert stage.teacher_risks == {}
    assert np.array_equal(rows, store.rows("train"))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_an_epoch_is_chosen_by_labels_or_is_the_last(hospital_run, store, monkeypatch, keep):
    config = hospital_run("finetune.teachers=[]", f"finetune.keep={keep}")
    store = less_labels(store, store.rows("select"))
    if keep == "last":
        started(config, store, monkeypatch)
        return
    with pytest.raises(SchemaError, match=r"label more tuning subjects, or .*keep=last"):
        build.finetune_model(members(config)[0], store, build_model(config, store), progress=False)


def test_without_an_epoch_the_linear_start_is_what_scores(hospital_run, store, tmp_path):
    config = hospital_run("finetune.teachers=[]", "finetune.epochs=0", f"out={tmp_path}")
    config = config.model_copy(update={"pretrain": None})
    model = build_model(config, store)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    build.finetune_model(members(config)[0], store, model, progress=False)
    kept = load_file(members(config)[0].checkpoints / "finetune" / "model.safetensors")
    changed = {name for name, tensor in kept.items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("readout.") for name in changed)
    assert not any("attention" in name for name in changed)  # of which nothing is solved
    curves = (members(config)[0].logs / "finetune.csv").read_text()
    assert "finetune,0,tuning/loss" in curves
    assert "finetune,1," not in curves


def test_without_an_epoch_or_a_linear_start_nothing_is_learned_and_that_is_told(
    hospital_run, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "start_linearly", lambda *_, **__: False)
    config = hospital_run("finetune.teachers=[]", "finetune.epochs=0", f"out={tmp_path}")
    with pytest.raises(ConfigError, match=r"linear_probe .* only the linear start.*with epochs"):
        build.finetune_model(members(config)[0], store, build_model(config, store), progress=False)
