"""A patient has one representation for each thing asked, and it depends on nobody else's."""

import clinical
from clinical.errors import ConfigError

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).parents[1] / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

KEYS = ["subject_id", "prediction_time"]
WIDTH = 12
RELATIONS = {
    "shares_code": {"k": 5, "codes": "DX//.*"},
    "same_unit": {"k": 3},
    "similar": {"k": 3, "width": 6},
}
ASPECTS = [None, "death", "shares_code", "same_unit"]


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return hospital.build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="module")
def predictor(extract, tmp_path_factory):
    """Of two networks that have learned nothing."""
    config = hospital.configure(
        extract,
        tmp_path_factory.mktemp("run"),
        fusion={"width": WIDTH},
        graph={"relations": RELATIONS},
        pretrain={"objectives": {"edges": 1.0, "values": 1.0}},
        ensemble=2,
    )
    return clinical.Predictor(hospital.untrained(config))


@pytest.fixture(scope="module")
def embedded(predictor, extract):
    """Aspect -> of the whole hospital, with itself as context."""
    return {a: predictor.embed(extract, aspect=a, context=extract) for a in ASPECTS}


def dims(frame: pd.DataFrame) -> np.ndarray:
    return frame.filter(like="dim_").to_numpy()


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    both = found[KEYS].merge(expected, on=KEYS, validate="m:1")
    assert len(both) == len(found) > 0
    np.testing.assert_allclose(dims(found), dims(both), rtol=0, atol=1e-5)


def test_a_sample_has_one_row_of_the_trunk_s_width(embedded, predictor, extract):
    scores = predictor.score(extract)
    for frame in embedded.values():
        assert list(frame) == [*KEYS, *(f"dim_{i}" for i in range(WIDTH)), "reason"]
        assert frame[KEYS].equals(scores[KEYS])
        assert dims(frame).dtype == np.float32
        assert np.isfinite(dims(frame)).all()
        assert frame["reason"].isna().all()
        assert dims(frame).std(axis=0).min() > 1e-3


def test_each_aspect_is_another_representation(embedded):
    for number, aspect in enumerate(ASPECTS):
        for other in ASPECTS[:number]:
            apart = np.abs(dims(embedded[aspect]) - dims(embedded[other])).max(axis=1)
            assert (apart > 0.01).all()


def test_a_task_s_representation_is_what_its_head_reads(embedded, predictor, extract):
    first = replace(predictor.bundle, networks=predictor.bundle.networks[:1])
    score = clinical.Predictor(first).score(extract, context=extract)["score"]
    head = first.networks[0].model.head("death").linear
    logit = dims(embedded["death"]) @ head.weight.detach().numpy()[0] + head.bias.item()
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit)), rtol=0, atol=1e-5)


def test_an_ensemble_gives_the_first_network_s(predictor, extract, embedded):
    networks = predictor.bundle.networks
    for aspect in ("death", None):
        first, second = (
            clinical.Predictor(replace(predictor.bundle, networks=(network,))).embed(
                extract, aspect=aspect, context=extract
            )
            for network in networks
        )
        pd.testing.assert_frame_equal(first, embedded[aspect])
        assert np.abs(dims(second) - dims(first)).max() > 0.1


def test_a_relation_s_representation_is_the_pretrained_network_s(predictor, extract, embedded):
    pretrained = predictor.bundle.pretrained_networks()
    asked = predictor.panel.as_pretrained().bundle.networks[0].model.state_dict()
    for name, tensor in pretrained[0].model.state_dict().items():
        assert torch.equal(asked[name], tensor)
    swapped = clinical.Predictor(replace(predictor.bundle, networks=pretrained))
    other = swapped.embed(extract, aspect="death", context=extract)
    assert np.abs(dims(other) - dims(embedded["death"])).max() > 0.1
    same = swapped.embed(extract, aspect="same_unit", context=extract)
    pd.testing.assert_frame_equal(same, embedded["same_unit"])


def test_a_relation_s_representation_hears_nobody_whom_pretraining_never_heard(
    predictor, extract, embedded, monkeypatch
):
    """Hidden values choose who is similar, so that pretraining always left `similar` out."""
    heard = {"same_unit": [], "similar": []}
    networks = predictor.bundle.pretrained_networks()
    monkeypatch.setattr(type(predictor.bundle), "pretrained_networks", lambda _: networks)
    for name, linked in heard.items():
        networks[0].model.message_passing[name].register_forward_hook(
            lambda _module, _args, message, linked=linked: linked.append(bool(message.linked.any()))
        )
    again = predictor.embed(extract, aspect="same_unit", context=extract)
    pd.testing.assert_frame_equal(again, embedded["same_unit"])
    assert not any(heard["similar"])
    assert any(heard["same_unit"])


def test_a_relation_that_nobody_was_asked_for_has_no_representation(predictor, extract):
    config = predictor.bundle.config.model_copy(update={"pretrain": None})
    never = clinical.Predictor(replace(predictor.bundle, config=config))
    with pytest.raises(ConfigError, match="aspect: the model was never asked who is linked by"):
        never.embed(extract, aspect="same_unit")


@pytest.mark.parametrize("size", [1, 7])
def test_a_representation_is_the_same_in_batches_of_any_size(
    predictor, extract, embedded, size, monkeypatch
):
    monkeypatch.setattr("clinical.predictor.panel.BATCH_SIZE", size)
    for aspect in ("death", None):
        found = predictor.embed(extract, aspect=aspect, context=extract)
        assert_same(found, embedded[aspect])


def test_a_sample_alone_or_in_another_order_has_the_same_representation(
    predictor, extract, embedded
):
    for aspect in ("same_unit", None):
        keys = embedded[aspect][KEYS]
        asked = pd.concat([keys.iloc[[11, 3, 20]], keys.iloc[[11]]])
        for some in (asked, keys.iloc[[7]]):
            found = predictor.embed(extract, aspect=aspect, samples=some, context=extract)
            assert found[KEYS].equals(some.reset_index(drop=True))
            assert_same(found, embedded[aspect])


def test_the_context_matters_to_aspects_and_not_to_the_fused_summary(predictor, extract, embedded):
    alone = predictor.embed(extract)
    np.testing.assert_array_equal(dims(alone), dims(embedded[None]))
    apart = np.abs(dims(predictor.embed(extract, aspect="death")) - dims(embedded["death"]))
    assert (apart.max(axis=1) > 1e-4).sum() > 5


def test_a_sample_with_nothing_visible_has_a_reason_and_no_representation(
    predictor, extract, embedded
):
    keys = embedded[None][KEYS]
    asked = pd.concat([keys.iloc[[0]], keys.iloc[[0]].assign(subject_id=99)])
    for aspect in (None, "death"):
        found = predictor.embed(extract, aspect=aspect, samples=asked)
        assert np.isnan(dims(found)[1]).all()
        assert np.isfinite(dims(found)[0]).all()
        assert found["reason"].fillna("").tolist() == ["", "nothing visible"]


def test_an_unknown_aspect_is_refused_with_the_likely_one(predictor):
    message = r"aspect: the model has no task or relation share_code; did you mean shares_code\?"
    with pytest.raises(ConfigError, match=message):
        predictor.embed("nowhere", aspect="share_code")
