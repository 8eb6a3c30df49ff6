"""Frailty as what notes say a patient can and cannot do.

Activities form a ladder: the reading decides which of them the patient has lost. A loss is
written as "in need of help to" or as "not able to", a retained activity as "able to" or "not in
need of help to"; statements about the past and about other people follow no reading at all.
"""

from clinical.extract.synthetic import phrases
from clinical.extract.synthetic.causes import FRAILTY, Floats
from clinical.extract.synthetic.stays import PREDICTION_AFTER, Stays

import numpy as np
import polars as pl

LOWEST, HIGHEST = -2.2, 2.2
THRESHOLDS: Floats = np.linspace(LOWEST, HIGHEST, len(phrases.ACTIVITIES))
STEEPNESS = 12.0
# Share of stays with notes that have one, two or three of them.
NOTE_COUNTS = (0.55, 0.33, 0.12)
N_DISTRACTORS = 2
# Below one half, so that words alone say a little: an encoder needs somewhere to start.
NEGATED = 0.3
# An adverb parts the negation from what it negates, so that pairs of words fall short too.
ADVERBS = 0.4
DISCHARGE = "NOTE//DISCHARGE"


def render_notes(rng: np.random.Generator, stays: Stays) -> pl.DataFrame:
    """Notes within the first 48 h, and a discharge note at each stay's end.

    Returns:
        Columns `stay` (row number), `minute`, `code`, `text_value`.
    """
    n = len(stays)
    count = np.where(stays.has_note, 1 + rng.choice(len(NOTE_COUNTS), n, p=NOTE_COUNTS), 0)
    stay = np.repeat(np.arange(n), count)
    minute = stays.admission[stay] + rng.integers(60, PREDICTION_AFTER, len(stay))
    kind = rng.integers(0, len(phrases.KINDS), len(stay))
    lost = _draw_losses(rng, stays.readings[stay, FRAILTY])
    texts = [_write(rng, int(k), row) for k, row in zip(kind, lost, strict=True)]
    endings = np.where(
        stays.died, rng.choice(phrases.DIED_NOTES, n), rng.choice(phrases.HOME_NOTES, n)
    )
    codes = [f"NOTE//{phrases.KINDS[k]}" for k in kind]
    return pl.DataFrame(
        {
            "stay": np.concatenate([stay, np.arange(n)]),
            "minute": np.concatenate([minute, stays.end]),
            "code": codes + [DISCHARGE] * n,
            "text_value": texts + endings.tolist(),
        }
    )


def _draw_losses(rng: np.random.Generator, readings: Floats) -> np.ndarray:
    """Which activities each note finds lost, [notes, activities]."""
    jitter = rng.logistic(0.0, 1 / STEEPNESS, (len(readings), len(THRESHOLDS)))
    lost: np.ndarray = readings[:, None] + jitter > THRESHOLDS
    return lost


def _write(rng: np.random.Generator, kind: int, lost: np.ndarray) -> str:
    """One note of a kind from the activities lost, [activities]."""
    # One of each two neighbours on the ladder, so that every note covers all of it.
    told = rng.permutation(np.arange(0, len(lost), 2) + rng.integers(0, 2, len(lost) // 2))
    statements = [
        _statement(rng, phrases.PRESENT, int(a), bool(lost[a]), denial=True) for a in told
    ]
    for _ in range(N_DISTRACTORS):
        frames = phrases.PAST if rng.random() < 0.4 else phrases.OTHERS
        activity, is_lost = int(rng.integers(len(lost))), bool(rng.random() < 0.5)
        text = _statement(rng, frames, activity, is_lost, denial=False)
        statements.insert(int(rng.integers(len(statements) + 1)), text)
    return " ".join(
        [
            phrases.TITLES[kind],
            f"Admitted for {_pick(rng, phrases.REASONS)}.",
            _pick(rng, phrases.FINDINGS),
            phrases.HEADINGS[kind],
            *statements,
            _pick(rng, phrases.FAMILY + phrases.PLANS),
        ]
    )


def _statement(
    rng: np.random.Generator,
    frames: tuple[str, ...],
    activity: int,
    is_lost: bool,
    *,
    denial: bool,
) -> str:
    is_negated = rng.random() < NEGATED
    predicate = _pick(rng, phrases.DEPENDENT if is_lost != is_negated else phrases.CAPABLE)
    start = _pick(rng, frames)
    if is_negated and denial and rng.random() < 0.25:
        start = phrases.DENIAL
    elif is_negated:
        start = f"{start} {_pick(rng, phrases.NEGATIONS)}"
    if rng.random() < ADVERBS:
        start = f"{start} {_pick(rng, phrases.ADVERBS)}"
    return f"{start} {predicate} {phrases.ACTIVITIES[activity]}."


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
