"""Files and folders that a user names, and what stands in their place."""

from clinical.errors import ConfigError

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path`, which takes its place if the block ends well and is gone otherwise."""
    draft = path.with_name(f".{path.name}.draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder however deep, sorted; what is hidden or a folder is none.

    Systems leave hidden files beside those that they copy, under the same ending.
    """
    found = sorted(folder.rglob("*.parquet"))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def check_file(path: Path, *, what: str, usual: Sequence[str] = ()) -> None:
    """Refuse a path that is no file.

    Args:
        path: What the user named.
        what: What is read from it, such as "predictions".
        usual: Names that such a file has in a folder, to point to.

    Raises:
        ConfigError: It is a folder, or not there.
    """
    if path.is_dir():
        inside = [path / name for name in usual if (path / name).is_file()]
        remedy = f"give {inside[0]}" if inside else "give a file"
        raise ConfigError(f"{what}: {path} is a folder; {remedy}")
    if not path.exists():
        raise ConfigError(f"{what}: there is no such file as {path}; check the path")


def check_no_file(path: Path, *, what: str, remedy: str) -> None:
    """Refuse a file where a folder is read or made; a path with nothing at it is fine.

    Raises:
        ConfigError: It, or a folder above it, is a file.
    """
    if path.is_file():
        raise ConfigError(f"{what}: {path} is a file; {remedy}")
    check_above(path, what=what)


def check_parquet(path: Path, *, what: str) -> None:
    """Refuse a path at which no Parquet file can be written, before it has taken long to make.

    Raises:
        ConfigError: It is a folder, below a file, or named as something else.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name the Parquet file to write")
    if path.suffix not in ("", ".parquet", ".pq"):
        parquet = path.with_suffix(".parquet").name
        raise ConfigError(f"{path}: what is written is Parquet; call it {parquet}")
    check_above(path, what=what)


def check_above(path: Path, *, what: str) -> None:
    """Refuse a path below a file.

    Raises:
        ConfigError: A folder above it is a file.
    """
    for parent in path.parents:
        if parent.is_file():
            raise ConfigError(f"{what}: {parent} is a file and can hold nothing; check the path")
