# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The occupied cells of a 3D grid, and which of them meet in a convolution; no torch.

Each column of the grid with a cell keeps its occupied layers as the bits of one number. The rank
of a cell is the number of cells in the columns before its own, plus the number of bits below its
own. So only columns, which are few, are sorted and searched for; their cells follow by counting
bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.ordering import sort_with_order

if TYPE_CHECKING:
    IntArray = NDArray[np.int64]
    Bits = NDArray[np.uint64]

Triple = tuple[int, int, int]  # along z, y, x
MAX_LAYERS = 62  # bits of a column; two are spare, so that shifts stay inside the number
ZERO, ONE = np.uint64(0), np.uint64(1)


class Pairs(NamedTuple):
    """Cells that meet in one cell of the kernel: (n,) rows of the input and of the output.

    Both ascend, and none appears twice.
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
    _bounds: dict[int, tuple[list[int], ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def _joined(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        inputs, outputs = (
            np.concatenate(each, dtype=np.int32, casting='same_kind')
            for each in zip(*self.pairs, strict=True)
        )
        return inputs, outputs

    @property
    def num_pairs(self) -> int:
        """Multiply-adds for each pair of channels."""
        return sum(len(pairs.inputs) for pairs in self.pairs)

    def transposed(self, num_inputs: int) -> Rulebook:
        """The same pairs from the output to the input, which has so many cells."""
        pairs = tuple(Pairs(outputs, inputs) for inputs, outputs in self.pairs)
        return Rulebook(pairs, num_inputs)

    def bounds(self, size: int) -> tuple[list[int], ...]:
        """For each cell of the kernel, where the pairs of each `size` outputs begin, and the end.

        They are kept, because two convolutions in turn often share a rulebook.
        """
        if size not in self._bounds:
            firsts = np.arange(0, self.num_outputs + size, size)
            found = (np.searchsorted(outputs, firsts).tolist() for _, outputs in self.pairs)
            self._bounds[size] = tuple(found)
        return self._bounds[size]

    def joined_pairs(self, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], IntArray]:
        """The pairs of all cells of the kernel one after another; they are kept as well.

        Returns:
            (n,) rows of the input and (n,) of the output; and (parts + 1, cells of the kernel)
            where the pairs of each `size` outputs begin, and the end.
        """
        counts = [len(pairs.inputs) for pairs in self.pairs]
        bounds = np.array(self.bounds(size)).T + (np.cumsum(counts) - counts)
        return *self._joined, np.ascontiguousarray(bounds)


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
        check_layers(shape)
        frames, layers, rows, cells = coords.T
        keys = _keys(frames, rows, cells, shape) * 64 + layers  # of a cell
        sorted_keys, order = sort_with_order(keys)
        ranks = np.empty(len(keys), np.int64)
        ranks[order] = np.arange(len(keys))
        columns, layers = sorted_keys >> 6, sorted_keys & 63
        first = np.flatnonzero(np.diff(columns, prepend=-1))
        masks = np.bitwise_or.reduceat(_bit(layers), first) if len(first) else _bit(first)
        return cls(shape, batch_size, columns[first], masks, layers), ranks

    @classmethod
    def of_frame(cls, cells: IntArray, shape: Triple) -> tuple[Sites, IntArray]:
        """The sites of cells of one frame, see `build`.

        Args:
            cells: (R,) `(layer * rows + row) * columns + column`, each once.
            shape: layers, rows and columns of the grid.
        """
        above, columns = np.divmod(cells, shape[2])
        layers, rows = np.divmod(above, shape[1])
        return cls.build(np.stack([np.zeros_like(cells), layers, rows, columns], 1), shape, 1)

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
        lower = np.flatnonzero(np.diff(self.column_of_site * 64 + self.layers) == 1)
        pairs[13 + 9], pairs[13 - 9] = Pairs(lower + 1, lower), Pairs(lower, lower + 1)
        # one bit up, so that the layer below the lowest one has a bit, too; and no neighbor
        masks, starts = np.append(self.masks << ONE, ZERO), np.append(_starts(self.masks), 0)
        layers = self.layers.astype(np.uint64)
        lower_bits = (ONE << layers) - ONE
        for plane, neighbors in enumerate(self._neighbors(), start=1):
            there = masks.take(neighbors).take(self.column_of_site)
            other = starts.take(neighbors).take(self.column_of_site)
            other += popcount(there & lower_bits)
            around = (there >> layers).astype(np.uint8)
            for dz in (-1, 0, 1):
                hits = (around >> (dz + 1)) & 1
                sites = np.flatnonzero(hits.view(np.bool_))
                others, place = other.take(sites), dz * 9 + plane
                pairs[13 + place], pairs[13 - place] = Pairs(others, sites), Pairs(sites, others)
                if dz < 1:
                    other += hits
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
        shape = output_shape(self.shape, kernel, stride, padding)
        heights, *across = (
            _targets(*axis)
            for axis in zip(self.shape, kernel, stride, padding, shape, strict=True)
        )
        bits = _bits(heights)
        reached = self._over_columns(np.bitwise_or.reduce(bits, axis=0).take(self.layers))
        planes = self._planes(np.flatnonzero(reached), across, shape)
        keys, masks, column = _join_columns(
            np.concatenate([key for _, key in planes]),
            reached.take(np.concatenate([own for own, _ in planes])),
        )
        targets = np.split(column, np.cumsum([len(own) for own, _ in planes])[:-1])
        planes = [(own, to) for (own, _), to in zip(planes, targets, strict=True)]
        output = Sites(shape, self.batch_size, keys, masks, _layers(masks))
        return output, Rulebook(tuple(self._reach(planes, masks, heights)), len(output))

    def _reach(
        self, planes: Sequence[tuple[IntArray, IntArray]], masks: Bits, heights: IntArray
    ) -> Iterator[Pairs]:
        """The pairs of each layer of a kernel, and in it of each cell of its plane.

        Args:
            planes: for each cell of the plane, columns of these sites, and those that they reach.
            masks: of the columns that are reached; they have all sites that are.
            heights: (layers of the kernel, layers) the layer that each layer reaches, or -1.
        """
        own, target = (np.concatenate(each) for each in zip(*planes, strict=True))
        counts = popcount(self.masks).take(own)
        # from here on a row is a site of a column that reaches another
        sites = _spans(_starts(self.masks).take(own), counts)
        layers = self.layers.take(sites)
        there = np.repeat(masks.take(target), counts)
        starts = np.repeat(_starts(masks).take(target), counts)
        last = np.append(0, np.cumsum(counts))[np.cumsum([len(each) for each, _ in planes])]
        for targets in heights:
            rows = np.flatnonzero((targets >= 0).take(layers))
            lower_bits = np.where(targets < 0, ZERO, _bit(np.maximum(targets, 0)) - ONE)
            lower = popcount(there.take(rows) & lower_bits.take(layers.take(rows)))
            found = sites.take(rows), starts.take(rows) + lower
            ends = [0, *np.searchsorted(rows, last).tolist()]
            yield from (Pairs(*(each[slice(*span)] for each in found)) for span in pairwise(ends))

    def _planes(
        self, columns: IntArray, across: Sequence[IntArray], shape: Triple
    ) -> list[tuple[IntArray, IntArray]]:
        """For each cell of the kernel's plane, which columns are read there, and by which key.

        Args:
            columns: those to ask for.
            across: `_targets` along y and x.
            shape: of the output.
        """
        frames, rows, cells = (part.take(columns) for part in self._split_keys())
        found = []
        for ys in across[0]:
            y = ys.take(rows)
            own = np.flatnonzero(y >= 0)
            starts, cells_of_own = _keys(frames.take(own), y.take(own), 0, shape), cells.take(own)
            for xs in across[1]:
                x = xs.take(cells_of_own)
                some = np.flatnonzero(x >= 0)
                found.append((columns.take(own.take(some)), starts.take(some) + x.take(some)))
        return found

    def _split_keys(self) -> tuple[IntArray, IntArray, IntArray]:
        """(n,) frame, row and column of the keys."""
        frames, inner = np.divmod(self.keys, (self.shape[1] + 2) * (self.shape[2] + 2))
        rows, cells = np.divmod(inner, self.shape[2] + 2)
        return frames, rows - 1, cells - 1

    def _neighbors(self) -> Iterator[IntArray]:
        """(n,) column on the right of each, and in the next row left, above and right.

        It is n where there is none.
        """
        across, none = self.shape[2] + 2, len(self.keys)
        padded = np.append(self.keys, -1)
        there: IntArray = np.arange(none) + 1
        for step in (1, across - 1, across, across + 1):
            if step == across - 1:
                there = np.searchsorted(self.keys, self.keys + step)
            hits = padded.take(there) == self.keys + step
            yield np.where(hits, there, none)
            there = there + hits

    def _over_columns(self, bits: Bits) -> Bits:
        """(n,) the bits of all sites of each column."""
        return np.bitwise_or.reduceat(bits, _starts(self.masks)) if len(bits) else bits


def check_layers(shape: Triple) -> None:
    """Refuse a grid with too many layers.

    Raises:
        ValueError: it has.
    """
    if shape[0] > MAX_LAYERS:
        raise ValueError(f'{shape[0]} layers; sparse convolution knows up to {MAX_LAYERS}')


def output_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """Layers, rows and columns behind an ordinary convolution."""
    sizes = zip(shape, kernel, stride, padding, strict=True)
    depth, height, width = ((size + 2 * pad - k) // step + 1 for size, k, step, pad in sizes)
    return depth, height, width


def reached_layers(size: int, kernel: int, stride: int, padding: int, limit: int) -> Bits:
    """(size,) layers of an output with `limit` that read each layer of an input."""
    bits = _bits(_targets(size, kernel, stride, padding, limit))
    reached: Bits = np.bitwise_or.reduce(bits, axis=0)
    return reached


def _join_columns(keys: IntArray, bits: Bits) -> tuple[IntArray, Bits, IntArray]:
    """Each key once, ascending; all bits of it; and (n,) which of them each row is."""
    order = np.argsort(keys, kind='stable')
    sorted_keys = keys[order]
    first = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
    masks = np.bitwise_or.reduceat(bits[order], first) if len(first) else bits
    column = np.empty(len(keys), np.int64)
    column[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(keys)))
    return sorted_keys[first], masks, column


def _keys(frames: IntArray, rows: IntArray, cells: IntArray | int, shape: Triple) -> IntArray:
    """(n,) numbers of columns of a grid with an empty border: neighbors are fixed steps away."""
    return (frames * (shape[1] + 2) + rows + 1) * (shape[2] + 2) + cells + 1


def _bit(layers: IntArray) -> Bits:
    bits: Bits = ONE << layers.astype(np.uint64)
    return bits


def _bits(layers: IntArray) -> Bits:
    """The same, and 0 for layers below 0."""
    bits: Bits = np.where(layers < 0, ZERO, _bit(np.maximum(layers, 0)))
    return bits


def _layers(masks: Bits) -> IntArray:
    """(R,) layer of each site of these columns."""
    bits = np.unpackbits(masks.astype('<u8').view(np.uint8), bitorder='little')
    layers: IntArray = np.flatnonzero(bits.view(np.bool_)) & 63
    return layers


def _starts(masks: Bits) -> IntArray:
    """(n,) cells in the columns before each."""
    counts = popcount(masks)
    starts: IntArray = np.cumsum(counts) - counts
    return starts


def _spans(first: IntArray, counts: IntArray) -> IntArray:
    """The numbers from each first one on, as many as its count."""
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum())) + np.repeat(first - ends + counts, counts)


def _targets(size: int, kernel: int, stride: int, padding: int, limit: int) -> IntArray:
    """(kernel, size) along one axis, the cell that reads each cell there; -1 for none."""
    target, rest = np.divmod(np.arange(size) + padding - np.arange(kernel)[:, None], stride)
    targets: IntArray = np.where((rest == 0) & (target >= 0) & (target < limit), target, -1)
    return targets


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
