# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbors in feature space."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_DISTANCES = 1 << 24  # of one chunk: 64 MiB of float32


def knn(query: Tensor, candidates: Tensor, k: int) -> Tensor:
    """The nearest candidates of each query by Euclidean distance, nearest first.

    A query that is itself a candidate is among its own neighbors. No gradient flows through the
    choice. Memory is bounded: distances are computed in chunks of queries, in float32 even under
    autocast, because half precision would mix up neighbors.

    Args:
        query: (S, C) features.
        candidates: (n, C) features.
        k: neighbors of each query; all n candidates if there are fewer than `k`.

    Returns:
        (S, min(k, n)) int64 indices into `candidates`.
    """
    k = min(k, len(candidates))
    rows = max(1, _MAX_DISTANCES // max(1, len(candidates)))
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        center = candidates.float().mean(dim=0)  # small numbers: less rounding below
        query, candidates = query.float() - center, candidates.float() - center
        # |q - c|^2 = |q|^2 + |c|^2 - 2 q.c, and |q|^2 does not change the order of a row
        squares = candidates.square().sum(1)
        chunks = [
            torch.addmm(squares, chunk, candidates.T, alpha=-2).topk(k, largest=False).indices
            for chunk in torch.split(query, rows)
        ]
    return torch.cat(chunks) if chunks else query.new_zeros((0, k), dtype=torch.int64)
