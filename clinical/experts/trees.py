"""Boosted trees in LightGBM's text format, read and evaluated here.

The format is plain text, but LightGBM's own reader trusts it: a child or a feature out of range
makes it read foreign memory. A bundle may come from anywhere, so its trees are checked and walked
in NumPy, and scoring needs no LightGBM.
"""

from clinical.errors import BundleError

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]

END = "end of trees"
HEADER = {
    "version": "v4",
    "num_class": "1",
    "num_tree_per_iteration": "1",
    "objective": "binary sigmoid:1",
}
# Bits of a decision: 2 sends a missing value left, 8 says that NaN is missing (else it is zero).
# Categories (1) and zeros that stand for missing (4) are never trained here.
LEFT, NAN_IS_MISSING = 2, 8
CHUNK = 256


@dataclass(frozen=True)
class Trees:
    """A sum of binary trees.

    A node's child is a node of a higher number, or a leaf as its complement (-1 is leaf 0).

    Attributes:
        n_features: F.
        root: [T] the node that a tree starts with, -1 for a tree of one leaf.
        feature, decision, left, right: [T, nodes].
        threshold: [T, nodes] float64; a value up to it goes left.
        leaf: [T, leaves] float64, what each leaf adds to the logit.
    """

    n_features: int
    root: Whole
    feature: Whole
    decision: Whole
    left: Whole
    right: Whole
    threshold: Floats
    leaf: Floats

    @classmethod
    def parse(cls, text: str) -> "Trees":
        """Read LightGBM's text format.

        Raises:
            BundleError: it is damaged, or holds what is not trained here.
        """
        try:
            head, *sections = text.partition(f"\n{END}\n")[0].split("\nTree=")
            header = _pairs(head)
            n_trees = len(header["tree_sizes"].split())
            _demand(END in text and len(sections) == n_trees > 0, "a tree is missing")
            _demand(head.startswith("tree\n") and "average_output" not in head, "another kind")
            for key, value in HEADER.items():
                _demand(header[key] == value, f"{key} is not {value}")
            n_features = int(header["max_feature_idx"]) + 1
            trees = [_Tree.parse(section, n_features) for section in sections]
        except (KeyError, ValueError, OverflowError) as error:
            raise BundleError(
                f"the trees of an expert are damaged ({error}); get the bundle anew"
            ) from error
        node = {
            name: _padded([getattr(tree, name) for tree in trees])
            for name in ("feature", "decision", "left", "right", "threshold", "leaf")
        }
        root = np.array([0 if len(tree.feature) else -1 for tree in trees])
        return cls(n_features=n_features, root=root, **node)

    def logit(self, features: NDArray[Any]) -> Floats:
        """[N, F] features, NaN where missing -> [N] logits."""
        if features.shape[1] != self.n_features:
            raise BundleError(
                f"an expert was trained on {self.n_features} features and given "
                f"{features.shape[1]}; its bundle is put together wrongly. Train it again"
            )
        parts = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        return np.concatenate([self._logit(part) for part in parts] or [np.empty(0)])

    def _logit(self, features: NDArray[Any]) -> Floats:
        tree, row = np.arange(len(self.root)), np.arange(len(features))[:, None]
        node = np.repeat(self.root[None], len(features), axis=0)
        while (inside := node >= 0).any():
            at = np.maximum(node, 0)
            value = features[row, self.feature[tree, at]].astype(np.float64)
            decision, unknown = self.decision[tree, at], np.isnan(value)
            is_missing = unknown & (decision & NAN_IS_MISSING > 0)
            below = np.where(unknown, 0.0, value) <= self.threshold[tree, at]
            goes_left = np.where(is_missing, decision & LEFT > 0, below)
            child = np.where(goes_left, self.left[tree, at], self.right[tree, at])
            node = np.where(inside, child, node)
        total: Floats = self.leaf[tree, ~node].sum(axis=1)
        return total


@dataclass(frozen=True)
class _Tree:
    feature: Whole
    decision: Whole
    left: Whole
    right: Whole
    threshold: Floats
    leaf: Floats

    @classmethod
    def parse(cls, section: str, n_features: int) -> "_Tree":
        lines = _pairs(section)
        n_leaves = int(lines["num_leaves"])
        _demand(n_leaves >= 1, "a tree without a leaf")
        _demand(lines["num_cat"] == "0" and lines["is_linear"] == "0", "another kind of tree")
        n_nodes = n_leaves - 1
        feature, decision, left, right = (
            _numbers(lines, key, n_nodes).astype(np.int64)
            for key in ("split_feature", "decision_type", "left_child", "right_child")
        )
        threshold, leaf = (
            _numbers(lines, "threshold", n_nodes),
            _numbers(lines, "leaf_value", n_leaves),
        )
        _demand(bool(np.isfinite(leaf).all()), "a leaf without a finite value")
        _demand(bool(((feature >= 0) & (feature < n_features)).all()), "a feature out of range")
        _demand(bool((decision & ~(LEFT | NAN_IS_MISSING) == 0).all()), "another kind of split")
        children = np.concatenate([left, right])
        # Each node but the root and each leaf hangs below one node of a lower number: it is a
        # tree, and every walk through it ends.
        expected = [*range(-n_leaves, 0), *range(1, n_nodes)] if n_nodes else []
        _demand(sorted(children.tolist()) == expected, "nodes that form no tree")
        above = np.tile(np.arange(n_nodes), 2)
        _demand(bool(((children < 0) | (children > above)).all()), "nodes that form no tree")
        return cls(feature, decision, left, right, threshold, leaf)


def _pairs(section: str) -> dict[str, str]:
    lines = (line.partition("=") for line in section.splitlines())
    return {key: value for key, equals, value in lines if equals}


def _numbers(lines: Mapping[str, str], key: str, n: int) -> Floats:
    numbers = np.array([float(word) for word in lines[key].split()], dtype=np.float64)
    # A threshold may be infinite: then only a missing value goes right.
    _demand(len(numbers) == n and not np.isnan(numbers).any(), f"{key} has not {n} numbers")
    return numbers


def _padded(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    table = np.zeros((len(rows), max(1, *(len(row) for row in rows))), dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
