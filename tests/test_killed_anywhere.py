"""A run that is killed again and again, at moments drawn by chance, ends as if undisturbed."""

import clinical
from clinical.experiment import Run

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

KILLS = 3  # in each stage
LONGEST = 4.0  # seconds into a stage
# Said where a stage begins, or goes on: the store is there, and then the pretrained weights.
BEGINS = {
    "pretrain": ("samples: ", "already prepared"),
    "finetune": ("pretrain: already finished",),
}
# Everything that has a state of its own beside the network's.
OVERRIDES = [
    "pretrain.epochs=8",
    "pretrain.patience=6",
    "pretrain.balance=uncertainty",
    "pretrain.probe_every=2",
    "pretrain.objectives.static=0.5",
    "pretrain.objectives.forecast=1",
    "pretrain.objectives.masked_modality=0.5",
    "pretrain.objectives.alignment=0.5",
    "finetune.epochs=8",
    "finetune.patience=null",
]


def killed(arguments: list[str], *, told: tuple[str, ...], after: float) -> bool:
    """Start the command, kill it so long after it told something; whether it still ran."""
    program = "from clinical.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "run", *arguments, "resume=true"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    lines = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if any(words in line for words in told):
                break
        time.sleep(after)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), "".join(lines)
    return process.returncode != 0


@pytest.mark.slow("trains one run twice and kills it six times")
@pytest.mark.timeout(900)
def test_a_run_killed_at_chance_moments_of_both_stages_scores_as_an_undisturbed_one(
    hospital_tools, tmp_path
):
    # In the hospital that other tests share, nobody of the half that chooses died: no AUROC there.
    hospital = tmp_path / "hospital"
    clinical.synthesize(hospital, subjects=400, seed=2)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    arguments = [
        [str(hospital_tools.TINY), *hospital_tools.overrides(hospital, folder, *OVERRIDES)]
        for folder in (whole, out)
    ]
    clinical.run(Run.read(arguments[0][0], arguments[0][1:]))
    checkpoints = out / "checkpoints" / "member-0"
    draws = np.random.default_rng(0)
    for stage, told in BEGINS.items():
        for kill in range(KILLS):
            # Short ones first: what was trained before a late kill cannot be killed again.
            after = draws.uniform(0, LONGEST * (kill + 1) / KILLS)
            assert killed(arguments[1], told=told, after=after)
            finished = (checkpoints / stage / "model.safetensors").exists()
            assert not finished, f"{stage} ended before it was killed {KILLS} times"
        if stage == "pretrain":  # to its end, and no further than the beginning of the next
            assert killed(arguments[1], told=("finetune: beginning",), after=0.0)
    clinical.run(Run.read(arguments[1][0], [*arguments[1][1:], "resume=true"]))

    scores = [pd.read_parquet(folder / "predictions.parquet")["score"] for folder in (whole, out)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-5)
    for stage in BEGINS:
        logs = [folder / "logs" / "member-0" / f"{stage}.csv" for folder in (whole, out)]
        expected, found = (pd.read_csv(log) for log in logs)
        assert found["name"].tolist() == expected["name"].tolist()
        np.testing.assert_allclose(found["value"], expected["value"], rtol=0, atol=1e-5)
    names = set(pd.read_csv(out / "logs" / "member-0" / "pretrain.csv")["name"])
    assert {"probe/in_hospital_mortality", "train/weight/static", "tuning/objective/edges"} <= names
