# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A training that begins with trained weights, of the same classes or of others."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

from changed_config import changed
from kitti_folder import points_in, write_frame, write_splits
import numpy as np
import pytest
import torch

from pointdistiller_core.config import (
    AnchorConfig,
    DistillationConfig,
    ExperimentConfig,
    KittiConfig,
    PointHeadConfig,
    PointPillarsConfig,
    TrainingConfig,
)
from pointdistiller_core.config.pointrcnn import KITTI_MEAN_SIZES
from pointdistiller_core.deploy.bundle import (
    BundleInfo,
    load_bundle,
    load_detector_model,
    save_bundle,
)
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.grid import Grid
from pointdistiller_core.models import PointPillars, build_detector
from pointdistiller_core.training.experiment import run_experiment
from pointdistiller_core.training.fine_tuning import Start, start_from
from pointdistiller_core.training.listeners import Listener

CAR = [10, 0, -1, 3.9, 1.6, 1.56, 0]
VAN = AnchorConfig(
    size=(5.0, 1.9, 2.2), bottom=-1.78, yaws=(0.0,), matched_iou=0.6, unmatched_iou=0.45
)


@pytest.fixture
def model(tiny_model) -> PointPillarsConfig:
    """The tiny model for three classes, of which Van has one yaw."""
    anchors = tiny_model.head.anchors | {'Van': VAN}
    head = tiny_model.head.model_copy(update={'anchors': anchors})
    return tiny_model.model_copy(update={'head': head, 'class_names': ('Car', 'Van', 'Cyclist')})


def save_source(folder: Path, config: PointPillarsConfig, *, seed: int = 5, **facts) -> Path:
    """A bundle of which every number is another one."""
    torch.manual_seed(seed)
    detector = build_detector(config)
    for tensor in detector.state_dict().values():
        tensor.random_(1, 9) if not tensor.is_floating_point() else tensor.uniform_(0.1, 0.9)
    save_bundle(folder, detector, BundleInfo(model=config, **facts))
    return folder


def experiment(
    config: PointPillarsConfig, root: Path = Path('data'), **training
) -> ExperimentConfig:
    options = {'epochs': 2, 'batch_size': 2, 'num_workers': 0, **training}
    return ExperimentConfig(
        model=config, dataset=KittiConfig(root=root), training=TrainingConfig(**options)
    )


def start(source: Path, config: PointPillarsConfig) -> tuple[PointPillars, PointPillars, Start]:
    """A detector that begins with the source's weights, its twin that does not, what is said."""
    torch.manual_seed(7)
    fresh = build_detector(config)
    torch.manual_seed(7)
    detector = build_detector(config)
    return detector, fresh, start_from(source, detector, experiment(config))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    root, rng = tmp_path / 'data', np.random.default_rng(0)
    for name in ('000000', '000001'):
        write_frame(root, name, points_in([CAR], 50, rng)[0], [CAR], ['Car'])
    write_splits(root, {'train': ['000000', '000001']})
    return root


def test_the_same_classes_are_the_same_weights(model, tmp_path, caplog):
    source = save_source(tmp_path / 'source', model)
    detector, _, told = start(source, model)
    info, weights = load_bundle(source)
    assert detector.state_dict().keys() == weights.keys()
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    total = sum(w.numel() for w in weights.values() if w.is_floating_point())
    assert told == Start(
        info.sha256['model.safetensors'],
        f'{source}: fine-tuning: {total} of {total} weights taken over, batch norm statistics '
        'included; of the head 60 of 60 channels (Car, Van, Cyclist)',
    )
    assert not caplog.messages


def outputs_by_name(detector: PointPillars) -> dict[tuple[str, ...], torch.Tensor]:
    """What the heads say of one map, by class of the anchor and, of logits, second class."""
    config, features = detector.config, torch.rand(1, 16, 4, 4, generator=torch.manual_seed(1))
    head, names = detector.head, config.class_names
    with torch.no_grad():
        maps = head.conv(features).permute(0, 2, 3, 1)
    kinds = [name for name in names for _ in config.head.anchors[name].yaws]
    parts = [part.reshape(16, len(kinds), -1) for part in torch.split(maps, head.channels, dim=3)]
    found = {}
    for name in names:
        own = [index for index, kind in enumerate(kinds) if kind == name]
        found |= {(name, other): parts[0][:, own, k] for k, other in enumerate(names)}
        found |= {(name, 'box'): parts[1][:, own], (name, 'direction'): parts[2][:, own]}
    return found


