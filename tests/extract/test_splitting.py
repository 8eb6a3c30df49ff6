"""Splits by a hash of the subject."""

from clinical.extract.splitting import split_by_hash

import hashlib

import polars as pl

SHARES = {"train": 0.7, "tuning": 0.15, "held_out": 0.15}


def test_a_subject_stays_in_its_split_whoever_else_is_there():
    everyone = dict(split_by_hash(pl.Series(range(500)), SHARES).iter_rows())
    some = split_by_hash(pl.Series([499, 3, 3, 77, 3]), SHARES)
    assert some.rows() == [(subject, everyone[subject]) for subject in (3, 77, 499)]


def test_the_shares_are_met_on_average():
    counts = split_by_hash(pl.Series(range(20_000)), SHARES)["split"].value_counts()
    found = dict(counts.iter_rows())
    # Four standard deviations of a binomial count, at most 65 here.
    assert all(abs(found[name] - 20_000 * share) < 260 for name, share in SHARES.items())


def test_the_cut_is_at_the_shares_of_a_named_hash():
    # Changing the hash would move held-out patients into somebody's training data.
    for subject, split in split_by_hash(pl.Series(range(200)), SHARES).iter_rows():
        digest = hashlib.sha256(b"clinical-split:%d" % subject).hexdigest()
        percent = int(digest[:16], 16) * 100 // 2**64
        assert split == ("train" if percent < 70 else "tuning" if percent < 85 else "held_out")
