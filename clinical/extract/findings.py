"""What `validate` finds: plain data for a table, for JSON, for an exit code."""

from clinical.errors import SchemaError
from clinical.facts_table import html_of

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One kind of problem in one file.

    Attributes:
        check: What was checked, in a few words.
        severity: "error" if something built on the extract would be wrong, "warning" if less.
        file: Relative to the extract.
        count: How many rows, subjects, codes or images, as `remedy` says.
        remedy: What is wrong and what to do about it.
    """

    check: str
    severity: Literal["error", "warning"]
    file: str
    count: int
    remedy: str


@dataclass(frozen=True)
class Validation:
    """The findings of all checks, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    def _repr_html_(self) -> str:
        """A row a finding: names of checks and files, and counts."""
        facts = {
            f"{number}. {one.severity}: {one.check}": f"{one.file} ({one.count:,}): {one.remedy}"
            for number, one in enumerate(self.findings, start=1)
        }
        return html_of("Validation", facts or {"findings": "none: the extract is valid"})

    def to_json(self) -> str:
        """`{"ok": …, "findings": [{"check": …, "severity": …, "file": …, …}]}`."""
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return json.dumps({"ok": self.ok, "findings": findings}, indent=1, ensure_ascii=False)


def attempt(findings: list[Finding], check: str, file: str, read: Callable[[], T]) -> T | None:
    """What `read` returns; or None and a finding, where it raises a SchemaError.

    This is how one damaged file doesn't end the validation of the others.
    """
    try:
        return read()
    except SchemaError as error:
        message = str(error).removeprefix(f"{file}: ")
        findings.append(Finding(check, "error", file, 1, message))
        return None
