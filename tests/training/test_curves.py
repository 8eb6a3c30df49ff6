"""The figures of each epoch on disk."""

from clinical.training.curves import Curves

import csv
import logging


def rows(path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_each_epoch_adds_its_figures_by_name(tmp_path):
    path = tmp_path / "logs" / "finetune.csv"
    curves = Curves(path)
    curves.add(0, {"tuning/loss": 0.5, "train/loss": 1.0})
    curves.add(1, {"train/loss": 0.25})
    assert rows(path) == [
        ["stage", "epoch", "name", "value"],
        ["finetune", "0", "train/loss", "1.0"],
        ["finetune", "0", "tuning/loss", "0.5"],
        ["finetune", "1", "train/loss", "0.25"],
    ]
    assert [path.name for path in path.parent.iterdir()] == ["finetune.csv"]


def test_a_replayed_epoch_replaces_its_figures(tmp_path):
    curves = Curves(tmp_path / "x.csv")
    curves.add(0, {"train/loss": 1.0})
    curves.add(1, {"train/loss": 2.0})
    curves.add(1, {"train/loss": 3.0})
    assert rows(curves.path)[1:] == [
        ["x", "0", "train/loss", "1.0"],
        ["x", "1", "train/loss", "3.0"],
    ]


def test_the_log_says_how_many_epochs_are_done_and_leaves_details_out(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        figures = {"tuning/choice": 1.0, "train/loss": 0.12341, "train/values/mean": 1.0}
        Curves(tmp_path / "pretrain.csv").add(1, figures)
    assert caplog.messages == ["pretrain epoch 1: train/loss 0.1234"]
