"""Where fine-tuning begins: what a regression finds is written into the network, exactly enough."""

from clinical.batch import Target
from clinical.encoders.image_reading import patch_levels
from clinical.encoders.pooling import mean_rows
from clinical.training.linear_start import (
    _quiet_directions,
    _weighed_against_each_other,
    start_linearly,
)
from clinical.training.ridge import fit_lines

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

N = 480
BATCH = 60


@pytest.fixture
def samples(synthetic):
    """Batches whose `mortality` is about the grey levels of images and about phrases of notes."""
    draws = torch.Generator().manual_seed(0)
    batches = []
    for start in range(0, N, BATCH):
        batch = synthetic.make_batch(BATCH, seed=start)
        images, notes = batch.inputs["images"], batch.inputs["notes"]
        shade = torch.randn(len(images.sample), generator=draws)
        said = torch.randn(len(notes.sample), generator=draws)
        pixels = images.pixels.clone()
        pixels[:, :, :8, :8] = (0.45 + 0.1 * shade).clamp(0, 1)[:, None, None, None]
        phrases = notes.phrases.clone()
        phrases[:, 0] = said
        logit = torch.zeros(BATCH)
        logit[images.sample] += 2 * shade
        logit[notes.sample] += 2 * said
        labels = (torch.rand(BATCH, generator=draws) < logit.sigmoid()).float()
        known = torch.ones(BATCH, dtype=torch.bool)
        batches.append(
            replace(
                batch,
                row=torch.arange(start, start + BATCH),
                inputs={
                    **batch.inputs,
                    "images": images.replace(pixels=pixels),
                    "notes": notes.replace(phrases=phrases),
                },
                targets={**batch.targets, "mortality": Target(labels, known)},
            )
        )
    return batches


def read_of(synthetic, batches):
    """Batches of some rows, as a loader gives them."""

    def read(rows):
        for batch in batches:
            own = torch.from_numpy(np.flatnonzero(np.isin(batch.row.numpy(), rows)))
            if len(own):
                yield synthetic.take(batch, own)

    return read


