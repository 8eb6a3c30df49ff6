from clinical.evaluation.suppression import Cells, hidden_groups

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def cells(*columns, outcome=None, outcomes=None, subjects=None, smallest=10):
    columns = [np.asarray(column, dtype=np.int64) for column in columns]
    n = len(columns[0])
    return Cells(
        columns=columns,
        outcomes=[
            np.asarray(each, np.int64)
            for each in (outcomes or [np.zeros(n) if outcome is None else outcome])
        ],
        subjects=np.arange(n) if subjects is None else np.asarray(subjects),
        smallest=smallest,
    )


def of_sizes(*sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def shown_sets(given, hidden):
    """Every set of rows whose count a reader is told."""
    keys = [key for key in given.groups if key not in hidden]
    wholes = [np.ones(len(given.subjects), dtype=bool), *(given.rows(*key) for key in keys)]
    return [part for rows in wholes for part in given.parts(rows)]


def assert_nothing_small_follows(given, hidden):
    """Row by row: no small set is a combination, a rest or a difference of what is shown."""
    shown = shown_sets(given, hidden)
    span = np.stack(shown).astype(float)
    rank = np.linalg.matrix_rank(span)
    wholes = [set(np.flatnonzero(part)) for part in given.parts(given.rows(-1, 0))]
    for key in given.groups:
        rows = given.rows(*key)
        if not given.is_small(rows):
            continue
        assert key in hidden
        for part in given.parts(rows):
            if part.any() and set(np.flatnonzero(part)) not in wholes:  # these are told anyway
                assert np.linalg.matrix_rank(np.vstack([span, part])) > rank, key
    for place, column in enumerate(given.columns):
        own = [group for c, group in hidden if c == place]
        if own and len(own) <= column.max():
            assert not given.is_small(np.isin(column, own))
    n_wholes = sum(map(len, given.judged))  # what is told of them is decided elsewhere
    for i, one in enumerate(shown):
        for other in shown[0 if i >= n_wholes else n_wholes :]:
            if one.any() and not (one & ~other).any():
                rest = given.people(other & ~one)
                assert rest == 0 or rest >= given.smallest


def test_groups_that_are_large_enough_are_all_shown():
    assert hidden_groups(cells(of_sizes(10, 30, 60))) == set()


def test_a_small_group_takes_the_next_smallest_with_it():
    # 5 would be 100 - 30 - 65; together with 30 nobody can tell.
    assert hidden_groups(cells(of_sizes(65, 5, 30))) == {(0, 1), (0, 2)}


def test_two_small_groups_hide_each_other_only_where_together_they_are_not_small():
    assert hidden_groups(cells(of_sizes(60, 8, 7, 25))) == {(0, 1), (0, 2)}
    assert hidden_groups(cells(of_sizes(60, 3, 4, 25))) == {(0, 1), (0, 2), (0, 3)}


def test_of_two_groups_both_go():
    assert hidden_groups(cells(of_sizes(95, 5))) == {(0, 0), (0, 1)}


def test_a_small_whole_shows_nothing():
    assert hidden_groups(cells(of_sizes(4, 5))) == {(0, 0), (0, 1)}


def test_few_events_make_a_group_small_and_its_complement_is_hidden_too():
    column = of_sizes(50, 50, 50)
    outcome = np.zeros(150, int)
    outcome[:20] = outcome[50:70] = outcome[100:103] = 1  # 20, 20 and 3 events
    hidden = hidden_groups(cells(column, outcome=outcome))
    assert (0, 2) in hidden
    assert len(hidden) == 2


def test_people_count_and_not_their_rows():
    # 40 rows of 4 people.
    given = cells(of_sizes(40, 40, 40), subjects=np.r_[np.arange(40) // 10, 100:180])
    assert (0, 0) in hidden_groups(given)


def test_a_group_does_not_follow_from_another_column():
    # Units 0 and 1 are site 0; units 2, 3, 4 are site 1. Unit 1 is site 0 less unit 0, so that
    # hiding any other unit would not hide it.
    unit = of_sizes(40, 6, 30, 30, 30)
    site = (unit >= 2).astype(int)
    hidden = hidden_groups(cells(unit, site))
    assert (0, 1) in hidden
    assert (0, 0) in hidden
    assert_nothing_small_follows(cells(unit, site), hidden)


def test_a_group_that_is_another_but_for_three_people_is_hidden():
    unit = of_sizes(50, 53, 40)
    site = of_sizes(53, 50, 40)
    hidden = hidden_groups(cells(unit, site))
    assert (0, 0) in hidden
    assert_nothing_small_follows(cells(unit, site), hidden)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.03, 0.3]),
)
def test_nothing_small_follows_from_what_is_shown(
    seed, n_columns, has_outcome, is_nested, unlabelled
):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(20, 120))
    levels = generator.integers(2, 6, n_columns)
    columns = [
        np.unique(generator.choice(k, n, p=generator.dirichlet(np.ones(k))), return_inverse=True)[1]
        for k in levels
    ]
    if is_nested:  # a coarser column, with a few people somewhere else
        coarse = columns[0] // 2
        moved = generator.random(n) < 0.03
        columns.append(np.unique(np.where(moved, 0, coarse), return_inverse=True)[1])
    outcome = (generator.random(n) < 0.4).astype(int) if has_outcome else np.zeros(n, int)
    outcomes = [outcome]
    if unlabelled:  # a second task, of which some have no label
        outcomes.append(
            np.where(generator.random(n) < unlabelled, -1, generator.permutation(outcome))
        )
    subjects = generator.integers(0, 2 * n, n)
    given = cells(*columns, outcomes=outcomes, subjects=subjects, smallest=6)
    hidden = hidden_groups(given)
    if given.is_small(given.rows(-1, 0)):
        assert hidden == set(given.groups)
        return
    assert_nothing_small_follows(given, hidden)