@pytest.mark.parametrize(
    ('names', 'counts', 'classes'),
    [
        # 2 anchors of Car and of Cyclist, 1 of Van: A (K + 9) channels
        (('Cyclist', 'Van', 'Car'), '60 of 60', '(Cyclist, Van, Car)'),
        (('Cyclist',), '20 of 20', '(Cyclist); left out: Car, Van'),
        (
            ('Van', 'Pedestrian', 'Car'),
            '33 of 60',
            '(Van, Car); made anew: new classes (Pedestrian); left out: Cyclist',
        ),
        (
            ('Pedestrian',),
            '0 of 20',
            '(no class is the same); made anew: new classes (Pedestrian); '
            'left out: Car, Van, Cyclist',
        ),
    ],
)
def test_the_head_is_taken_over_by_name(model, tmp_path, names, counts, classes):
    source = save_source(tmp_path / 'source', model)
    detector, fresh, told = start(source, model.model_copy(update={'class_names': names}))
    ours, new, theirs = map(outputs_by_name, (detector, fresh, load_detector_model(source)))
    for meaning, values in ours.items():
        assert torch.equal(values, theirs.get(meaning, new[meaning])), meaning
    for name, tensor in load_detector_model(source).state_dict().items():
        assert name.startswith('head.') or torch.equal(detector.state_dict()[name], tensor)
    assert told.summary.endswith(f'of the head {counts} channels {classes}')


def test_second_begins_with_weights_of_its_own_family(tiny_second, model, tmp_path):
    source = save_source(tmp_path / 'source', tiny_second)
    detector, _, _ = start(source, tiny_second)
    for name, tensor in load_bundle(source)[1].items():
        assert torch.equal(detector.state_dict()[name], tensor), name
    with pytest.raises(ConfigError, match='second for pointpillars: a detector is fine-tuned'):
        start(source, model)


@pytest.mark.parametrize('cells', [0.1, 0.2])
def test_second_keeps_its_cells_along_z(tiny_second, tmp_path, cells):
    low, high = tiny_second.grid.point_cloud_range[:3], tiny_second.grid.point_cloud_range[3:5]
    grids = [
        Grid(point_cloud_range=(*low, *high, top), voxel_size=(0.4, 0.4, size))
        for top, size in ((1, 0.1), (5, cells))
    ]
    source = save_source(tmp_path / 'source', changed(tiny_second, grid=grids[0]))
    with pytest.raises(ConfigError, match='do not fit') as caught:
        start(source, changed(tiny_second, grid=grids[1]))
    (line,) = str(caught.value).splitlines()[1:]
    assert ('layers of the map' if cells == 0.1 else 'grid.voxel_size [m]') in line


def test_anchors_at_other_places_are_other_anchors(model, tmp_path):
    source = save_source(tmp_path / 'source', model)
    head = model.head.model_copy(update={'centers': 'cells'})
    *_, told = start(source, model.model_copy(update={'head': head}))
    assert 'classes with other anchors (Car, Van, Cyclist)' in told.summary


def test_only_pillars_are_told_of_another_middle(tiny_pointrcnn, tmp_path, caplog):
    source = save_source(tmp_path / 'source', tiny_pointrcnn)
    sample = {'point_cloud_range': (0, -12.8, -3, 25.6, 12.8, 3)}
    start(source, changed(tiny_pointrcnn, sample=sample))
    assert not caplog.messages


def with_sizes(**sizes: tuple[float, float, float]) -> PointHeadConfig:
    return PointHeadConfig(
        class_channels=(16,), box_channels=(16,), mean_sizes={**KITTI_MEAN_SIZES, **sizes}
    )


def test_pointrcnn_takes_classes_over_by_name(tiny_pointrcnn, tmp_path):
    known = ('Car', 'Pedestrian', 'Cyclist')
    source = save_source(tmp_path / 'source', changed(tiny_pointrcnn, class_names=known))
    names = ('Cyclist', 'Van', 'Car')
    config = changed(tiny_pointrcnn, class_names=names, head=with_sizes(Van=(5.0, 1.9, 2.2)))
    detector, fresh, told = start(source, config)
    theirs, new = load_bundle(source)[1], fresh.state_dict()
    own = {
        f'classifier.{len(config.head.class_channels)}.linear.{end}' for end in ('weight', 'bias')
    }
    for name, tensor in detector.state_dict().items():
        expected = theirs[name]
        if name in own:
            rows = [
                theirs[name][known.index(k)] if k in known else new[name][names.index(k)]
                for k in names
            ]
            expected = torch.stack(rows)
            own.remove(name)
        assert torch.equal(tensor, expected), name
    assert not own
    assert told.summary.endswith(
        'of the head 2 of 3 channels (Cyclist, Car); made anew: new classes (Van); '
        'left out: Pedestrian'
    )


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'head': with_sizes(Car=(4.5, 1.8, 1.6))}, 'head.mean_sizes.Car: source has'),
        ({'refinement': {'depth_scale': 50.0}}, 'refinement.depth_scale: source has 70.0, '),
    ],
)
def test_another_pointrcnn_is_refused(tiny_pointrcnn, tmp_path, changes, line):
    source = save_source(tmp_path / 'source', tiny_pointrcnn)
    with pytest.raises(ConfigError, match='do not fit this configuration') as caught:
        start(source, changed(tiny_pointrcnn, **changes))
    (difference,) = str(caught.value).splitlines()[1:]
    assert line in difference


