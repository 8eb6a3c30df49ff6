"""The files of a table within a source, by patterns such as `training/p{patient}.psv`."""

from clinical.errors import ConfigError, SchemaError

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DELIMITED = (".csv", ".tsv", ".psv", ".txt")
ENDINGS = (".gz",)
PARQUET = ".parquet"

_TOKEN = re.compile(r"\{(\w+)\}|\*\*/|\*|\?|[^*?{}]+|.")


@dataclass(frozen=True)
class SourceFile:
    """One file of a table.

    Attributes:
        path: Where it is.
        where: What messages and the rejects call it: its name, or where a table has several files
            its number in the order of their names, as such names often hold a patient's identifier.
        captured: What the braces of the pattern matched.
    """

    path: Path
    where: str
    captured: dict[str, str]

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet, by its name."""
        return self.path.name.lower().endswith(PARQUET)


def captures(patterns: Sequence[str]) -> list[str]:
    """The columns that the names of files give."""
    return list(dict.fromkeys(name for p in patterns for name in re.findall(r"\{(\w+)\}", p)))


def find_files(
    source: Path, patterns: Sequence[str], *, ignore_case: bool = False
) -> list[SourceFile]:
    """Every file that a pattern matches, in the order of their names.

    `*` and `?` stay within a name, `**/` is any folder. A pattern that ends in .csv, .tsv, .psv or
    .txt also finds the file gzipped or as Parquet.

    Raises:
        ConfigError: A pattern is absolute or leads out of the source.
        SchemaError: A table is there twice, plain and gzipped or as Parquet.
    """
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise ConfigError(f"files: {pattern} leads out of the source; name files within it")
        expression = re.compile(_expression(pattern), re.IGNORECASE if ignore_case else 0)
        for name in _names(source, pattern, is_exact=not ignore_case):
            if (match := expression.fullmatch(name)) is not None:
                found.setdefault(name, {k: v for k, v in match.groupdict().items() if v})
    _check_once(list(found))
    names = sorted(found)
    return [
        SourceFile(
            source / name,
            name if len(names) == 1 else f"file {number} of {len(names):,}, {patterns[0]}",
            found[name],
        )
        for number, name in enumerate(names, start=1)
    ]


def _expression(pattern: str) -> str:
    ending = next((end for end in DELIMITED if pattern.endswith(end)), "")
    made = "".join(_piece(token) for token in _TOKEN.finditer(pattern.removesuffix(ending)))
    if not ending:
        return made
    also = "|".join(re.escape(end) for end in ENDINGS)
    return f"{made}(?:{re.escape(ending)}(?:{also})?|{re.escape(PARQUET)})"


def _piece(token: re.Match[str]) -> str:
    if token[1]:
        return f"(?P<{token[1]}>[^/]+)"
    return {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(token[0], re.escape(token[0]))


def _names(source: Path, pattern: str, *, is_exact: bool) -> Iterator[str]:
    """Files below the part of the source that the pattern names outright, relative to the source.

    Hidden files and folders are passed over.
    """
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if not is_exact or re.search(r"[*?{]", part):
            break
        fixed.append(part)
    is_flat = len(fixed) == len(Path(pattern).parts) - 1
    for folder, inner, names in os.walk(source.joinpath(*fixed)):
        inner[:] = [] if is_flat else sorted(name for name in inner if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(source).as_posix()


def _check_once(names: list[str]) -> None:
    stems = Counter(_stem(name) for name in names)
    if n_again := sum(count > 1 for count in stems.values()):
        example = next((name for name in names if stems[_stem(name)] > 1), "")
        shown = f", such as {Path(example).name}" if n_again == 1 else ""
        raise SchemaError(
            f"files: {n_again} tables are there twice, plain and gzipped or as Parquet{shown}; "
            "leave one of each"
        )


def _stem(name: str) -> str:
    bare = name.lower().removesuffix(PARQUET)
    for end in ENDINGS:
        bare = bare.removesuffix(end)
    for end in DELIMITED:
        bare = bare.removesuffix(end)
    return bare
