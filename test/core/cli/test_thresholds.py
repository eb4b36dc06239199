# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller choose-thresholds`."""

from __future__ import annotations

import json

from pointdistiller_core.cli import thresholds
from pointdistiller_core.deploy.bundle_format import read_info


def test_chosen_thresholds_are_shown_and_written_where_asked(
    run, bundle, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(thresholds, 'LOWEST', 0.0)  # an untrained network is sure of nothing
    options = ['--dataset', dataset, '--min-overlap', 'Car=0.01', '--json', tmp_path / 'chosen']
    before = read_info(bundle)
    code, table, _ = run('choose-thresholds', bundle, *options)
    assert code == 0
    assert read_info(bundle) == before
    chosen = json.loads((tmp_path / 'chosen').read_bytes())['Car']
    assert f'{chosen["chosen"]:.2f}' in table
    assert chosen['before'] == 0.0
    assert chosen['chosen'] <= chosen['threshold'] < chosen['chosen'] + 0.01

    code, _, notes = run('choose-thresholds', bundle, *options, '--write')
    assert code == 0
    assert f'wrote them into {bundle}' in notes
    detection = read_info(bundle).model.detection
    assert detection.score_thresholds == (chosen['chosen'],)
    assert detection.model_copy(update={'score_thresholds': ()}) == before.model.detection
    assert run('evaluate', bundle, '--dataset', dataset)[0] == 0


def test_nothing_to_choose_by(run, bundle, dataset):
    before = read_info(bundle)
    options = ['--dataset', dataset, '--min-overlap', 'Car=0.99', '--write']
    code, _, error = run('choose-thresholds', bundle, *options)
    assert code == 2
    assert 'no label of' in error
    assert 'give frames with such labels, or a lower --min-overlap' in error
    assert read_info(bundle) == before
