"""The folder of a run: what it holds, and which run may write into it."""

from clinical.config import RunConfig
from clinical.config_file import load_yaml
from clinical.errors import ConfigError, LeakageError
from clinical.manifest import MANIFEST, check_manifest, digest_of
from clinical.places import check_file, check_no_file, replacing

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

RUN_FILE = "run.yaml"
UNCOMPARED = ("resume", "overwrite", "out")
UNCOMPARED_OF_TRAINER = ("workers", "threads")
PLACES = ("extract", "splits")
INIT_PLACES = ("bundle", "mapping")
OWN_FOLDERS = ("checkpoints", "bundle", "logs", "figures")
# What one network's pretrained weights are a function of; fine-tuning may differ in all else.
PRETRAINED_BY = (
    "extract",
    "splits",
    "seed",
    "window_hours",
    "modalities",
    "fusion",
    "graph",
    "pretrain",
)


def check_run_folder(config: RunConfig) -> None:
    """Nothing finished is overwritten, nothing different resumed, nothing of others touched.

    Raises:
        ConfigError: saying what `out` holds and how to go on.
    """
    out = config.out
    check_no_file(out, what="out", remedy="choose another out=")
    if (out / RUN_FILE).exists():
        if config.resume:
            _check_same(config)
        elif (out / "bundle" / "manifest.json").exists() and not config.overwrite:
            raise ConfigError(
                f"{out}: holds a finished run; choose another out=, or replace it with "
                "overwrite=true"
            )
    elif found := [name for name in OWN_FOLDERS if (out / name).exists()]:
        raise ConfigError(
            f"{out}: has {', '.join(found)} but no {RUN_FILE}, so it is no run folder; choose "
            "another out="
        )


def check_not_interrupted(config: RunConfig) -> None:
    """What an interrupted run has learned is thrown away only where the user says so.

    Raises:
        ConfigError: there is such a run, and neither `resume` nor `overwrite`.
    """
    if (config.out / "checkpoints").exists() and not (config.resume or config.overwrite):
        raise ConfigError(
            f"{config.out}: holds an interrupted run; go on with it with resume=true, or start "
            "anew with overwrite=true"
        )


def check_pretrained(config: RunConfig) -> None:
    """The pretrained weights of the folder are those of this configuration and of its train.

    Labels may be others by now, since pretraining learns from none.

    Raises:
        ConfigError: naming the keys that differ.
        LeakageError: other subjects are in train by now.
    """
    if config.pretrain is None or not (config.out / RUN_FILE).exists():
        return
    saved = load_yaml(config.out / RUN_FILE)
    before, now = _compared(saved), _compared(config.dump())
    changed = [key for key in PRETRAINED_BY if before.get(key) != now.get(key)]
    changed += _begun_otherwise(config)
    if changed:
        raise ConfigError(
            f"{config.out}: was pretrained with other values of {', '.join(changed)}; use the "
            "same, or pretrain again with overwrite=true"
        )
    _check_train(config, saved.get("provenance", {}).get("train_subjects"))


def _check_train(config: RunConfig, known: str | None) -> None:
    """Train is who it was: who left it has been learned from, who joins changes the vocabularies.

    Raises:
        LeakageError: it isn't.
    """
    from clinical.cohort.fingerprint import train_digest
    from clinical.extract.schema import USUAL_SPLITS, Extract

    if known != train_digest(config, Extract.open(config.extract)):
        splits = config.splits or config.extract / USUAL_SPLITS[0]
        raise LeakageError(
            f"{splits}: puts other subjects in train than those that {config.out} was pretrained "
            "on; put the file back as it was, or pretrain again with overwrite=true"
        )


