# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels that teach nothing are found before a training begins."""

from __future__ import annotations

from pathlib import Path

from kitti_folder import write_frame, write_splits
import pytest

from pointdistiller_core.config import ExperimentConfig, KittiConfig, TrainingConfig
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.training.experiment import check_labels, run_experiment
from pointdistiller_core.training.label_survey import (
    LabelSurvey,
    check_training_labels,
    survey_labels,
)

NEAR, FAR = [10, 0, -1, 3.9, 1.6, 1.56, 0], [60, 0, -1, 3.9, 1.6, 1.56, 0]
RANGE = (0, -12.8, -3, 25.6, 12.8, 1)
POINTS = [[10, 0, -1, 0.5]]


def write_data(root: Path, *frames: list[list[float]], names: str = 'Car') -> Path:
    """Frames of boxes of one class as the split `train`."""
    for index, boxes in enumerate(frames):
        write_frame(root, f'{index}', POINTS, boxes, [names] * len(boxes))
    write_splits(root, {'train': [f'{index}' for index in range(len(frames))]})
    return root


def experiment(tiny_model, root: Path, **options) -> ExperimentConfig:
    training = TrainingConfig(epochs=1, batch_size=2, num_workers=0)
    return ExperimentConfig(
        model=tiny_model, dataset=KittiConfig(root=root), training=training, **options
    )


def test_labels_are_counted(tmp_path):
    root = write_data(tmp_path, [NEAR, FAR], [], [FAR])
    dataset = KittiDataset(KittiConfig(root=root), ('Car', 'Cyclist'))
    survey = survey_labels(dataset, dataset.class_names, RANGE)
    assert survey == LabelSurvey(3, {'Car': 3, 'Cyclist': 0}, {'Car': 1, 'Cyclist': 0})
    assert survey.gaps == [
        'class Car: 1 of 3 labels are in the range of the grid',
        'class Cyclist: no label in 3 frames',
    ]


def test_what_is_missing_is_warned_of_once(caplog):
    survey = LabelSurvey(3, {'Car': 3, 'Cyclist': 0}, {'Car': 3, 'Cyclist': 0})
    check_training_labels(survey, where='here', warn=False)
    assert not caplog.records
    check_training_labels(survey, where='here')
    assert [record.getMessage() for record in caplog.records] == [
        'here: class Cyclist: no label in 3 frames; it will not be found, or hardly'
    ]


@pytest.mark.parametrize(
    ('frames', 'names', 'gap'),
    [
        ([[], []], 'Car', 'class Car: no label in 2 frames'),
        ([[NEAR]], 'Van', 'class Car: no label in 1 frames'),
        ([[FAR], [FAR]], 'Car', 'class Car: 0 of 2 labels are in the range of the grid'),
    ],
)
def test_a_training_without_anything_to_learn_does_not_start(
    tiny_model, tmp_path, frames, names, gap
):
    root = write_data(tmp_path / 'data', *frames, names=names)
    with pytest.raises(DatasetError, match=f'nothing to learn: {gap}'):
        run_experiment(experiment(tiny_model, root), tmp_path / 'run', device='cpu')
    assert not (tmp_path / 'run').exists()


def test_an_identity_as_calibration_does_not_start(tiny_model, tmp_path):
    root = write_data(tmp_path / 'data', [NEAR])
    identity = ' 1 0 0 0 0 1 0 0 0 0 1 0'
    path = root / 'training' / 'calib' / '0.txt'
    lines = [f'P2:{identity}', 'R0_rect: 1 0 0 0 1 0 0 0 1', f'Tr_velo_to_cam:{identity}']
    path.write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(DatasetError, match=r'calib/0\.txt: .*would not stand upright'):
        run_experiment(experiment(tiny_model, root), tmp_path / 'run', device='cpu')
    assert not (tmp_path / 'run').exists()


def test_a_validation_that_measures_nothing_is_warned_of(tiny_model, tmp_path, caplog):
    root = write_data(tmp_path / 'data', [NEAR])
    empty = write_data(tmp_path / 'empty', [])
    validation = KittiConfig(root=empty, split='train')
    config = experiment(tiny_model, root, validation=validation)
    bundle = run_experiment(config, tmp_path / 'run', device='cpu')
    what = 'class Car: no label in 1 frames; its average precision will tell little'
    assert f'{empty}, train: {what}' in caplog.text
    caplog.clear()
    (root / 'training' / 'label_2' / '0.txt').write_text('', encoding='utf-8')
    assert run_experiment(config, tmp_path / 'run', resume=True, device='cpu') == bundle
    assert not caplog.records  # the run is complete


def test_labels_that_do_not_count_are_named(tiny_model, tmp_path, caplog):
    root = tmp_path / 'data'
    write_frame(root, '0', POINTS, [NEAR, FAR, FAR], ['Car', 'Van', 'Tram'])
    write_splits(root, {'train': ['0']})
    dataset = KittiDataset(KittiConfig(root=root), ('Car',))
    check_labels(experiment(tiny_model, root), dataset, None)
    (record,) = caplog.records
    assert 'labels of other classes are ignored: 1 Van, 1 Tram; class_map' in record.getMessage()
    caplog.clear()
    config = KittiConfig(root=root, class_map={'Van': 'Car', 'Tram': 'Car', 'Vann': 'Car'})
    mapped = KittiDataset(config, ('Car',))
    assert survey_labels(mapped, ('Car',), RANGE).labelled == {'Car': 3}
    check_labels(experiment(tiny_model, root), mapped, None)
    (gap, unmet) = [record.getMessage() for record in caplog.records]
    assert '1 of 3 labels are in the range' in gap
    assert 'nothing is called Vann; the classes are Car, Tram, Van' in unmet
