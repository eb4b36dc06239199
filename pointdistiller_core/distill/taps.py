# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Reading intermediate features of a detector that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def tap(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of `module` while the context is open, one entry per call of it."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
