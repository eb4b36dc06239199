# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""One run in several processes, as torchrun starts them; the first one writes.

Every process computes a share of each batch. Batch norm sees the whole batch
(`pointdistiller_core.models.stages.batch_norm`) and gradients are averaged once per step, after
accumulation. This is data parallelism as in `DistributedDataParallel`, whose wrapper would hide
the objective's `detector` and wait forever for a parameter that a process does not use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import logging
import os
from typing import TypeVar

import torch
from torch import Tensor, nn
import torch.distributed as dist

from pointdistiller_core.config import TrainingConfig
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models.stages.batch_norm import num_processes

try:
    from lightning_fabric import Fabric as Fabric
except ModuleNotFoundError:  # the package `lightning` brings its own copy
    from lightning.fabric import Fabric as Fabric  # type: ignore[import-not-found, no-redef]

_T = TypeVar('_T')


def launch(device: torch.device, config: TrainingConfig) -> Fabric:
    """Set up devices, precision and, under torchrun, the other processes.

    Raises:
        ConfigError: a single device for several processes, or fewer GPUs than processes.
    """
    if config.deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # or cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    # Maps have one shape, so it pays to search for the fastest convolution once.
    torch.backends.cudnn.benchmark = not config.deterministic
    # It announces its choices on stderr; the caller decides what is shown.
    logging.getLogger(Fabric.__module__.removesuffix('.fabric')).setLevel(logging.WARNING)
    total = int(os.environ.get('WORLD_SIZE', '1'))
    if total == 1:
        devices = 1 if device.index is None else [device.index]
        fabric = Fabric(accelerator=device.type, devices=devices, precision=config.precision)
    else:
        local = int(os.environ.get('LOCAL_WORLD_SIZE', total))
        _check_devices(device, local)
        fabric = Fabric(
            accelerator=device.type,
            devices=local,
            num_nodes=total // local,
            precision=config.precision,
            strategy='ddp',
        )
    fabric.launch()
    return fabric


def _check_devices(device: torch.device, num_processes: int) -> None:
    if device.index is not None:
        raise ConfigError(
            f'device {str(device)!r}: {num_processes} processes need one each; use cuda or cpu'
        )
    if device.type == 'cuda' and (found := torch.cuda.device_count()) < num_processes:
        raise ConfigError(
            f'device {str(device)!r}: {num_processes} processes, but torch sees {found} CUDA '
            'devices here; start fewer (torchrun --nproc-per-node)'
        )


def check_shares(num_frames: int, config: TrainingConfig) -> None:
    """Check that each process has a frame of every batch.

    Raises:
        ConfigError: the smallest batch has fewer frames than there are processes.
    """
    last = num_frames % config.batch_size
    smallest = min(num_frames, last or config.batch_size)
    if smallest < num_processes():
        raise ConfigError(
            f'training.batch_size {config.batch_size}: of {num_frames} frames the last batch of '
            f'an epoch has {smallest}, too few for {num_processes()} processes; choose another '
            'size or fewer processes'
        )


def is_first_process() -> bool:
    """Whether this process writes and reports; also before `launch`."""
    return os.environ.get('RANK', '0') == '0'


def share_weights(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if num_processes() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean gradient of all; one that has none counts as 0."""
    if num_processes() == 1:
        return
    trained = list(parameters)
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in trained
    ]
    mean = average_values(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(mean, [parameter.numel() for parameter in trained])
    for parameter, part in zip(trained, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def average_values(values: Tensor) -> Tensor:
    """Mean of the tensors that all processes pass."""
    if num_processes() == 1:
        return values
    mean = values / num_processes()
    dist.all_reduce(mean)
    return mean


def gather_names(names: Sequence[str]) -> list[str]:
    """The names that all processes pass, in the order of the processes."""
    return [name for part in _gather(names) for name in part]


def gather_generators(device: torch.device) -> list[Mapping[str, Tensor]]:
    """The state of torch's random generators in each process, by the kind of device."""
    states = {'cpu': torch.get_rng_state()}
    if device.type == 'cuda':
        states['cuda'] = torch.cuda.get_rng_state(device)
    return _gather(states)


def restore_generators(states: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
    """Set this process's generators to what `gather_generators` found.

    Nothing is set if there are no states, or those of another number of processes.
    """
    if len(states) != num_processes():
        return
    own = states[dist.get_rank() if num_processes() > 1 else 0]
    torch.set_rng_state(own['cpu'])
    if device.type == 'cuda' and 'cuda' in own:
        torch.cuda.set_rng_state(own['cuda'], device)


def _gather(value: _T) -> list[_T]:
    """What each process passes, in the order of the processes."""
    gathered: list[_T] = [value] * num_processes()
    if num_processes() > 1:
        dist.all_gather_object(gathered, value)
    return gathered
