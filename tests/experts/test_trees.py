"""Trees in LightGBM's format: the same logits as LightGBM's own, and damage is noticed."""

from clinical.errors import BundleError, ConfigError
from clinical.experts.lightgbm import LightGBM
from clinical.experts.trees import Trees

import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm")

# By hand: a node on feature 1 (up to 0.5, or missing, to the left), below it on the right one on
# feature 0 (NaN counts as zero); then a tree of a single leaf.
TEXT = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=a b
feature_infos=none none
tree_sizes=1 1

Tree=0
num_leaves=3
num_cat=0
split_feature=1 0
threshold=0.5 -2
decision_type=10 2
left_child=-1 -2
right_child=1 -3
leaf_value=0.25 1 -4
is_linear=0
shrinkage=1


Tree=1
num_leaves=1
num_cat=0
split_feature=
threshold=
decision_type=
left_child=
right_child=
leaf_value=0.125
is_linear=0
shrinkage=1


end of trees

parameters:
end of parameters
"""


@pytest.fixture(scope="module")
def fitted(table) -> LightGBM:
    return LightGBM.fit(*table(400, seed=0), seed=3, threads=1)


def test_trees_written_by_hand_give_the_logits_worked_out_by_hand():
    nan = np.nan
    features = np.array([[0, 0.5], [-3, 0.6], [-2, 9], [0, 9], [0, nan], [nan, 9], [nan, nan]])
    expected = [0.25, 1, 1, -4, 0.25, -4, 0.25]
    assert (Trees.parse(TEXT).logit(features) - 0.125).tolist() == expected


def test_logits_are_those_of_lightgbm(fitted, table):
    features, _ = table(700, seed=1)
    features[0] = np.nan
    features[1:40, 2] = np.nan
    features[40] = 0
    booster = lightgbm.Booster(model_str=fitted.text)
    expected = booster.predict(features, raw_score=True)
    assert len(np.unique(expected)) > 600
    np.testing.assert_allclose(fitted.logit(features), expected, rtol=0, atol=1e-12)


def test_missing_only_at_scoring_is_as_lightgbm_has_it(table):
    features, labels = table(400, seed=0)
    whole = LightGBM.fit(np.nan_to_num(features), labels, seed=0, threads=1)
    expected = lightgbm.Booster(model_str=whole.text).predict(features, raw_score=True)
    np.testing.assert_allclose(whole.logit(features), expected, rtol=0, atol=1e-12)


def test_trees_without_a_split_give_the_base_rate(table):
    features, labels = table(12, seed=0)
    features[:] = 1.0  # all alike
    few = LightGBM.fit(features, labels, seed=0, threads=1)
    rate = labels.mean()
    np.testing.assert_allclose(few.logit(features), np.log(rate / (1 - rate)), rtol=1e-6)


def test_the_text_reads_back_to_the_same_trees(fitted, table):
    features, _ = table(50, seed=1)
    again = LightGBM.read(fitted.text)
    assert again.text == fitted.text
    assert np.array_equal(again.logit(features), fitted.logit(features))


def test_a_logit_is_the_same_alone_and_among_others(fitted, table):
    features, _ = table(600, seed=1)
    together = fitted.logit(features)
    for row in (0, 255, 256, 599):
        assert fitted.logit(features[row : row + 1])[0] == together[row]
    assert fitted.logit(features[:0]).shape == (0,)


def test_other_features_than_those_trained_on_are_refused(fitted, table):
    with pytest.raises(BundleError, match="was trained on 6 features and given 5"):
        fitted.logit(table(3, seed=0)[0][:, :5])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tree\nversion", "forest\nversion"),
        ("version=v4", "version=v9"),
        ("num_class=1", "num_class=2"),
        ("objective=binary sigmoid:1", "objective=regression"),
        ("max_feature_idx=1\n", "max_feature_idx=0\n"),
        ("max_feature_idx=1\n", ""),
        ("tree_sizes=1 1", "tree_sizes=1 1 1"),
        ("label_index=0", "average_output"),
        ("split_feature=1 0", "split_feature=1 2"),
        ("split_feature=1 0", "split_feature=-1 0"),
        ("split_feature=1 0", "split_feature=1"),
        ("split_feature=1 0", "split_feature=1 x"),
        ("threshold=0.5 -2", "threshold=0.5 nan"),
        ("decision_type=10 2", "decision_type=1 2"),
        ("decision_type=10 2", "decision_type=4 2"),
        ("left_child=-1 -2", "left_child=-1 -9"),
        ("left_child=-1 -2", "left_child=-1 0"),
        ("left_child=-1 -2", "left_child=-1 1"),
        ("left_child=-1 -2", "left_child=-1 -1"),
        ("right_child=1 -3", "right_child=0 -3"),
        ("right_child=1 -3", "right_child=7 -3"),
        ("leaf_value=0.25 1 -4", "leaf_value=0.25 1 inf"),
        ("leaf_value=0.25 1 -4", "leaf_value=0.25 1"),
        ("num_leaves=3", "num_leaves=4"),
        ("num_leaves=3", "num_leaves=0"),
        ("num_leaves=3", "num_leaves=1000000000000"),
        ("num_cat=0", "num_cat=1"),
        ("is_linear=0", "is_linear=1"),
        ("end of trees", "end"),
        (TEXT, ""),
        (TEXT, "end of trees"),
        (TEXT[200:], ""),
    ],
)
def test_damaged_trees_are_refused(old, new):
    assert old in TEXT
    with pytest.raises(BundleError, match="the trees of an expert are damaged"):
        Trees.parse(TEXT.replace(old, new, 1))


def test_trees_cut_short_anywhere_are_refused(fitted):
    end = fitted.text.index("end of trees")
    for length in np.linspace(0, end, 60).astype(int):
        with pytest.raises(BundleError):
            Trees.parse(fitted.text[:length])


def test_an_expert_whose_library_is_missing_says_what_to_install(monkeypatch, table):
    monkeypatch.setattr(LightGBM, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r".* `pip install 'clinical\[trees\]'`"):
        LightGBM.check()
    with pytest.raises(ConfigError, match="is not installed"):
        LightGBM.fit(*table(30, seed=0), seed=0, threads=1)
