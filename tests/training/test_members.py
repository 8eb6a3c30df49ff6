"""Members of an ensemble are alike but for their seeds, and the first is the run by itself."""

import clinical  # noqa: F401
from clinical.training.members import members
from clinical.training.seeds import derive_seed

from pathlib import Path


def test_the_first_member_is_the_run_itself(synthetic):
    config = synthetic.make_config().model_copy(update={"seed": 7})
    (only,) = members(config)
    assert only.config == config
    grown = config.model_copy(update={"ensemble": 3})
    assert members(grown)[0].config == grown


def test_members_differ_in_seed_and_folder_alone(synthetic):
    config = synthetic.make_config().model_copy(update={"seed": 7, "ensemble": 3})
    found = members(config)
    assert [member.config.seed for member in found] == [
        7,
        derive_seed(7, "member", 1),
        derive_seed(7, "member", 2),
    ]
    assert {m.config.model_copy(update={"seed": 0}).model_dump_json() for m in found} == {
        config.model_copy(update={"seed": 0}).model_dump_json()
    }
    assert [m.checkpoints for m in found] == [Path(f"out/checkpoints/member-{i}") for i in range(3)]
    assert [m.logs for m in found] == [Path(f"out/logs/member-{i}") for i in range(3)]


def test_the_members_of_one_seed_are_none_of_another(synthetic):
    config = synthetic.make_config().model_copy(update={"ensemble": 4})
    seeds = {
        member.config.seed
        for seed in range(5)
        for member in members(config.model_copy(update={"seed": seed}))
    }
    assert len(seeds) == 20
