# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The KITTI metric as means and columns."""

from __future__ import annotations

from pointdistiller_core.evaluation.kitti.scores import score_details


def precision(*ap40):
    return {'ap40': list(ap40), 'ap11': [0, 0, 0]}


def test_scores_are_the_moderate_ones_and_a_class_never_detected_counts_as_0():
    details = {
        'bbox': {'Car': precision(99, 99, 99)},
        'bev': {'Car': precision(80, 60, 40), 'Pedestrian': precision(9, 6, 3)},
        '3d': {'Car': precision(70, 30, 20)},
    }
    scores = score_details(details, ['Car', 'Pedestrian', 'Cyclist'])
    assert scores.row == {
        'BEV mAP': 22.0,
        '3D mAP': 10.0,
        '3D Car': 30,
        '3D Pedestrian': 0.0,
        '3D Cyclist': 0.0,
    }
    assert scores.by_class['Pedestrian'] == {'BEV AP': 6, '3D AP': 0.0}


def test_nothing_detected_at_all():
    assert score_details({}, ['Car']).row == {'BEV mAP': 0.0, '3D mAP': 0.0, '3D Car': 0.0}


def test_no_class_at_all():
    assert score_details({}, []).row == {}
