# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A training that is killed at any moment, again and again, ends as one that never was."""

from __future__ import annotations

import json
from pathlib import Path
import random
import signal
from time import sleep

import pytest
import torch
import training_workers as workers

from pointdistiller_core.config import (
    DistillationConfig,
    ExperimentConfig,
    KittiConfig,
    LocalGraphConfig,
    TrainingConfig,
    dump_config,
)
from pointdistiller_core.deploy.bundle import load_bundle
from pointdistiller_core.training import run as run_folder
from pointdistiller_core.training.run import open_run

KILLS = 15


@pytest.fixture
def config(tiny_model) -> ExperimentConfig:
    """Everything that has a state: adapters, a moving average, accumulated gradients."""
    term = LocalGraphConfig(num_samples=32, num_neighbors=8, teacher_adapter='trained')
    return ExperimentConfig(
        model=tiny_model,
        dataset=KittiConfig(root=Path('data/tiny')),
        training=TrainingConfig(
            epochs=10, batch_size=2, accumulate=2, num_workers=0, ema_decay=0.9
        ),
        distillation=DistillationConfig(terms=(term,)),
    )


def history_of(run):
    lines = (run / 'metrics.jsonl').read_text().splitlines()
    return [(record['step'], record['losses']) for record in map(json.loads, lines)]


def test_killed_at_any_moment(tmp_path, config):
    (tmp_path / 'config.yaml').write_text(dump_config(config))
    whole, run, moments = tmp_path / 'whole', tmp_path / 'run', random.Random(0)
    kills = 0
    ((process,), log) = workers.start(tmp_path / 'config.yaml', whole, 'plain', 6, 1)
    process.join(120)
    assert process.exitcode == 0, log.read_text()
    while not (run / 'bundle').exists():
        ((process,), log) = workers.start(tmp_path / 'config.yaml', run, 'resume', 6, 1)
        if kills < KILLS:
            sleep(moments.uniform(0, 0.8))
            process.kill()
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= KILLS // 2
    assert history_of(run) == history_of(whole)
    for name, tensor in load_bundle(whole)[1].items():
        assert torch.equal(tensor, load_bundle(run)[1][name]), name


@pytest.mark.parametrize('resume', [False, True])
def test_killed_before_the_run_had_begun(tmp_path, config, resume):
    run = tmp_path / 'run'
    open_run(run, config, {}, resume=False)
    (run / 'config.yaml').rename(run / '.config.yaml.partial')
    open_run(run, config, {}, resume=resume)
    assert (run / 'config.yaml').is_file()


@pytest.mark.parametrize(
    'change', [{'cache': Path('other')}, {'cache_frames': True}, {'root': Path('data/other')}]
)
def test_only_what_matters_must_be_the_same(tmp_path, config, change):
    open_run(tmp_path / 'run', config, {}, resume=False)
    dataset = config.dataset.model_copy(update=change)
    changed = config.model_copy(update={'dataset': dataset})
    if {f'dataset.{key}' for key in change} <= run_folder.INDIFFERENT:
        open_run(tmp_path / 'run', changed, {}, resume=True)
    else:
        with pytest.raises(run_folder.ConfigError, match=r"dataset.root: 'data/tiny' then"):
            open_run(tmp_path / 'run', changed, {}, resume=True)