def test_a_class_with_other_anchors_begins_anew(model, tmp_path):
    source = save_source(tmp_path / 'source', model)
    car = model.head.anchors['Car'].model_copy(update={'bottom': -2.0, 'matched_iou': 0.5})
    cyclist = model.head.anchors['Cyclist'].model_copy(update={'matched_iou': 0.4})
    anchors = model.head.anchors | {'Car': car, 'Cyclist': cyclist}
    head = model.head.model_copy(update={'anchors': anchors})
    detector, fresh, told = start(source, model.model_copy(update={'head': head}))
    ours, new, theirs = map(outputs_by_name, (detector, fresh, load_detector_model(source)))
    for meaning, values in ours.items():
        assert torch.equal(values, (new if 'Car' in meaning else theirs)[meaning]), meaning
    assert told.summary.endswith(
        'channels (Van, Cyclist); made anew: classes with other anchors (Car)'
    )


def test_directions_from_another_angle_begin_anew(model, tmp_path):
    source = save_source(tmp_path / 'source', model)
    head = model.head.model_copy(update={'direction_offset': 0.0})
    detector, fresh, told = start(source, model.model_copy(update={'head': head}))
    ours, new, theirs = map(outputs_by_name, (detector, fresh, load_detector_model(source)))
    for meaning, values in ours.items():
        assert torch.equal(values, (new if 'direction' in meaning else theirs)[meaning]), meaning
    total = sum(w.numel() for w in detector.state_dict().values() if w.is_floating_point())
    assert f'{total - 10 * 17} of {total} weights taken over' in told.summary
    assert 'head.direction_offset (Car, Van, Cyclist)' in told.summary


def test_another_range_changes_no_weight(model, tmp_path, caplog):
    source = save_source(tmp_path / 'source', model)
    grid = Grid(point_cloud_range=(-25.6, -25.6, -3, 51.2, 25.6, 3), voxel_size=(0.8, 0.8, 6))
    detector, _, _ = start(source, model.model_copy(update={'grid': grid}))
    assert detector.head.anchors[:, 0].min() == -25.6
    for name, tensor in load_bundle(source)[1].items():
        assert torch.equal(detector.state_dict()[name], tensor), name
    (message,) = caplog.messages
    assert 'the middle of its range along z is -1.00 m, here 0.00 m' in message


def test_another_height_of_the_sensor_is_told(model, tmp_path, caplog):
    start(save_source(tmp_path / 'source', model, sensor_height=2.5), model)
    (message,) = caplog.messages
    assert 'trained 2.50 m above the ground, but dataset.sensor_height is 1.73 m' in message


@pytest.mark.parametrize(
    ('changes', 'lines'),
    [
        (
            {'width': 0.5},
            [
                '  encoder.channels: source has (8,), configuration has (4,)',
                '  backbone.channels: source has (8, 16), configuration has (4, 8)',
                '  neck.channels: source has (8, 8), configuration has (4, 4)',
            ],
        ),
        (
            {'backbone': {'layers': (1, 2)}},
            ['  backbone.layers: source has (1, 1), configuration has (1, 2)'],
        ),
        (
            {'backbone': {'strides': (2, 1)}, 'neck': {'strides': (2, 2)}},
            [
                '  backbone.strides: source has (1, 2), configuration has (2, 1)',
                '  neck.strides: source has (1, 2), configuration has (2, 2)',
            ],
        ),
        (
            {'grid': Grid(point_cloud_range=(0, -8, -3, 16, 8, 1), voxel_size=(0.5, 0.5, 4))},
            [
                '  grid.voxel_size, x and y [m]: source has (0.8, 0.8), '
                'configuration has (0.5, 0.5)'
            ],
        ),
    ],
)
def test_another_network_is_refused(model, frames, tmp_path, changes, lines):
    source = save_source(tmp_path / 'source', model)
    config = experiment(changed(model, **changes), frames)
    with pytest.raises(ConfigError, match='do not fit this configuration') as caught:
        run_experiment(config, tmp_path / 'run', source=source, device='cpu')
    assert str(caught.value).splitlines()[1:] == lines
    assert not (tmp_path / 'run').exists()


def test_points_that_are_read_in_another_order_are_refused(model, tmp_path):
    file = save_source(tmp_path / 'source', model) / 'bundle.json'
    values = json.loads(file.read_text())
    values['model']['point_features'] = ['x', 'z', 'y']
    del values['info_sha256']
    file.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"point_features \['x', 'z', 'y'\]: detectors read"):
        start(file.parent, model)


