"""Seeds are a function of the run's seed and the place in the run."""

from clinical.training.seeds import derive_seed, generator, seed_globals

import hashlib
import random

import numpy as np
import torch


def test_a_derived_seed_is_half_the_first_eight_bytes_of_blake2b():
    digest = hashlib.blake2b(b"7/pretrain/3", digest_size=8).hexdigest()
    assert derive_seed(7, "pretrain", 3) == int(digest, 16) // 2


def test_derived_seeds_are_the_same_in_every_version():
    assert derive_seed(0) == 4761921975702974394
    assert derive_seed(7, "pretrain", "train", 2, 11, "values") == 3003081041637666163


def test_another_seed_stage_epoch_or_step_gives_another_seed():
    places = [(s, stage, e, i) for s in (0, 1) for stage in "ab" for e in (0, 1) for i in (0, 12)]
    assert len({derive_seed(*place) for place in places}) == len(places)
    assert all(0 <= derive_seed(*place) < 2**63 for place in places)


def test_seeding_repeats_every_global_generator():
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    seed_globals(3, "pretrain", 0)
    first = draws()
    seed_globals(3, "pretrain", 1)
    second = draws()
    seed_globals(3, "pretrain", 0)
    assert draws() == first
    assert not set(first) & set(second)


def test_a_generator_of_a_place_leaves_the_global_one_alone():
    state = torch.random.get_rng_state()
    first = torch.rand(3, generator=generator(1, "x"))
    assert torch.equal(first, torch.rand(3, generator=generator(1, "x")))
    assert not torch.equal(first, torch.rand(3, generator=generator(2, "x")))
    assert torch.equal(torch.random.get_rng_state(), state)
