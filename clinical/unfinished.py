"""A folder of unfinished work, which a killed call goes on with and no two calls share.

It says what its work is made from, so that what something else left is not gone on with. One call
at a time is in it, by a lock that the operating system takes from a process that ends in any way.
"""

from clinical.errors import ClinicalError, ConfigError
from clinical.places import replacing

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MADE_FROM = "made-from.json"
LOCK = "lock"


@contextmanager
def unfinished(folder: Path, made_from: Mapping[str, Any], *, what: str) -> Iterator[str]:
    """Work in a folder, alone; it goes when the work is done and stays if the block is interrupted.

    What other work left is removed first, and so is what a user's mistake would never finish.

    Args:
        folder: made if it is not there.
        made_from: everything that the work is a function of, as plain JSON values.
        what: is made in it, for errors.

    Yields:
        A digest of `made_from`, by which a part of the work can say whose it is.

    Raises:
        ConfigError: another call is in it.
    """
    text = json.dumps(made_from, sort_keys=True, indent=2) + "\n"
    with alone(folder, what):
        known = folder / MADE_FROM
        if not known.is_file() or known.read_text(encoding="utf-8") != text:
            _clear(folder)
            with replacing(known) as draft:
                draft.write_text(text, encoding="utf-8")
        try:
            yield hashlib.sha256(text.encode()).hexdigest()
        except ClinicalError:
            _remove(folder)
            raise
        _remove(folder)  # and the lock in it, before anybody else may take it


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Work in a folder that nobody else is in.

    Raises:
        ConfigError: another call is in it.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (Timeout, FileNotFoundError):  # it is there, or has just removed the folder
        raise ConfigError(
            f"{what}: another call is at work on it; wait until it is done, or write somewhere "
            f"else (if there is none, remove {folder})"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _clear(folder: Path) -> None:
    """Remove all but the lock; a folder that is cleared in part is nobody's."""
    (folder / MADE_FROM).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _remove(folder: Path) -> None:
    _clear(folder)
    shutil.rmtree(folder, ignore_errors=True)
