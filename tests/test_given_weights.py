"""Weights by name: only where it is allowed, once, and never code."""

import clinical  # noqa: F401
from clinical.config import ModalityConfig, RunConfig
from clinical.errors import ConfigError
from clinical.given_weights import local_weights
from clinical.modalities.shards import modalities_of

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled


def notes(weights: str | Path | None, *, allow: bool = False) -> ModalityConfig:
    return ModalityConfig(
        encoder="bert", weights=None if weights is None else Path(weights), allow_download=allow
    )


class Hub:
    """A hub with one model, and a cache that starts empty."""

    def __init__(self, folder: Path, *files: str) -> None:
        self.folder = folder
        self.files = files
        self.asked: list[list[str]] = []

    def snapshot_download(
        self, name: str, *, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        assert name == "someone/model"
        if not local_files_only:
            self.asked.append(allow_patterns)
            self.folder.mkdir(exist_ok=True)
            for file in self.files:
                if any(Path(file).match(pattern) for pattern in allow_patterns):
                    (self.folder / file).write_text("{}")
        elif not self.folder.exists():
            raise LocalEntryNotFoundError("not in the cache")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    def with_files(*files: str) -> Hub:
        made = Hub(tmp_path / "cache", *files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
        monkeypatch.chdir(tmp_path)
        return made

    return with_files


SAFE = ("config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin", "modeling.py")


def test_a_name_is_not_looked_up_unless_it_is_allowed(hub):
    made = hub(*SAFE)
    with pytest.raises(ConfigError, match=r"notes.weights: there is no folder .*allow_download"):
        local_weights("notes", notes("someone/model"))
    assert made.asked == []


def test_a_name_becomes_a_folder_of_the_cache_fetched_once_and_without_code(hub, tmp_path):
    made = hub(*SAFE)
    for _ in range(2):
        found = local_weights("notes", notes("someone/model", allow=True))
        assert found == tmp_path / "cache"
    assert len(made.asked) == 1
    names = {path.name for path in found.iterdir()}
    assert names == {"config.json", "vocab.txt", "model.safetensors"}


def test_a_model_without_safetensors_comes_as_a_state_dict(hub):
    made = hub("config.json", "vocab.txt", "pytorch_model.bin")
    for _ in range(2):
        found = local_weights("notes", notes("someone/model", allow=True))
    assert (found / "pytorch_model.bin").exists()
    assert len(made.asked) == 2


def test_a_local_folder_is_taken_whatever_the_hub_has(hub, tmp_path):
    made = hub(*SAFE)
    (tmp_path / "someone" / "model").mkdir(parents=True)
    assert local_weights("notes", notes("someone/model", allow=True)) == Path("someone/model")
    assert made.asked == []


@pytest.mark.parametrize(
    "weights",
    [None, "x", "/nowhere/model", "a/b/c", "../model", "weights/resnet50.pth", "a/b.safetensors"],
)
def test_what_is_no_name_is_left_to_whoever_reads_it(hub, weights):
    made = hub(*SAFE)
    given = notes(weights, allow=True)
    assert local_weights("notes", given) == given.weights
    assert made.asked == []


def test_a_hub_that_cannot_be_reached_is_told(hub, monkeypatch):
    def away(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        raise LocalEntryNotFoundError("x") if local_files_only else OfflineModeIsEnabled("away")

    hub(*SAFE)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(ConfigError, match=r"cannot be fetched .*OfflineModeIsEnabled"):
        local_weights("notes", notes("someone/model", allow=True))


def test_the_data_side_is_given_the_folder(hub, tmp_path):
    hub(*SAFE)
    raw = {"encoder": "bert", "weights": "someone/model", "allow_download": True}
    config = RunConfig.model_validate(
        {
            "extract": "extract",
            "out": "out",
            "tasks": {"death": {"kind": "binary", "labels": "death"}},
            "modalities": {"notes": raw},
        }
    )
    assert modalities_of(config)["notes"].weights == tmp_path / "cache"
