# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `distill` says at its end."""

from __future__ import annotations

import json

import pytest
import yaml


@pytest.mark.parametrize('validated', [True, False])
def test_features_stand_beside_the_losses(
    run, make_bundle, dataset, tmp_path, tiny_model, validated
):
    data = {'root': str(dataset), 'split': 'val'}
    experiment = {
        'model': tiny_model.model_copy(update={'width': 0.5}).model_dump(mode='json'),
        'dataset': data,
        'validation': data if validated else None,
        'training': {'epochs': 2, 'batch_size': 2, 'num_workers': 0},
        'distillation': 'default',
    }
    config, output = tmp_path / 'experiment.yaml', tmp_path / 'run'
    config.write_text(yaml.safe_dump(experiment))
    code, table, _ = run('distill', config, '--teacher', make_bundle('teacher'), '-o', output)
    assert code == 0
    lines = (output / 'metrics.jsonl').read_text().splitlines()
    first, last = (json.loads(line)['losses']['logits'] for line in lines)
    (row,) = (line for line in table.splitlines() if 'logits' in line)
    assert f'{first:.3f}' in row
    assert f'{last:.3f}' in row
    assert ('CKA, untrained' in table) == validated
    if validated:
        neck = json.loads((output / 'features.json').read_text())['student']['neck']
        (row,) = (line for line in table.splitlines() if 'neck' in line)
        assert f'{neck["cka"]:.3f}' in row
