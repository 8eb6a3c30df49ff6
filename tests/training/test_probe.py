"""What a line through a network's summaries tells of the tasks."""

from clinical.batch import Target
from clinical.config import TaskConfig
from clinical.training.probe import MOST_SAMPLES, Probe, _standard_error, make_probe

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

CPU = torch.device("cpu")
BINARY = TaskConfig(kind="binary", labels="mortality")


def labelled(batch, value, observed=None):
    """A batch with another truth."""
    observed = torch.ones(len(value), dtype=torch.bool) if observed is None else observed
    return replace(batch, targets={"mortality": Target(value.float(), observed)})


@pytest.fixture
def model(synthetic):
    config = synthetic.make_config(modalities=("events", "static"), tasks=("mortality",))
    return synthetic.make_model(config, seed=1)


@pytest.fixture
def batches(synthetic):
    """Of 120 train samples and 80 of select, for which a static column decides."""
    some = [synthetic.make_batch(n, seed=n) for n in (120, 80)]
    for number, batch in enumerate(some):
        static = batch.inputs["static"]
        known = static.replace(observed=torch.ones_like(static.observed))
        some[number] = labelled(batch.replace(static=known), static.value[:, 0] > 0.5)
    return some


def probe(batches, tasks=None):
    train, select = batches
    return Probe(
        tasks or {"mortality": BINARY}, train=[train], select=[select], subject=np.arange(120)
    )


def test_what_the_summaries_tell_is_found_and_what_they_do_not_is_not(model, batches, synthetic):
    assert probe(batches)(model, device=CPU)["mortality"].auroc > 0.85
    chance = [torch.rand(len(b), generator=torch.Generator().manual_seed(3)) < 0.5 for b in batches]
    told = probe([labelled(b, own) for b, own in zip(batches, chance, strict=True)])
    assert 0.3 < told(model, device=CPU)["mortality"].auroc < 0.7


def test_a_probe_leaves_the_network_and_random_numbers_as_they_were(model, batches):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    first = probe(batches)(model, device=CPU)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    torch.rand(3)
    assert probe(batches)(model, device=CPU) == first


def test_neither_batches_nor_neighbours_nor_what_is_absent_matter(model, batches, synthetic):
    train, select = batches
    expected = probe(batches)(model, device=CPU)["mortality"].auroc
    halves = [synthetic.take(train, torch.arange(60) + start) for start in (60, 0)]
    nan = select.inputs["static"]
    nan = nan.replace(value=nan.value.masked_fill(~nan.observed, torch.nan))
    alone = replace(select.replace(static=nan), neighbours={})
    cut = Probe({"mortality": BINARY}, train=halves, select=[alone], subject=np.arange(120))
    assert cut(model, device=CPU)["mortality"].auroc == pytest.approx(expected, abs=1e-9)


NOBODY = torch.zeros(120, dtype=torch.bool)


@pytest.mark.parametrize(
    ("given", "judged", "why"),
    [
        ((torch.zeros(120), NOBODY), None, "fewer than 8 train samples have a label"),
        ((torch.ones(120), None), None, "the labels of train are all the same"),
        (None, (torch.zeros(80), None), "select has no labels of both kinds"),
        (None, (torch.zeros(80), NOBODY[:80]), "select has no labels of both kinds"),
    ],
)
def test_where_nothing_can_be_probed_it_says_why_once(model, batches, given, judged, why, caplog):
    train = labelled(batches[0], *given) if given else batches[0]
    select = labelled(batches[1], *judged) if judged else batches[1]
    asked = probe([train, select])
    with caplog.at_level(logging.INFO):
        assert asked(model, device=CPU) == asked(model, device=CPU) == {}
    assert caplog.messages == [f"pretrain.probe_every: mortality is not probed: {why}"]


