"""What there is to say of a drift table: where it is written, in how many words, and to warn of."""

from pathlib import Path

import pandas as pd

NAMED = 5
"""Drifted rows that a warning names."""


def drift_file(out: Path) -> Path:
    """Where the drift table of a file of predictions is written: beside it."""
    return out.with_name(f"{out.stem}.drift.parquet")


def named(row: pd.Series) -> str:
    """A row in a few words: what it is about."""
    if row["what"] == "everything":
        return "typicality"
    if row["what"] == "modality":
        return f"typicality of {row['modality']}"
    return str(row["variable"])


def difference(row: pd.Series) -> str:
    """The more certain of a row's two differences, in a few words."""
    change = row["seen"] - row["seen_in_train"]
    certain = max(row["change_low"], -row["change_high"], 0)
    if pd.isna(row["shift"]) or certain >= row["shift_low"]:
        of_patients = f"of {percent(row['seen'])} of patients, not {percent(row['seen_in_train'])}"
        return of_patients if change else "as in training"
    if row["what"] != "variable":
        return "less" if row["direction"] == "higher" else "more"
    return str(row["direction"])


def percent(share: float) -> str:
    """A share for people; what is not all and not nothing is not said to be."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.3g} %"


def warning(table: pd.DataFrame) -> str | None:
    """One sentence if anything drifted, variables before what sums them up."""
    drifted = table[table["drifted"]]
    if drifted.empty:
        return None
    variables = drifted[drifted["what"] == "variable"]
    rows = variables if len(variables) else drifted
    said = [f"{named(row)} ({difference(row)})" for _, row in rows.head(NAMED).iterrows()]
    rest = len(rows) - len(said)
    more = f" and {rest} more" if rest else ""
    n = int((table["what"] == "variable").sum())
    of = f"{len(variables)} of {n} variables" if len(variables) else "how typical its patients are"
    return f"the cohort differs from the one trained on in {of}: {', '.join(said)}{more}"
