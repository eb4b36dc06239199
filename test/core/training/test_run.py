# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from pointdistiller_core.config import DatasetConfig, ExperimentConfig
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.training.run import open_run

CONFIG = ExperimentConfig(dataset=DatasetConfig(root='data'))


def test_a_run_that_was_killed_at_its_very_start_can_begin_again(tmp_path):
    run = tmp_path / 'run'
    open_run(run, CONFIG, {}, resume=False)
    (run / 'config.yaml').rename(run / '.config.yaml.partial')
    open_run(run, CONFIG, {}, resume=False)
    open_run(run, CONFIG, {}, resume=True)
    with pytest.raises(CheckpointError, match='is in use'):
        open_run(run, CONFIG, {}, resume=False)


def test_a_folder_with_other_files_is_no_place_for_a_run(tmp_path):
    (tmp_path / 'notes.txt').write_text('keep me')
    with pytest.raises(CheckpointError, match='is in use'):
        open_run(tmp_path, CONFIG, {}, resume=False)
