"""What a killed call left is gone on with, by one call at a time, and never by another's."""

from clinical.errors import ConfigError, SchemaError
from clinical.unfinished import unfinished

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

ONE, OTHER = {"of": 1}, {"of": 2}


def interrupted(folder: Path, made_from: dict[str, int]) -> None:
    """Work that leaves a part and a folder, and is not done."""
    with suppress(KeyboardInterrupt), unfinished(folder, made_from, what="out: x"):
        (folder / "part").touch()
        (folder / "store").mkdir()
        raise KeyboardInterrupt


def test_finished_work_leaves_nothing_and_gives_the_same_digest_for_the_same_thing(tmp_path):
    folder, digests = tmp_path / "new" / ".x.parts", []
    for made_from in (ONE, {"of": 1}, OTHER):
        with unfinished(folder, made_from, what="out: x") as digest:
            assert json.loads((folder / "made-from.json").read_text()) == made_from
            digests.append(digest)
        assert list(folder.parent.iterdir()) == []
    assert digests[0] == digests[1] != digests[2]


def test_what_an_interrupted_call_left_is_there_for_the_same_work_alone(tmp_path):
    folder = tmp_path / ".x.parts"
    interrupted(folder, ONE)
    with unfinished(folder, ONE, what="out: x"):
        assert (folder / "part").exists()
        assert (folder / "store").exists()
    interrupted(folder, ONE)
    with unfinished(folder, OTHER, what="out: x"):
        assert not (folder / "part").exists()
        assert not (folder / "store").exists()


def test_what_a_mistake_would_never_finish_is_removed(tmp_path):
    with (
        pytest.raises(SchemaError, match="no good"),
        unfinished(tmp_path / "x", ONE, what="out: x"),
    ):
        raise SchemaError("no good")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made_from", [ONE, OTHER])
def test_a_second_call_is_refused_and_disturbs_nothing(tmp_path, made_from):
    folder = tmp_path / ".x.parts"
    refused: list[str] = []

    def second() -> None:
        with (
            pytest.raises(ConfigError, match=r"out: x: another call is at work on it") as error,
            unfinished(folder, made_from, what="out: x"),
        ):
            pass
        refused.append(str(error.value))

    with unfinished(folder, ONE, what="out: x"):
        (folder / "part").touch()
        second()
        beside = threading.Thread(target=second)
        beside.start()
        beside.join()
        assert (folder / "part").exists()
    assert len(refused) == 2
    with unfinished(folder, made_from, what="out: x"):  # it was released
        pass


CHILD = """
import sys, time
from pathlib import Path
from clinical.unfinished import unfinished
folder = Path(sys.argv[1])
with unfinished(folder, {"of": 1}, what="out: x"):
    (folder / "part").touch()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    folder = tmp_path / ".x.parts"
    arguments = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with (
            pytest.raises(ConfigError, match="another call"),
            unfinished(folder, ONE, what="out: x"),
        ):
            pass
        child.kill()
    with unfinished(folder, ONE, what="out: x"):
        assert (folder / "part").exists()