def _check_same(config: RunConfig) -> None:
    """A run may be resumed with its own configuration, extract, splits and labels.

    Raises:
        ConfigError: naming the keys that differ.
    """
    from clinical.cohort.fingerprint import contents_of
    from clinical.extract.schema import Extract

    before = load_yaml(config.out / RUN_FILE)
    same, now = _compared(before), _compared(config.dump())
    changed = sorted(key for key in now if same.get(key) != now[key])
    if "finetune" not in changed:
        changed += _begun_otherwise(config)
    if changed:
        raise ConfigError(
            f"{config.out}: holds a run with other values of {', '.join(changed)}; use the same "
            "configuration to resume it, or another out="
        )
    provenance, extract = before.get("provenance", {}), Extract.open(config.extract)
    if provenance.get("extract_fingerprint") != extract.fingerprint():
        raise ConfigError(
            f"{config.extract}: was changed since the run in {config.out} began; start anew, "
            "without resume=true"
        )
    known, contents = provenance.get("contents", {}), contents_of(config, extract)
    if others := sorted(key for key in contents if known.get(key) != contents[key]):
        raise ConfigError(
            f"{config.out}: the files of {', '.join(others)} were changed since the run there "
            "began; put them back as they were, or start anew, without resume=true"
        )


def begun_from(config: RunConfig) -> dict[str, str | bool]:
    """What the networks begin from: digests of the bundle and of the mapping, and whether its heads
    are taken over; empty without a bundle.

    Raises:
        BundleError: there is no such bundle.
        ConfigError: there is no such mapping.
    """
    init = config.finetune.init
    if init is None:
        return {}
    if not (init.bundle / MANIFEST).is_file():
        check_manifest(init.bundle)
    found: dict[str, str | bool] = {
        "manifest_sha256": digest_of(init.bundle / MANIFEST),
        "heads": init.heads,
    }
    if init.mapping is not None:
        check_file(init.mapping, what="finetune.init.mapping")
        found["mapping_sha256"] = digest_of(init.mapping)
    return found


def _begun_otherwise(config: RunConfig) -> list[str]:
    """The key by which the networks began from something else, if they did."""
    provenance = load_yaml(config.out / RUN_FILE).get("provenance", {})
    same = (provenance.get("init") or {}) == begun_from(config)
    return [] if same else ["finetune.init (or what lies there)"]


def _compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same: not how many work on it, nor how a folder is written."""
    kept = {key: value for key, value in values.items() if key not in UNCOMPARED}
    trainer = kept.get("trainer") or {}
    init = (kept.get("finetune") or {}).get("init")
    if init:
        places = {k: str(Path(v).resolve()) for k, v in init.items() if k in INIT_PLACES and v}
        kept["finetune"] = kept["finetune"] | {"init": init | places}
    kept["trainer"] = {k: v for k, v in trainer.items() if k not in UNCOMPARED_OF_TRAINER}
    return kept | {key: str(Path(kept[key]).resolve()) for key in PLACES if kept.get(key)}


def write_down(config: RunConfig, fingerprint: str) -> None:
    """Leave the resolved run in its folder, with what it was made from.

    Args:
        config: of the run.
        fingerprint: of its extract.
    """
    from clinical.cohort.fingerprint import contents_of, train_digest
    from clinical.extract.schema import Extract

    extract = Extract.open(config.extract)
    resolved = {
        **config.dump(),
        "provenance": {
            "clinical": importlib.metadata.version("clinical"),
            "extract_fingerprint": fingerprint,
            "contents": contents_of(config, extract),
            "train_subjects": train_digest(config, extract),
            **({"init": begun} if (begun := begun_from(config)) else {}),
        },
    }
    with replacing(config.out / RUN_FILE) as draft:
        draft.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")


def clear(out: Path) -> None:
    """Remove what an earlier run left, apart from its store, which may be used again."""
    if not (out / RUN_FILE).exists():
        return
    for leftover in OWN_FOLDERS:
        shutil.rmtree(out / leftover, ignore_errors=True)
    for pattern in ("predictions*.parquet", "metrics.json", "transfer.json"):
        for path in out.glob(pattern):
            path.unlink()
    (out / RUN_FILE).unlink()


def clear_finetuned(out: Path) -> None:
    """Remove the fine-tuned weights of every network, which an unresumed stage replaces."""
    for leftover in (out / "checkpoints").glob("*/finetune"):
        shutil.rmtree(leftover)
