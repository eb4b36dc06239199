# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import pytest

WORKER = """
import sys
from pathlib import Path
import torch
here, run, device = sys.argv[1:]
sys.path.insert(0, here)
from conftest import TinyDataset, tiny_model
from pointdistiller_core.config import *
from pointdistiller_core.distill.distiller import Distiller
from pointdistiller_core.models import build_detector
from pointdistiller_core.training.fit import fit

config = ExperimentConfig(
    model=tiny_model.__wrapped__() if hasattr(tiny_model, '__wrapped__') else tiny_model(),
    dataset=KittiConfig(root=Path('data/tiny')),
    training=TrainingConfig(
        epochs=2, batch_size=2, accumulate=2, ema_decay=0.9, num_workers=1, deterministic=True
    ),
    distillation=DistillationConfig(terms=(LocalGraphConfig(num_samples=32, num_neighbors=8),)),
)
torch.manual_seed(0)
teacher, student = build_detector(config.model), build_detector(config.model)
objective = Distiller(teacher, student, config.distillation)
fit(objective, TinyDataset(6), config, Path(run), device=device)
"""


def train(run, *, device, hash_seed):
    # Fresh processes: nothing may depend on addresses, the order of sets or what ran before.
    done = subprocess.run(
        [sys.executable, '-c', WORKER, str(Path(__file__).parent.parent), str(run), device],
        env=os.environ | {'PYTHONHASHSEED': hash_seed, 'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (run / 'bundle' / 'model.safetensors').read_bytes()


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_two_deterministic_runs_have_the_same_bits(tmp_path, device):
    import torch

    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    first = train(tmp_path / 'first', device=device, hash_seed='1')
    assert train(tmp_path / 'second', device=device, hash_seed='2') == first
