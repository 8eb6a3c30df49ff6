"""Which modality an event belongs to; every event has one or none."""

from clinical.errors import ConfigError

from collections.abc import Collection, Mapping, Sequence

import polars as pl

NEVER = ("MEDS_BIRTH",)
"""Codes that are no input: the age at the prediction time says what a birth date may say."""


def route(
    notes_codes: Sequence[str],
    selects: Mapping[str, Sequence[str] | None],
    configured: Collection[str],
) -> pl.Expr:
    """The modality of each raw event, null where it is nobody's.

    An image path goes to images; a code of `notes_codes` to notes; no time to static; a number
    to events; everything else to codes. A modality with patterns of its own in `selects` gets
    exactly the codes that match, whatever the rest of the event looks like, before any other
    modality; two such modalities are served in their order. Events of a modality that is not
    configured are nobody's.

    Args:
        notes_codes: Codes, or regular expressions that fit a code from end to end.
        selects: Modality -> such patterns, null or absent for the default.
        configured: The modalities of the run.

    Returns:
        An expression over `time, code, numeric_value, image_path`.

    Raises:
        ConfigError: a pattern is no regular expression.
    """
    chosen = {name: patterns for name, patterns in selects.items() if patterns is not None}
    default = (
        pl.when(pl.col("image_path").is_not_null())
        .then(pl.lit("images"))
        .when(matches(notes_codes, where="modalities.notes.codes"))
        .then(pl.lit("notes"))
        .when(pl.col("time").is_null())
        .then(pl.lit("static"))
        .when(pl.col("numeric_value").is_not_null())
        .then(pl.lit("events"))
        .otherwise(pl.lit("codes"))
    )
    takers = sorted(set(configured) - set(chosen))
    routed = pl.when(default.is_in(takers)).then(default).otherwise(pl.lit(None, pl.String))
    for name in reversed([name for name in chosen if name in configured]):
        mine = matches(chosen[name], where=f"modalities.{name}.select")
        routed = pl.when(mine).then(pl.lit(name)).otherwise(routed)
    excluded = pl.col("code").is_in(NEVER)
    return pl.when(excluded).then(pl.lit(None, pl.String)).otherwise(routed).alias("modality")


def matches(patterns: Sequence[str], *, where: str) -> pl.Expr:
    """Whether `code` equals one of the patterns or fits it as a regular expression end to end.

    Raises:
        ConfigError: a pattern is neither; `where` names the key.
    """
    if isinstance(patterns, str):
        raise ConfigError(f"{where}: give a list of codes, such as [{patterns}]")
    expression = pl.col("code").is_in(list(patterns))
    for pattern in patterns:
        whole = f"^(?:{pattern})$"
        try:
            pl.Series([""]).str.contains(whole)
        except pl.exceptions.ComputeError as error:
            raise ConfigError(
                f"{where}: {pattern} is not a regular expression; put a backslash before "
                "characters such as ( that are meant literally"
            ) from error
        expression = expression | pl.col("code").str.contains(whole)
    return expression
