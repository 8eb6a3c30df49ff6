"""Words made of cells, such as `LAB//{itemid}//{unit|}`."""

import re
from dataclasses import dataclass

import polars as pl

SEPARATOR = "//"

_FIELD = re.compile(r"\{([^{}|]+)(?:\|([^{}]*))?\}")


@dataclass(frozen=True)
class Field:
    """A cell within a template; `default` stands for an empty one, or nothing does."""

    column: str
    default: str | None


@dataclass(frozen=True)
class Template:
    """Literal text and cells, in parts that `//` separates.

    An empty cell without a default leaves the whole without a value. A part that comes out empty,
    by an empty default, is left out with its separator.
    """

    text: str
    parts: tuple[tuple[str | Field, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read a template.

        Raises:
            ValueError: A brace is not one of a pair around a column's name.
        """
        parts = tuple(tuple(_pieces(part)) for part in text.split(SEPARATOR))
        return cls(text, parts)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its cells, in order."""
        return tuple(piece for part in self.parts for piece in part if isinstance(piece, Field))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its cells, in order."""
        return tuple(field.column for field in self.fields)

    def render(self, texts: dict[str, pl.Expr]) -> pl.Expr:
        """The words of each row; null where a cell without a default is empty, or all are.

        Args:
            texts: For each column its cells as text, null where empty.
        """
        made = [_render_part(part, texts) for part in self.parts]
        if all(field.default is None for field in self.fields):
            return pl.concat_str(made, separator=SEPARATOR)
        kept = [pl.when(part != "").then(part) for part in made]
        whole = pl.concat_str(kept, separator=SEPARATOR, ignore_nulls=True)
        needed = [texts[field.column] for field in self.fields if field.default is None]
        is_there = pl.all_horizontal([text.is_not_null() for text in needed] or [pl.lit(True)])
        return pl.when(is_there & (whole != "")).then(whole)


def _pieces(part: str) -> list[str | Field]:
    pieces: list[str | Field] = []
    end = 0
    for found in _FIELD.finditer(part):
        pieces += [_literal(part[end : found.start()]), Field(found[1].strip(), found[2])]
        end = found.end()
    pieces.append(_literal(part[end:]))
    return [piece for piece in pieces if piece != ""]


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(
            f"a brace without its other half in {text!r}; cells are written {{column}}"
        )
    return text


def _render_part(part: tuple[str | Field, ...], texts: dict[str, pl.Expr]) -> pl.Expr:
    pieces = []
    for piece in part:
        if isinstance(piece, str):
            pieces.append(pl.lit(piece))
        elif piece.default is None:
            pieces.append(texts[piece.column])
        else:
            pieces.append(texts[piece.column].fill_null(piece.default))
    return pl.concat_str(pieces) if pieces else pl.lit("")