def test_a_damaged_source_is_refused(model, frames, tmp_path):
    source = save_source(tmp_path / 'source', model)
    (source / 'model.safetensors').write_bytes(b'')
    for path, problem in ((source, 'truncated or altered'), (frames, 'neither a bundle')):
        with pytest.raises(CheckpointError, match=problem):
            run_experiment(experiment(model, frames), tmp_path / 'run', source=path)
    assert not (tmp_path / 'run').exists()


def test_a_student_has_one_kind_of_first_weights(model, tmp_path):
    source = save_source(tmp_path / 'source', model)
    config = experiment(model).model_copy(update={'distillation': DistillationConfig()})
    with pytest.raises(ConfigError, match=r'distillation\.initialization=slice_norm cuts'):
        run_experiment(config, tmp_path / 'run', teacher=source, source=source)


def test_a_student_goes_on_from_weights_that_it_has(model, frames, tmp_path):
    source = save_source(tmp_path / 'source', model)
    teacher = save_source(tmp_path / 'teacher', model, seed=6)
    config = experiment(model, frames, learning_rate=1e-9, epochs=1).model_copy(
        update={'distillation': DistillationConfig(initialization='random')}
    )
    bundle = run_experiment(config, tmp_path / 'run', teacher=teacher, source=source, device='cpu')
    weights, before, other = (dict(load_bundle(path)[1]) for path in (bundle, source, teacher))
    name = next(name for name in weights if name.endswith('weight') and weights[name].ndim == 4)
    torch.testing.assert_close(weights[name], before[name], atol=1e-6, rtol=0)
    assert not torch.allclose(before[name], other[name], atol=1e-3)
    facts = json.loads((tmp_path / 'run' / 'run.json').read_bytes())['facts']
    assert set(facts) >= {'from_sha256', 'teacher_sha256'}


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, note: str) -> None:
        self.notes.append(note)


def test_a_run_knows_what_it_began_with(model, frames, tmp_path):
    """And goes on without it from a checkpoint, with the bits of a run that was left alone."""
    source, run, listener = save_source(tmp_path / 'source', model), tmp_path / 'run', Notes()
    config = experiment(model, frames, learning_rate=1e-3)
    bundle = run_experiment(config, run, source=source, device='cpu', listener=listener)
    assert len(listener.notes) == 1
    info, weights = load_bundle(bundle)
    checksum = load_bundle(source)[0].sha256['model.safetensors']
    facts = json.loads((run / 'run.json').read_bytes())['facts']
    assert facts == {'from_sha256': checksum}
    assert info.training['from_sha256'] == checksum
    shutil.rmtree(bundle)
    shutil.rmtree(run / 'checkpoints' / 'epoch_000002')
    other = save_source(tmp_path / 'other', model.model_copy(update={'class_names': ('Car',)}))
    with pytest.raises(ConfigError, match=f"from_sha256: '{checksum}' then, '.{{64}}' now"):
        run_experiment(config, run, source=other, resume=True, device='cpu')
    again = run_experiment(config, run, resume=True, device='cpu', listener=listener)
    assert len(listener.notes) == 1
    for name, tensor in load_bundle(again)[1].items():
        assert torch.equal(tensor, weights[name]), name
    assert run_experiment(config, run, source=source, resume=True, device='cpu') == again


def test_without_a_checkpoint_the_source_is_needed(model, frames, tmp_path):
    source, run, listener = save_source(tmp_path / 'source', model), tmp_path / 'run', Notes()
    config = experiment(model, frames, epochs=1)
    run_experiment(config, run, source=source, device='cpu')
    shutil.rmtree(run / 'bundle')
    shutil.rmtree(run / 'checkpoints')
    with pytest.raises(CheckpointError, match=r'no checkpoint yet.*--from.*SHA-256'):
        run_experiment(config, run, resume=True, device='cpu')
    run_experiment(config, run, source=source, resume=True, device='cpu', listener=listener)
    assert len(listener.notes) == 1


def test_a_run_that_began_with_new_weights_takes_no_others(model, frames, tmp_path):
    source, run = save_source(tmp_path / 'source', model), tmp_path / 'run'
    config = experiment(model, frames, epochs=1)
    run_experiment(config, run, device='cpu')
    with pytest.raises(ConfigError, match='from_sha256: None then'):
        run_experiment(config, run, source=source, resume=True, device='cpu')


def test_a_damaged_run_file_is_one_error(model, frames, tmp_path):
    run, config = tmp_path / 'run', experiment(model, frames, epochs=1)
    run_experiment(config, run, device='cpu')
    for content in ('', '[]', '{"facts": 3}'):
        (run / 'run.json').write_text(content, encoding='utf-8')
        with pytest.raises(CheckpointError, match=r'run\.json: missing or damaged'):
            run_experiment(config, run, resume=True, device='cpu')
