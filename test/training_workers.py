# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings of the real, tiny detector in processes of their own, which can be killed.

They are forked from a server that has imported torch, so that each starts at once.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import replace
import multiprocessing
from multiprocessing.process import BaseProcess
import os
from pathlib import Path
import socket
import sys
import traceback

import torch

from pointdistiller_core.config import ExperimentConfig, load_config
from pointdistiller_core.datasets import build_dataset, ground_truth_database
from pointdistiller_core.distill.distiller import Distiller
from pointdistiller_core.models import build_detector
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective

sys.path.insert(0, str(Path(__file__).parent / 'core'))
from conftest import TinyDataset

SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload([__name__, 'torch.utils.tensorboard'])


class _Stop(Listener):
    def on_epoch(self, record):
        if record['epoch'] == 1:
            raise KeyboardInterrupt


class _NotANumber(DetectionObjective):
    def forward(self, batch):
        losses = super().forward(batch)
        if '000002' in batch.frame_ids:
            losses['box'] = losses['box'] * float('nan')
        return losses


def train(config_file: Path, run: Path, kind: str, num_frames: int) -> None:
    """Train as `config_file` says; `kind` tells what is special.

    `resume`; `stop` after an epoch; `nan` in a frame; `empty` frames; a real `dataset` from disk.
    """
    config = load_config(ExperimentConfig, config_file)
    frames = TinyDataset(num_frames)
    if kind == 'empty':  # no point of these is in range: some processes have no pillars at all
        away = [replace(frame, points=frame.points - 500) for frame in frames.frames[1:4]]
        frames.frames[1:4] = away
    torch.manual_seed(0)
    student = build_detector(config.model)
    objective = (_NotANumber if kind == 'nan' else DetectionObjective)(student)
    if config.distillation:
        torch.manual_seed(1)
        objective = Distiller(build_detector(config.model), student, config.distillation)
    if kind == 'dataset':
        frames = build_dataset(config.dataset, config.model.class_names)
        _count_builds(run.with_suffix('.builds'))
    listener = _Stop() if kind == 'stop' else None
    resume = kind == 'resume' and run.exists()
    fit(objective, frames, config, run, device='cpu', resume=resume, listener=listener)


def _count_builds(file: Path) -> None:
    """Note in a file whenever a database of objects is built."""
    build = ground_truth_database.build_database

    def build_and_note(dataset):
        with file.open('a', encoding='utf-8') as stream:
            stream.write(f'process {os.environ.get("RANK")}\n')
        return build(dataset)

    ground_truth_database.build_database = build_and_note


def start(config_file: Path, run: Path, kind: str, num_frames: int, num_processes: int):
    """Start a training in one or several processes; returns them, and the file of their stderr."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    log = run.with_suffix('.log')
    log.unlink(missing_ok=True)
    group = {'MASTER_ADDR': 'localhost', 'MASTER_PORT': str(port)}
    group |= {'WORLD_SIZE': str(num_processes), 'LOCAL_WORLD_SIZE': str(num_processes)}
    processes: list[BaseProcess] = []
    for rank in range(num_processes):
        member = group | {'RANK': str(rank), 'LOCAL_RANK': str(rank)} if num_processes > 1 else {}
        arguments = (member, log, config_file, run, kind, num_frames)
        processes.append(SERVER.Process(target=_run, args=arguments))
        processes[-1].start()
    return processes, log


def _run(environment: dict[str, str], log: Path, *arguments) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with log.open('a', encoding='utf-8', buffering=1) as stream, redirect_stderr(stream):
        try:
            train(*arguments)
        except BaseException:
            traceback.print_exc()
            stream.flush()
            os._exit(1)
    os._exit(0)  # not even a hanging connection keeps it
