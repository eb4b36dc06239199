# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `train --from` says at its start, and `distill` at its end."""

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


def test_a_training_begins_with_a_bundle(run, make_bundle, dataset, tmp_path, tiny_model):
    config, output = tmp_path / 'experiment.yaml', tmp_path / 'run'
    model = tiny_model.model_copy(update={'class_names': ('Car', 'Pedestrian')})
    experiment = {
        'model': model.model_dump(mode='json'),
        'dataset': {'root': str(dataset), 'split': 'val'},
        'training': {'epochs': 1, 'batch_size': 2, 'num_workers': 0},
    }
    config.write_text(yaml.safe_dump(experiment))
    source = make_bundle('source')
    code, _, said = run('train', config, '-o', output, '--from', source, '--set', 'model.width=2')
    assert code == 2
    assert 'encoder.channels: source has (8,), configuration has (16,)' in said
    assert not output.exists()
    code, _, said = run('train', config, '-o', output, '--from', source)
    assert code == 0
    head = 'of the head 20 of 44 channels (Car); made anew: new classes (Pedestrian)'
    assert f'{source}: fine-tuning: ' in said
    assert head in said
    bundle = json.loads((output / 'bundle' / 'bundle.json').read_text())
    weights = json.loads((source / 'bundle.json').read_text())['sha256']['model.safetensors']
    assert bundle['training']['from_sha256'] == weights