def test_without_any_labelled_sample_there_is_nothing_to_say(model, caplog):
    nobody = Probe({"mortality": BINARY}, train=[], select=[], subject=np.arange(0))
    assert nobody(model, device=CPU) == {}
    assert "fewer than 8 train samples have a label" in caplog.text


def test_of_several_classes_nothing_is_said_where_nobody_is_left_to_judge(
    model, batches, caplog, monkeypatch
):
    several = TaskConfig(kind="multilabel", labels=["a", "b"])
    head = model.head("mortality")
    given = head.wanted
    monkeypatch.setattr(head, "wanted", lambda target: [x.repeat(1, 2) for x in given(target)])
    asked = probe(batches, {"mortality": several})
    asked.select = []
    assert asked(model, device=CPU) == {}
    assert "select has no labels of both kinds" in caplog.text


def test_the_standard_error_is_the_published_one():
    """Hanley and McNeil's example: 51 with it, 58 without, 0.893 give or take 0.032."""
    truth = np.repeat([1.0, 0.0], [51, 58])[:, None]
    assert _standard_error(truth, 0.893) == pytest.approx(0.032, abs=1e-3)


def test_it_says_once_how_far_a_figure_is_to_be_trusted(model, batches, caplog):
    asked = probe(batches)
    with caplog.at_level(logging.INFO):
        asked(model, device=CPU)
        asked(model, device=CPU)
    (message,) = caplog.messages
    assert message.startswith("pretrain.probe_every: mortality is judged on 80 tuning samples")


def test_a_task_without_an_auroc_is_told_and_passed_over(batches, model, caplog):
    stay = TaskConfig(kind="regression", labels="stay", unit="hours")
    with caplog.at_level(logging.INFO):
        asked = probe(batches, {"mortality": BINARY, "stay": stay})
    assert "stay is not probed: of a regression task there is no AUROC" in caplog.text
    assert list(asked(model, device=CPU)) == ["mortality"]


def test_of_several_classes_each_is_fitted_where_it_is_known(model, batches, monkeypatch):
    def several(batch):
        own = batch.targets["mortality"].value
        size = len(own)
        value = torch.stack([own, 1 - own, torch.zeros(size)], 1)
        observed = torch.ones(size, 3, dtype=torch.bool)
        observed[: size // 2, 1] = False
        return replace(batch, targets={"mortality": Target(value, observed)})

    (alone,) = probe(batches)(model, device=CPU).values()
    head = model.head("mortality")
    monkeypatch.setattr(head, "wanted", lambda target: (target.value, target.observed))
    task = TaskConfig(kind="multilabel", labels=["a", "b", "c"])
    asked = probe([several(b) for b in batches], {"mortality": task})
    seen = []
    aurocs = Probe._aurocs
    monkeypatch.setattr(Probe, "_aurocs", lambda *a: seen.append(aurocs(*a)) or seen[-1])
    (mean,) = asked(model, device=CPU).values()
    assert len(seen[0]) == 2  # nobody has the third
    assert seen[0][1] == pytest.approx(alone.auroc)  # the half known one is the first
    assert seen[0][0] > 0.85
    assert mean.auroc == pytest.approx(np.mean(seen[0]))


def test_only_labelled_samples_of_train_and_select_are_read_and_not_too_many():
    splits = ["train"] * 3000 + ["select"] * 500 + ["calibrate"] * 500 + ["held_out"] * 500
    rows = np.arange(4500)
    store = SimpleNamespace(
        rows=lambda split: rows[np.array(splits) == split],
        is_labelled=rows % 10 != 0,
        samples=pl.DataFrame({"subject_id": rows}),
    )
    found = make_probe(
        store, {"mortality": BINARY}, lambda some: some, generator=np.random.default_rng(0)
    )
    assert len(found.train) == MOST_SAMPLES
    assert set(found.train) < set(rows[:3000])
    assert len(found.select) == 450
    assert set(found.select) < set(rows[3000:3500])
    assert all(row % 10 for row in [*found.train, *found.select])
