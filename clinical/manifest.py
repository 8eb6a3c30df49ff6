"""A finished bundle's list of files and their digests, so that a changed one is refused."""

from clinical.errors import BundleError

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

FORMAT_VERSION = 8
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that is the same for the same content."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def seal(folder: Path) -> None:
    """List every file with its SHA-256; with this the draft becomes a bundle."""
    files = {
        path.relative_to(folder).as_posix(): digest_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SEAL)
    }
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
    (folder / SEAL).write_text(digest_of(folder / MANIFEST) + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Refuse a bundle whose files are not exactly those that were written.

    Raises:
        BundleError: naming the file and what is wrong with it.
    """
    if (folder / "bundle" / MANIFEST).is_file():
        raise BundleError(f"{folder}: is a run folder; its bundle is {folder / 'bundle'}")
    if (folder / "data").is_dir():
        raise BundleError(f"{folder}: is an extract; give the bundle first, then the extract")
    for name in (MANIFEST, SEAL):
        if not (folder / name).is_file():
            raise BundleError(
                f"{folder / name}: is missing, so the bundle is unfinished or damaged; "
                "train it again or copy it completely"
            )
    if (folder / SEAL).read_text(encoding="utf-8", errors="replace").strip() != digest_of(
        folder / MANIFEST
    ):
        raise BundleError(f"{folder / MANIFEST}: was changed after the bundle was written")
    files = _listed(folder)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        # A link may point out of the folder, also one to a folder that holds a listed file.
        alien = not path.is_dir() and name not in {*files, MANIFEST, SEAL}
        if path.is_symlink() or (alien and not hidden):
            raise BundleError(f"{path}: does not belong to the bundle; remove it")
    for name, digest in files.items():
        _check_file(folder, name, digest)


def _listed(folder: Path) -> dict[str, str]:
    """The manifest's files and digests."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format_version"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST}: is no manifest; get the bundle anew") from error
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{folder}: has format version {version}, this toolkit reads {FORMAT_VERSION}; "
            "use the version that wrote it"
        )
    return files


def _check_file(folder: Path, name: str, digest: str) -> None:
    parts = PurePosixPath(name).parts
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise BundleError(f"{folder / MANIFEST}: lists a path that leaves the bundle's folder")
    if not path.is_file():
        raise BundleError(f"{path}: is missing; copy the bundle completely")
    if digest_of(path) != digest:
        raise BundleError(f"{path}: was changed after the bundle was written; get it anew")


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
