# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from pointdistiller_core.studies.table import (
    Arm,
    Spread,
    compare_arms,
    format_comparisons,
    format_markdown,
    format_table,
    measure_spread,
    summarize,
)


def scores(bev, three):
    return {'BEV mAP': bev, '3D mAP': three}


PLAIN = Arm('plain', 'labels alone')
TAUGHT = Arm('taught', 'distilled', baseline='plain')


def test_deviation_is_of_a_sample():
    assert measure_spread([1.0, 2.0, 6.0]) == Spread(3.0, pytest.approx(7**0.5), 3)
    assert measure_spread([4.0]) == Spread(4.0, None, 1)


def test_gains_are_paired_over_the_seeds_that_both_have():
    runs = {
        'plain': {0: scores(10, 5), 1: scores(20, 7), 2: scores(90, 90)},
        'taught': {0: scores(11, 4), 1: scores(23, 8), 5: scores(0, 0)},
    }
    plain, taught = summarize([PLAIN, TAUGHT], runs)
    assert plain.gains == {}
    assert plain.scores['BEV mAP'].mean == 40
    assert taught.num_seeds == 3
    assert taught.gains['BEV mAP'] == Spread(2.0, pytest.approx(2**0.5), 2)
    assert taught.gains['3D mAP'] == Spread(0.0, pytest.approx(2**0.5), 2)


def test_without_the_baseline_there_are_scores_and_no_gains():
    (row,) = summarize([TAUGHT], {'taught': {0: scores(10, 5)}})
    assert row.scores['3D mAP'] == Spread(5, None, 1)
    assert row.gains == {}


def test_table_of_the_arms_with_runs():
    runs = {'plain': {0: scores(10, 5), 1: scores(12, 6)}, 'taught': {1: scores(11.26, 7.5)}}
    columns, cells = format_table(summarize([PLAIN, TAUGHT, Arm('other', 'other')], runs))
    assert columns == ['arm', 'seeds', 'BEV mAP', '3D mAP', 'gain in BEV mAP', 'gain in 3D mAP']
    assert cells == [
        ['labels alone', '2', '11.0 ± 1.4', '5.5 ± 0.7', '-', '-'],
        ['distilled', '1', '11.3', '7.5', '-0.7', '+1.5'],
    ]


def test_markdown():
    text = format_markdown(['arm', 'AP|R40'], [['a', '1.0'], ['b', '2.0']])
    assert text == '| arm | AP\\|R40 |\n| --- | ---: |\n| a | 1.0 |\n| b | 2.0 |\n'


def test_two_arms_seed_by_seed():
    runs = {
        'a': {0: {'BEV mAP': 10.0, '3D mAP': 5.0}, 1: {'BEV mAP': 20.0, '3D mAP': 7.0}},
        'b': {1: {'BEV mAP': 15.0, '3D mAP': 6.0}, 0: {'BEV mAP': 7.0, '3D mAP': 1.0}},
        'c': {5: {'BEV mAP': 15.0, '3D mAP': 6.0}},
    }
    titles = {'a': 'A', 'b': 'B', 'c': 'C'}
    ab, ac = compare_arms([('a', 'b'), ('a', 'c')], titles, runs, ('BEV mAP', '3D mAP'))
    assert ab.gains['BEV mAP'] == Spread(4.0, pytest.approx(2**0.5), 2)
    assert ab.gains['3D mAP'] == Spread(2.5, pytest.approx(4.5**0.5), 2)
    assert (ac.num_seeds, ac.gains) == (0, {})
    columns, rows = format_comparisons([ab, ac])
    assert columns == ['arm', 'compared with', 'seeds', 'gain in BEV mAP', 'gain in 3D mAP']
    assert rows == [['A', 'B', '2', '+4.0 ± 1.4', '+2.5 ± 2.1']]  # the other two share no seed
