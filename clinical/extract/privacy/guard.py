"""What is done about identifiers: written down, told, and refused unless somebody vouches."""

from clinical.extract.privacy.found import Identifiers
from clinical.extract.privacy.scan import find_identifiers
from clinical.extract.schema import Extract

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "identifiers.json"
IMPORT_FOLDER = "import"
"""In an extract: what its importer tells of its work."""


def guard_import(root: Path, *, acknowledged: bool | Sequence[str]) -> dict[str, int]:
    """Look through an extract that is about to be finished; leaves `import/identifiers.json`.

    Args:
        root: The extract.
        acknowledged: True lets everything pass here. Kinds that the source has by its design pass
            wherever the extract goes.

    Returns:
        What was found in words with its count, for the report.

    Raises:
        SchemaError: There is too much, and nobody has vouched for it.
    """
    found = find_identifiers(Extract.open(root))
    if not isinstance(acknowledged, bool):
        found = replace(found, acknowledged=tuple(acknowledged))
    (root / IMPORT_FOLDER).mkdir(exist_ok=True)
    found.write(root / IMPORT_FOLDER / FILE)
    if acknowledged is not True:
        found.refuse(
            remedy="take them out of the source; if all of it may be there, import it with "
            "--acknowledge-identifiers, or acknowledge_identifiers: true in the mapping"
        )
    return found.counts()


def guard_preparation(extract: Extract, folder: Path, *, acknowledged: bool) -> None:
    """Look through an extract to train on, once: what was found stays in the folder.

    Raises:
        SchemaError: There is too much, and nobody has vouched for it.
    """
    path = folder / FILE
    if path.exists():
        found = Identifiers.read(path)
    else:
        found = replace(find_identifiers(extract), acknowledged=by_design(extract))
        found.write(path)
        for words, count in found.counts().items():
            logger.warning("%s, %d", words, count)
    if not acknowledged:
        found.refuse(
            remedy="take them out of the extract; if all of it may be there, write "
            "acknowledge_identifiers: true in the configuration"
        )


def by_design(extract: Extract) -> tuple[str, ...]:
    """Kinds that the mapping of the extract's source says may be there."""
    path = extract.path / IMPORT_FOLDER / FILE
    return Identifiers.read(path).acknowledged if path.is_file() else ()
