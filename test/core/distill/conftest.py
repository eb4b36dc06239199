# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pointdistiller_core.records import Batch


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Clouds of random points in the range of `tiny_model`, each with a car in it."""

    def make(*num_points: int, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        low, size = torch.tensor([0, -12.8, -3, 0]), torch.tensor([25.6, 25.6, 4, 1])
        clouds = [torch.rand(n, 4, generator=generator) * size + low for n in num_points]
        car = torch.tensor([[8.0, 0.0, -1.0, 3.9, 1.6, 1.56, 0.0]])
        return Batch(
            points=tuple(clouds),
            boxes=tuple(car for _ in clouds),
            labels=tuple(torch.zeros(1, dtype=torch.int64) for _ in clouds),
            frame_ids=tuple(f'{i:06d}' for i in range(len(clouds))),
        )

    return make
