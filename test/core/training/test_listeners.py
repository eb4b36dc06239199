# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pointdistiller_core.errors import WriteError
from pointdistiller_core.training.listeners import Progress, TensorBoard


def progress(step, loss):
    return Progress(
        step=step, num_steps=9, epoch=1, num_epochs=1, losses={'box': loss}, learning_rate=0.1
    )


def scalars_in(folder, name):
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_curves_of_a_resumed_run(tmp_path):
    board = TensorBoard(tmp_path, first_step=0)
    for step in (1, 2, 3):
        board.on_step(progress(step, 8.0))
    board.close()
    board = TensorBoard(tmp_path, first_step=2)  # the third step is run again
    board.on_step(progress(3, 4.0))
    board.close()
    assert scalars_in(tmp_path, 'loss/box') == [(1, 8.0), (2, 8.0), (3, 4.0)]
    assert [step for step, _ in scalars_in(tmp_path, 'learning_rate')] == [1, 2, 3]


def test_full_disk_is_named(tmp_path, monkeypatch):
    def add_scalar(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    board = TensorBoard(tmp_path / 'tensorboard', first_step=0)
    monkeypatch.setattr(board._writer, 'add_scalar', add_scalar)
    with pytest.raises(WriteError, match='tensorboard: cannot be written: No space left'):
        board.on_step(progress(1, 8.0))
    board.close()
