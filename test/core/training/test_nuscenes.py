# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector with velocities is trained and validated on key frames with past sweeps."""

from __future__ import annotations

import json

import numpy as np
from nuscenes_folder import write_experiment
import pytest
import yaml

from pointdistiller_core.config import ExperimentConfig, dump_config, parse_config
from pointdistiller_core.datasets import build_dataset
from pointdistiller_core.deploy.bundle import load_detector_model, read_info
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.pipelines.evaluate import evaluate
from pointdistiller_core.training.experiment import run_experiment


@pytest.fixture
def experiment(tmp_path, tiny_dataset, tiny_pyramid) -> ExperimentConfig:
    """Four key frames of cars, merged with the one before each."""
    return write_experiment(tmp_path, tiny_dataset(4).frames, tiny_pyramid, epochs=2)


def test_losses_metrics_and_velocities(experiment, tmp_path):
    bundle = run_experiment(experiment, tmp_path / 'run', device='cpu')
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text(encoding='utf-8'))
    losses = metrics['last_epoch']['losses']
    assert set(losses) == {'classification', 'box', 'direction', 'velocity', 'total'}
    assert losses['velocity'] > 0
    assert 0 <= metrics['validation']['NDS'] <= 1
    assert 'mAP' in metrics['validation']
    info = read_info(bundle)
    assert info.model == experiment.model.model_copy(update={'detection': info.model.detection})
    frames = build_dataset(experiment.dataset, ('car',), model=info.model)
    assert np.unique(frames[1].points[:, 4]).tolist() == [0, 0.5]
    any_score = info.model.detection.model_copy(update={'score_threshold': 0.0})
    info = info.model_copy(
        update={'model': info.model.model_copy(update={'detection': any_score})}
    )
    evaluation = evaluate(load_detector_model(bundle), frames, info=info)
    found = evaluation.found[0]
    assert found.velocities.shape == (len(found), 2)
    assert len(found)
    assert found.velocities.any()


def test_an_experiment_that_was_written_down_merges_as_many_sweeps(experiment):
    """All defaults are in the file, and the number of sweeps stays that of the model."""
    stored = parse_config(
        ExperimentConfig, yaml.safe_load(dump_config(experiment)), where='config.yaml'
    )
    assert stored == experiment
    frames = build_dataset(stored.dataset, ('car',), model=stored.model)
    assert np.unique(frames[1].points[:, 4]).tolist() == [0, 0.5]
    two = stored.dataset.model_copy(update={'sweeps': 3})
    with pytest.raises(ConfigError, match=r'dataset\.sweeps is 3, but that of the model is 2'):
        build_dataset(two, ('car',), model=stored.model)
