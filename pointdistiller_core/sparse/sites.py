# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The occupied cells of a 3D grid, and which of them meet in a convolution; no torch.

Each column of the grid with a cell keeps its occupied layers as the bits of one number. The rank
of a cell is the number of cells in the columns before its own, plus the number of bits below its
own. So only columns, which are few, are sorted and searched for; their cells follow by counting
bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]
    Bits = NDArray[np.uint64]

Triple = tuple[int, int, int]  # along z, y, x
MAX_LAYERS = 62  # bits of a column; two are spare, so that shifts stay inside the number
ZERO, ONE = np.uint64(0), np.uint64(1)


class Pairs(NamedTuple):
    """Cells that meet in one cell of the kernel: (n,) rows of the input and of the output.

    No output appears twice.
    """

    inputs: IntArray
    outputs: IntArray


@dataclass(frozen=True)
class Rulebook:
    """Which cells of the input each cell of the output reads.

    Attributes:
        pairs: for each cell of the kernel, z slowest and x fastest.
        num_outputs: cells of the output.
    """

    pairs: tuple[Pairs, ...]
    num_outputs: int

    @property
    def num_pairs(self) -> int:
        """Multiply-adds for each pair of channels."""
        return sum(len(pairs.inputs) for pairs in self.pairs)


@dataclass(frozen=True)
class Sites:
    """R occupied cells of a batch, by frame, row, column and then layer.

    Attributes:
        shape: layers, rows and columns of the grid.
        batch_size: frames, including those without a cell.
        keys: (n,) int64 the columns that hold a cell, ascending; see `_keys`.
        masks: (n,) uint64 occupied layers of each of them.
        layers: (R,) int64 layer of each site.
    """

    shape: Triple
    batch_size: int
    keys: IntArray
    masks: Bits
    layers: IntArray

    @classmethod
    def build(cls, coords: IntArray, shape: Triple, batch_size: int) -> tuple[Sites, IntArray]:
        """The sites of cells in any order.

        Args:
            coords: (R, 4) frame, layer, row, column, each cell once.
            shape: layers, rows and columns of the grid.
            batch_size: frames.

        Returns:
            The sites, and (R,) the rank of each of the cells.

        Raises:
            ValueError: the grid has too many layers.
        """
        if shape[0] > MAX_LAYERS:
            raise ValueError(f'{shape[0]} layers; sparse convolution knows up to {MAX_LAYERS}')
        frames, layers, rows, cells = coords.T
        bits = _bit(layers)
        keys, masks, column = _join_columns(_keys(frames, rows, cells, shape), bits)
        ranks = _starts(masks)[column] + popcount(masks[column] & (bits - ONE))
        sorted_layers = np.empty_like(layers)
        sorted_layers[ranks] = layers
        return cls(shape, batch_size, keys, masks, sorted_layers), ranks

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def coords(self) -> IntArray:
        """(R, 4) frame, layer, row, column of each site."""
        frames, rows, cells = (part[self.column_of_site] for part in self._split_keys())
        return np.stack([frames, self.layers, rows, cells], axis=1)

    @cached_property
    def column_of_site(self) -> IntArray:
        """(R,) which of the columns a site is in."""
        return np.repeat(np.arange(len(self.keys)), popcount(self.masks))

    @property
    def columns(self) -> tuple[IntArray, IntArray]:
        """(n,) row and column of each column that holds a cell."""
        return self._split_keys()[1:]

    @cached_property
    def submanifold(self) -> Rulebook:
        """A kernel of 3 x 3 x 3 whose output has the sites of the input.

        Only half of the neighbors are searched for: if a reads b, b reads a.
        """
        pairs: list[Pairs | None] = [None] * 27
        identity = np.arange(len(self))
        pairs[13] = Pairs(identity, identity)
        shifted = _bit(self.layers + 1)  # so that the layer below the lowest also has a bit
        above_and_below = {-1: shifted >> ONE, 0: shifted, 1: shifted << ONE}
        for dy, dx in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
            masks, starts = self._neighbors(dy * (self.shape[2] + 2) + dx)
            for dz in (1,) if (dy, dx) == (0, 0) else (-1, 0, 1):
                bits = above_and_below[dz]
                outputs = np.flatnonzero(masks & bits)
                inputs = starts[outputs] + popcount(masks[outputs] & (bits[outputs] - ONE))
                place = (dz * 3 + dy) * 3 + dx
                pairs[13 + place] = Pairs(inputs, outputs)
                pairs[13 - place] = Pairs(outputs, inputs)
        return Rulebook(tuple(each for each in pairs if each is not None), len(self))

    def strided(self, kernel: Triple, stride: Triple, padding: Triple) -> tuple[Sites, Rulebook]:
        """An ordinary convolution: its output has all cells that read a site.

        Args:
            kernel: along z, y, x.
            stride: likewise.
            padding: likewise.

        Returns:
            The sites of the output, and which cells they read.
        """
        sizes = zip(self.shape, kernel, stride, padding, strict=True)
        depth, height, width = ((size + 2 * pad - k) // step + 1 for size, k, step, pad in sizes)
        shape = (depth, height, width)
        upwards, *across = zip(kernel, stride, padding, shape, strict=True)
        heights = _targets(self.layers, *upwards)
        bits = [np.where(fits, _bit(z), ZERO) for z, fits in heights]
        reached = np.bitwise_or.reduce([self._over_columns(each) for each in bits])
        planes = [np.flatnonzero(fits & (reached != 0)) for fits, _ in self._across(across, shape)]
        keys, masks, column = _join_columns(
            np.concatenate(
                [to[own] for own, (_, to) in zip(planes, self._across(across, shape), strict=True)]
            ),
            np.concatenate([reached[own] for own in planes]),
        )
        return self._follow(planes, column, heights, bits, (keys, masks, shape))

    def _follow(
        self,
        planes: Sequence[IntArray],
        column: IntArray,
        heights: Sequence[tuple[IntArray, BoolArray]],
        bits: Sequence[Bits],
        output: tuple[IntArray, Bits, Triple],
    ) -> tuple[Sites, Rulebook]:
        """Sites of an output whose columns are known, and the pairs of its kernel.

        Args:
            planes: for each cell of the kernel's plane, the columns that are read there.
            column: the columns of the output that read them, one plane after the other.
            heights: for each layer of the kernel, the layers that read each site, and if any does.
            bits: the same as bits.
            output: keys and masks of its columns, and its shape.
        """
        keys, masks, shape = output
        starts, first = _starts(masks), _starts(self.masks)
        counts = popcount(self.masks)
        layers = np.empty(int(popcount(masks).sum()), np.int64)
        pairs: list[list[Pairs]] = [[] for _ in heights]
        ends = np.cumsum([len(own) for own in planes])
        for own, targets in zip(planes, np.split(column, ends[:-1]), strict=True):
            sites = _spans(first[own], counts[own])
            target = np.repeat(targets, counts[own])
            for found, (z, fits), bit in zip(pairs, heights, bits, strict=True):
                some = np.flatnonzero(fits[sites])
                inputs, to = sites[some], target[some]
                outputs = starts[to] + popcount(masks[to] & (bit[inputs] - ONE))
                layers[outputs] = z[inputs]
                found.append(Pairs(inputs, outputs))
        sites_of_output = Sites(shape, self.batch_size, keys, masks, layers)
        return sites_of_output, Rulebook(tuple(each for row in pairs for each in row), len(layers))

    def _across(
        self, axes: Sequence[tuple[int, int, int, int]], shape: Triple
    ) -> list[tuple[BoolArray, IntArray]]:
        """For each cell of the kernel's plane, (n,) whether a column is read, and by which key."""
        frames, rows, cells = self._split_keys()
        return [
            (in_y & in_x, _keys(frames, y, x, shape))
            for (y, in_y), (x, in_x) in product(
                _targets(rows, *axes[0]), _targets(cells, *axes[1])
            )
        ]

    def _split_keys(self) -> tuple[IntArray, IntArray, IntArray]:
        """(n,) frame, row and column of the keys."""
        frames, inner = np.divmod(self.keys, (self.shape[1] + 2) * (self.shape[2] + 2))
        rows, cells = np.divmod(inner, self.shape[2] + 2)
        return frames, rows - 1, cells - 1

    def _neighbors(self, step: int) -> tuple[Bits, IntArray]:
        """Of each site, layers of the column so many keys ahead, one up; and sites before that."""
        there = np.searchsorted(self.keys, self.keys + step)
        there[there == len(self.keys)] = 0
        masks = np.where(self.keys[there] == self.keys + step, self.masks[there] << ONE, ZERO)
        return masks[self.column_of_site], _starts(self.masks)[there][self.column_of_site]

    def _over_columns(self, bits: Bits) -> Bits:
        """(n,) the bits of all sites of each column."""
        return np.bitwise_or.reduceat(bits, _starts(self.masks)) if len(bits) else bits


def _join_columns(keys: IntArray, bits: Bits) -> tuple[IntArray, Bits, IntArray]:
    """Each key once, ascending; all bits of it; and (n,) which of them each row is."""
    order = np.argsort(keys)
    sorted_keys = keys[order]
    first = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
    masks = np.bitwise_or.reduceat(bits[order], first) if len(first) else bits
    column = np.empty(len(keys), np.int64)
    column[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(keys)))
    return sorted_keys[first], masks, column