def start(synthetic, model, batches, *, rows=None, unlabelled=None, seed=0) -> None:
    start_linearly(
        model,
        read_of(synthetic, batches),
        np.arange(N // 2) if rows is None else rows,
        unlabelled=np.arange(N // 2) if unlabelled is None else unlabelled,
        subject=np.arange(N),
        target=lambda task, batch: batch.targets[task],
        generator=np.random.default_rng(seed),
        device=torch.device("cpu"),
    )


@torch.no_grad()
def auroc(model, batches, *, task: str = "mortality") -> float:
    """On the second half."""
    logits = torch.cat([model(batch).logits[task] for batch in batches[N // 2 // BATCH :]])
    labels = torch.cat([batch.targets[task].value for batch in batches[N // 2 // BATCH :]])
    return float(roc_auc_score(labels, logits))


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_what_can_be_read_linearly_is_read_without_a_step_of_training(synthetic, samples) -> None:
    model = synthetic.make_model()
    assert auroc(model, samples) < 0.65
    start(synthetic, model, samples)
    assert auroc(model, samples) > 0.8


def test_both_modalities_are_read_and_either_may_be_missing(synthetic, samples) -> None:
    model = synthetic.make_model()
    start(synthetic, model, samples)
    whole = auroc(model, samples)
    for name in ("images", "notes"):
        everybody = torch.ones(BATCH, dtype=torch.bool)
        less = [b.replace(**{name: b.inputs[name].drop(everybody)}) for b in samples]
        assert 0.6 < auroc(model, less) < whole - 0.02


def test_unlabelled_samples_make_a_few_labels_read_better(synthetic, samples) -> None:
    few = np.arange(40)
    alone, helped = synthetic.make_model(), synthetic.make_model()
    start(synthetic, alone, samples, rows=few, unlabelled=few)
    start(synthetic, helped, samples, rows=few)
    assert auroc(helped, samples) > auroc(alone, samples)
    assert auroc(helped, samples) > 0.65


def test_targets_of_other_rows_tell_nothing(synthetic, samples) -> None:
    def upside_down(batch):
        target = batch.targets["mortality"]
        flipped = torch.where(batch.row < 100, target.value, 1 - target.value)
        return replace(batch, targets={**batch.targets, "mortality": target.replace(value=flipped)})

    one, other = synthetic.make_model(), synthetic.make_model()
    start(synthetic, one, samples, rows=np.arange(100))
    start(synthetic, other, [upside_down(b) for b in samples], rows=np.arange(100))
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=0, msg=name)


def test_an_unknown_target_is_not_a_zero(synthetic, samples) -> None:
    def hide(batch):
        target = batch.targets["mortality"]
        known = batch.row % 2 == 0
        hidden = Target(target.value.masked_fill(~known, 0.0), known)
        return replace(batch, targets={**batch.targets, "mortality": hidden})

    model, other = synthetic.make_model(), synthetic.make_model()
    start(synthetic, model, [hide(batch) for batch in samples])
    start(synthetic, other, samples, rows=np.arange(0, N // 2, 2))
    with torch.no_grad():
        a, b = (m(samples[-1]).logits["mortality"] for m in (model, other))
    assert np.corrcoef(a, b)[0, 1] > 0.9


def test_too_few_labels_give_a_logit_of_next_to_nothing(synthetic, samples) -> None:
    model = synthetic.make_model()
    start(synthetic, model, samples, rows=np.arange(5))
    with torch.no_grad():
        assert model(samples[-1]).logits["mortality"].abs().max() < 0.3


def test_the_same_samples_begin_the_same(synthetic, samples) -> None:
    one, other = (synthetic.make_model() for _ in range(2))
    start(synthetic, one, samples)
    start(synthetic, other, samples)
    same = state(one)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, same[name], rtol=0, atol=0)


def test_an_encoder_adds_where_its_summary_hardly_varies() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([3.0, 0.01, 1.0, 2.0, 0.02, 1.5])
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    summaries = (rng.normal(size=(500, 6)) * spread) @ turn.T
    project, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    found = _quiet_directions(project, summaries, n=2)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-9)
    said = rng.normal(size=(500, 2))
    heard = summaries + said @ (project @ found).T

    def told(heard):
        weights = np.linalg.lstsq(heard - heard.mean(0), said - said.mean(0))[0]
        left = said - said.mean(0) - (heard - heard.mean(0)) @ weights
        return 1 - left.var(0) / said.var(0)

    drawn, _ = np.linalg.qr(rng.normal(size=(6, 2)))
    lost, drawn_lost = 1 - told(heard), 1 - told(summaries + said @ (project @ drawn).T)
    assert lost.max() < 0.01
    assert lost.max() < 0.1 * drawn_lost.max()


def test_where_summaries_do_not_vary_any_direction_will_do() -> None:
    found = _quiet_directions(np.eye(4), np.ones((5, 4)), n=2)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-9)


def test_only_linear_layers_and_the_readout_change(synthetic, samples) -> None:
    model = synthetic.make_model()
    before = state(model)
    start(synthetic, model, samples)
    changed = {
        name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])
    }
    assert changed
    for name in changed:
        assert (
            name.startswith(
                ("encoders.images.coarse", "encoders.notes.counted", "readout.linear", "heads.")
            )
            or name == "readout.absent"
        ), name


def test_levels_are_counted_from_the_usual_ones_of_enough_people(synthetic, samples) -> None:
    few, many = (synthetic.make_model(synthetic.make_config()) for _ in range(2))
    start(synthetic, few, samples, rows=np.arange(9), unlabelled=np.arange(9))
    assert not few.encoders["images"].coarse.usual.any()
    start(synthetic, many, samples)
    usual = many.encoders["images"].coarse.usual
    images = [batch.inputs["images"] for batch in samples[: N // 2 // BATCH]]
    shown = torch.cat(
        [mean_rows(patch_levels(i), i.sample, i.size)[i.sample.unique()] for i in images]
    )
    torch.testing.assert_close(usual, shown.mean(0), rtol=0, atol=1e-4)


def test_a_relation_that_is_asked_for_hears_only_what_tasks_do_not(synthetic, samples) -> None:
    """What relations' aspects read across the heads' directions is left as pretraining had it."""
    model = synthetic.make_model()
    linear = model.readout.linear_map(3).weight.clone().double()
    heads = torch.cat([model.head(task).linear.weight for task in model.heads]).double()
    start(synthetic, model, samples)
    change = model.readout.linear_map(3).weight.double() - linear
    across = torch.eye(model.width).double() - torch.linalg.pinv(heads) @ heads
    assert (across @ change).abs().max() < 1e-5 < change.abs().max()


def test_more_logits_than_the_readout_tells_apart_begin_as_they_are(synthetic, samples) -> None:
    tasks = tuple(f"task {number}" for number in range(9))
    model = synthetic.make_model(synthetic.make_config(tasks=tasks))
    before = state(model)
    start(synthetic, model, samples)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_what_nobody_has_among_those_that_are_read_leaves_everything_finite(
    synthetic, samples
) -> None:
    def rarely(batch):
        nobody = batch.row >= 20
        images = batch.inputs["images"]
        return batch.replace(images=images.drop(nobody))

    model = synthetic.make_model()
    start(synthetic, model, [rarely(batch) for batch in samples], unlabelled=np.arange(200, 240))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_the_state_of_an_absent_modality_stays_within_what_summaries_are(
    synthetic, samples
) -> None:
    model = synthetic.make_model()
    start(synthetic, model, samples)
    summaries = model.encode(samples[0]).summaries.detach()
    usual = summaries.norm(dim=-1).max()
    assert (model.readout.absent.norm(dim=-1) < 2 * usual).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_log_odds_of_classes_become_logits_of_a_choice(n_classes) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3))
    truth = features @ rng.normal(size=(3, n_classes))
    shares = np.exp(truth) / np.exp(truth).sum(1, keepdims=True)
    drawn = (shares.cumsum(1) < rng.random((4000, 1))).sum(1)
    wanted = np.eye(n_classes)[drawn]
    lines = fit_lines([features], wanted, np.arange(4000), are_probabilities=True)

    def loss(logits: np.ndarray) -> float:
        chosen = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return float(-(shares * np.log(chosen)).sum(1).mean())

    weighed = _weighed_against_each_other(lines, wanted)([features])
    assert loss(weighed) <= loss(lines([features])) + 1e-9
    said = np.exp(weighed) / np.exp(weighed).sum(1, keepdims=True)
    assert np.abs(said - shares).mean() < 0.05