@pytest.mark.parametrize("smallest", [1, 5, 20])
def test_the_limit_is_the_smallest_that_is_shown(smallest):
    given = cells(of_sizes(smallest, 100, 100), smallest=smallest)
    assert hidden_groups(given) == set()
    assert hidden_groups(cells(of_sizes(smallest, 100, 100), smallest=smallest + 1))


def test_what_stands_alone_elsewhere_stays_and_others_are_hidden_for_it():
    # 6 people of unit 0 are not in site 0; by themselves all units could be shown, and all sites.
    site = of_sizes(50, 56, 40)
    unit = of_sizes(56, 50, 40)
    given = cells(unit, site)
    alone = hidden_groups(cells(unit))
    assert alone == set()
    assert {column for column, _ in hidden_groups(given, alone=0)} == {1}
    assert {column for column, _ in hidden_groups(given, alone=1)} == {0}
    for place in (0, 1):
        assert_nothing_small_follows(given, hidden_groups(given, alone=place))


def test_a_group_does_not_follow_from_another_task():
    # Three of the hundred in group 1 have no label of the second task.
    group = of_sizes(200, 100, 100)
    labelled = np.zeros(400, int)
    labelled[200:203] = -1
    assert hidden_groups(cells(group, outcome=np.zeros(400))) == set()
    assert hidden_groups(cells(group, outcome=labelled)) == set()
    given = cells(group, outcomes=[np.zeros(400), labelled])
    assert (0, 1) in hidden_groups(given)
    assert_nothing_small_follows(given, hidden_groups(given))


def test_a_group_that_a_task_has_not_judged_at_all_is_shown_for_the_others():
    group = of_sizes(50, 50, 50)
    only_here = np.where(group == 0, 0, -1)
    assert hidden_groups(cells(group, outcomes=[np.zeros(150), only_here])) == set()


def test_events_by_one_horizon_do_not_tell_those_of_few_by_the_next():
    group = of_sizes(60, 60, 60)
    first = (np.arange(180) % 3 == 0).astype(int)
    second = first.copy()
    second[[1, 2, 4]] = 1  # three of group 0 have the event in between
    assert hidden_groups(cells(group, outcome=first)) == set()
    assert hidden_groups(cells(group, outcome=second)) == set()
    assert (0, 0) in hidden_groups(cells(group, outcomes=[first, second]))