def _keys(frames: IntArray, rows: IntArray, cells: IntArray, shape: Triple) -> IntArray:
    """(n,) numbers of columns of a grid with an empty border: neighbors are fixed steps away."""
    return (frames * (shape[1] + 2) + rows + 1) * (shape[2] + 2) + cells + 1


def _bit(layers: IntArray) -> Bits:
    bits: Bits = ONE << layers.astype(np.uint64)
    return bits


def _starts(masks: Bits) -> IntArray:
    """(n,) cells in the columns before each."""
    counts = popcount(masks)
    starts: IntArray = np.cumsum(counts) - counts
    return starts


def _spans(first: IntArray, counts: IntArray) -> IntArray:
    """The numbers from each first one on, as many as its count."""
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum())) + np.repeat(first - ends + counts, counts)


def _targets(
    cells: IntArray, kernel: int, stride: int, padding: int, limit: int
) -> list[tuple[IntArray, BoolArray]]:
    """For each cell of the kernel along one axis, the (n,) cells that read there, and if any."""
    found = []
    for k in range(kernel):
        target, rest = np.divmod(cells + (padding - k), stride)
        fits = (rest == 0) & (target >= 0) & (target < limit)
        found.append((np.where(fits, target, 0), fits))
    return found


def _popcount_by_table(values: Bits) -> IntArray:
    parts = np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)
    counts: IntArray = _BITS_OF[parts].sum(axis=1, dtype=np.int64)
    return counts


def _popcount(values: Bits) -> IntArray:
    counts: IntArray = np.bitwise_count(values).astype(np.int64)
    return counts


_BITS_OF = (
    np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8))
    .reshape(-1, 16)
    .sum(axis=1, dtype=np.uint8)
)
popcount = _popcount if hasattr(np, 'bitwise_count') else _popcount_by_table  # NumPy 2 has it
