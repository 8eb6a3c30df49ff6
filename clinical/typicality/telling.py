"""What is said of a drift table, and where it is written."""

from pathlib import Path

import pandas as pd

NAMED = 5
"""Drifted rows that a warning names."""


def drift_file(out: Path) -> Path:
    """Where the drift table of a file of predictions is written: beside it."""
    return out.with_name(f"{out.stem}.drift.parquet")


def difference(row: pd.Series) -> str:
    """The more certain of a row's two differences from training, in a few words."""
    parts = [row["variable"], row["modality"], "anything"]
    name = next(str(part) for part in parts if not pd.isna(part))
    certain = max(row["change_low"], -row["change_high"], 0)
    if pd.isna(row["shift"]) or certain >= row["shift_low"]:
        return f"{name} in {percent(row['seen'])} of patients, not {percent(row['seen_in_train'])}"
    if row["what"] == "variable":
        return f"{name} {row['direction']}"
    typical = "less typical" if row["direction"] == "higher" else "more typical"
    return typical if row["what"] == "everything" else f"{name} {typical}"


def percent(share: float) -> str:
    """A share for people; what is not all and not nothing is not said to be."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.3g} %"


def warning(table: pd.DataFrame) -> str | None:
    """One sentence if anything drifted: variables where there are any, else what sums them up."""
    drifted = table[table["drifted"]]
    if drifted.empty:
        return None
    of_variables = table["what"] == "variable"
    variables = drifted[drifted["what"] == "variable"]
    rows = variables if len(variables) else drifted
    said = "; ".join(difference(row) for _, row in rows.head(NAMED).iterrows())
    rest = len(rows) - NAMED
    more = f"; and {rest} more" if rest > 0 else ""
    among = f" in {len(variables)} of {of_variables.sum()} variables" if len(variables) else ""
    return f"the cohort differs from the one trained on{among}: {said}{more}"
