"""Contrast between modalities: its value, who is a negative, and what can be learned by it."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet, Vector
from clinical.errors import ConfigError
from clinical.objectives import OBJECTIVES, ReferenceEdges
from clinical.objectives.alignment import Alignment
from clinical.objectives.contrast import LARGEST_SCALE, Scale, candidates, surprise

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

N_KINDS = 5


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(size: int, *, seed: int, shuffled: bool = False) -> ClinicalBatch:
    """Static columns and codes that tell of the same two of five kinds, and a noisy column."""
    generator = draws(seed)
    kinds = torch.rand(size, N_KINDS, generator=generator).argsort(1)[:, :2]
    told = kinds[torch.randperm(size, generator=generator)] if shuffled else kinds
    columns = torch.zeros(size, 4)
    columns[:, :2] = kinds / (N_KINDS - 1)
    columns[:, 2:] = torch.rand(size, 2, generator=generator)
    codes = told + torch.tensor([0, N_KINDS])
    everywhere = torch.ones(size, 2, dtype=torch.bool)
    return ClinicalBatch(
        row=torch.arange(size),
        inputs={
            "static": Vector(columns, torch.ones(size, 4, dtype=torch.bool)),
            "codes": CodeSet(codes, torch.rand(size, 2, generator=generator), everywhere),
        },
        neighbours={},
        targets={},
    )


@pytest.fixture
def model(synthetic):
    config = synthetic.make_config(modalities=("static", "codes"), relations=())
    return synthetic.make_model(config)


def learned(model, *, shuffled: bool) -> float:
    """Loss on samples never seen, after some steps."""
    torch.manual_seed(0)
    objective = Alignment(model, width=8)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for step in range(100):
        batch, hidden = objective.hide(planted(32, seed=step, shuffled=shuffled), draws())
        loss = objective.loss(model(batch), hidden).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, hidden = objective.hide(planted(64, seed=999, shuffled=shuffled), draws())
    with torch.no_grad():
        return float(objective.loss(model(batch), hidden).total)


def test_what_belongs_together_is_found_among_patients_never_seen_and_a_shuffled_pairing_is_not(
    synthetic, model
):
    assert learned(model, shuffled=False) < 0.6
    assert learned(model, shuffled=True) > 0.95


def naive(first: Tensor, second: Tensor, subject: list[int], scale: float) -> float:
    """Symmetric InfoNCE in units of guessing, sample by sample."""
    nats = guesses = 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(len(a)):
            logits = {
                j: scale * float(torch.cosine_similarity(a[i], b[j], dim=0))
                for j in range(len(b))
                if j == i or subject[j] != subject[i]
            }
            nats += math.log(sum(math.exp(logit) for logit in logits.values())) - logits[i]
            guesses += math.log(len(logits))
    return nats / guesses


def outputs(**summaries: Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        encodings={name: SimpleNamespace(summary=s) for name, s in summaries.items()}
    )


def test_the_loss_is_that_of_a_naive_loop_over_samples_that_have_both(model):
    objective = Alignment(model, width=8)
    batch = planted(7, seed=1)
    subject = torch.tensor([3, 1, 1, 4, 3, 5, 9])
    objective.use_references(ReferenceEdges(subject, torch.arange(0), {}))
    lacking = torch.tensor([False, False, False, False, False, True, False])
    batch, hidden = objective.hide(
        batch.replace(codes=batch.inputs["codes"].drop(lacking)), draws()
    )
    static, codes = torch.randn(2, 7, 16, generator=draws())
    both = ~lacking
    with torch.no_grad():
        found = objective.loss(outputs(static=static, codes=codes), hidden).total
        first, second = objective.place("static", static), objective.place("codes", codes)
        scale = float(objective.scale("codes", "static"))
    expected = naive(first[both], second[both], subject[both].tolist(), scale)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_another_sample_of_the_same_subject_is_neither_wrong_nor_right():
    fits = candidates(torch.tensor([7, 8, 7]), torch.arange(3))
    assert fits.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


@pytest.mark.parametrize("subjects", [[4], [4, 4, 4]])
def test_one_subject_alone_costs_nothing(model, subjects):
    objective = Alignment(model, width=8)
    objective.use_references(ReferenceEdges(torch.tensor(subjects), torch.arange(0), {}))
    batch, hidden = objective.hide(planted(len(subjects), seed=1), draws())
    loss = objective.loss(model(batch), hidden)
    assert loss.total == 0
    loss.total.backward()
    grads = [p.grad for p in (*model.parameters(), *objective.parameters()) if p.grad is not None]
    assert not any(grad.any() for grad in grads)


def test_a_pair_that_nobody_has_does_not_thin_the_others_out(synthetic):
    model = synthetic.make_model()
    batch = synthetic.make_batch()
    everyone = torch.ones(8, dtype=torch.bool)
    batch = batch.replace(images=batch.inputs["images"].drop(everyone))
    two, one = (
        Alignment(model, pairs=pairs)
        for pairs in ([["static", "codes"], ["notes", "images"]], [["static", "codes"]])
    )
    two.project["static"], two.project["codes"] = one.project["static"], one.project["codes"]
    losses = [o.loss(model(batch), o.hide(batch, draws())[1]).total.item() for o in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] > 0


def test_it_has_a_view_of_its_own_in_which_only_the_clock_is_hidden(synthetic):
    assert OBJECTIVES["alignment"].own_pass
    batch = synthetic.make_batch()
    shown = Alignment(synthetic.make_model()).hide(batch, draws())[0].inputs
    assert shown["static"] is batch.inputs["static"]
    for name, content in {
        "events": ("variable", "value", "mask", "observed", "summary_observed"),
        "notes": ("ids", "mask", "phrases", "sample"),
        "images": ("pixels", "observed", "position", "sample"),
        "codes": ("code", "mask"),
    }.items():
        assert all(getattr(shown[name], f) is getattr(batch.inputs[name], f) for f in content)
        assert not torch.equal(shown[name].time_hours, batch.inputs[name].time_hours)


def test_the_scale_is_capped_and_can_come_back():
    scale = Scale()
    with torch.no_grad():
        scale.log.fill_(9.0)
    assert float(scale()) == pytest.approx(LARGEST_SCALE)
    scale().backward()
    assert scale.log.grad > 0


def test_half_precision_does_not_blur_a_large_scale():
    query, key = torch.randn(2, 6, 32, generator=draws())
    own, fits = torch.arange(6), torch.ones(6, 6, dtype=torch.bool)
    exact = surprise(query, key, own, fits, torch.tensor(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = surprise(query, key, own, fits, torch.tensor(100.0))
    torch.testing.assert_close(found, exact)


def test_pairs_are_each_with_each_unless_named(synthetic):
    model = synthetic.make_model()
    assert len(Alignment(model).pairs) == 10
    named = Alignment(model, pairs=[["images", "notes"], ["events", "notes"]])
    assert named.pairs == [("notes", "images"), ("events", "notes")]
    assert named.partners("notes") == ("images", "events")
    assert named.partners("static") == ()
    assert set(named.project) == {"notes", "images", "events"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pairs": [["notes", "imges"]]}, r"alignment\.pairs: there is no modality imges.*images"),
        ({"pairs": [["notes"]]}, r"\['notes'\] should be two different"),
        ({"pairs": [["notes", "notes"]]}, "should be two different"),
        ({"pairs": [["notes", "codes"], ["codes", "notes"]]}, "notes and codes are given twice"),
        ({"pairs": []}, "is empty"),
        ({"width": 0}, r"alignment\.width: 0 should be at least 1"),
    ],
)
def test_what_cannot_be_aligned_is_refused(synthetic, options, problem):
    with pytest.raises(ConfigError, match=problem):
        Alignment(synthetic.make_model(), **options)


@pytest.mark.parametrize("name", ["alignment", "masked_modality"])
def test_one_modality_alone_says_what_to_do(synthetic, name):
    model = synthetic.make_model(synthetic.make_config(modalities=("static",), relations=()))
    with pytest.raises(
        ConfigError, match=rf"objectives\.{name}: needs two modalities.*only static"
    ):
        OBJECTIVES[name](model)
