# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution for detection, compiled: the numbers of `sites` and `array_convolution`.

The output is done part by part: first the pairs of cells that meet there, then for each cell of
the kernel the products of its pairs. So pairs stay in the cache, and sums in registers.

Columns of the output ascend, and so do the columns that they read in one row of the kernel. So
finding these takes a finger for each row, which moves on over the columns of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.compiled.compiler import (
    LANES,
    compiled,
    larger,
    load,
    popcount,
    store,
    zeros,
)
from pointdistiller_core.sparse import sites as arrays
from pointdistiller_core.sparse.compiled_blocks import add_products, flat, with_zeros
from pointdistiller_core.sparse.sites import MAX_LAYERS, Sites, Triple
from pointdistiller_core.sparse.team import Team

if TYPE_CHECKING:
    from pointdistiller_core.sparse.array_convolution import FloatArray
    from pointdistiller_core.sparse.sites import IntArray

    Array = NDArray[Any]
    Columns = tuple[Array, Array, Array]

SIZE = 2048  # sites of a part of the output, about
KEYS_MASKS_STARTS = 'Tuple((i8[::1], u8[::1], i8[::1]))'


@dataclass(frozen=True)
class Reading:
    """Which columns of an input the columns of an output read.

    Attributes:
        sites: of the input.
        output: its sites.
        first_keys: (n,) key of the first column that each column of the output reads.
        rows: of the kernel.
        stride: along z.
        padding: along z.
    """

    sites: CompiledSites
    output: CompiledSites
    first_keys: IntArray
    rows: int
    stride: int
    padding: int


class CompiledSites(Sites):
    """See `Sites`; in place of pairs it gives what `convolve_relu` finds them by."""

    @cached_property
    def starts(self) -> IntArray:
        """(n + 1,) number of the sites before each column, and of all."""
        return np.append(0, np.cumsum(arrays.popcount(self.masks)))

    @classmethod
    def of_frame(cls, cells: IntArray, shape: Triple) -> tuple[Sites, IntArray]:
        """See `Sites`; a bit for each column of the grid puts them in order without sorting."""
        arrays.check_layers(shape)
        num_words = (shape[1] + 2) * (shape[2] + 2) // 64 + 1
        bits, before = np.zeros(num_words, np.uint64), np.empty(num_words, np.int64)
        keys, masks = np.empty(len(cells), np.int64), np.zeros(len(cells), np.uint64)
        ranks: IntArray = np.empty(len(cells), np.int64)
        count = _rank_cells(cells, np.array(shape), bits, before, keys, masks, ranks)
        layers: IntArray = np.empty(len(cells), np.int64)
        _list_layers(masks[:count], layers)
        return cls(shape, 1, keys[:count].copy(), masks[:count].copy(), layers), ranks

    @cached_property
    def submanifold(self) -> Reading:  # type: ignore[override]
        """See `Sites`."""
        return Reading(self, self, self.keys - (self.shape[2] + 2) - 1, 3, 1, 1)

    def strided(  # type: ignore[override]
        self, kernel: Triple, stride: Triple, padding: Triple
    ) -> tuple[CompiledSites, Reading]:
        """See `Sites`; for kernels of height 3, and with a padding of 1 at most."""
        assert kernel[0] == 3, kernel
        assert max(padding) <= 1, padding
        shape = arrays.output_shape(self.shape, kernel, stride, padding)
        _, height, width = self.shape
        rows = np.arange(self.batch_size)[:, None] * (height + 2) + np.arange(height + 1) + 1
        ends = np.searchsorted(self.keys, rows * (width + 2))
        most = min(self.batch_size * shape[1] * shape[2], kernel[1] * kernel[2] * len(self.keys))
        keys, first_keys = np.empty((2, most), np.int64)
        masks: Array = np.empty(most, np.uint64)
        reached = arrays.reached_layers(self.shape[0], kernel[0], stride[0], padding[0], shape[0])
        geometry = np.array([self.shape, shape, kernel, stride, padding])
        line = np.zeros(shape[2], np.uint64)
        count = _reach(
            self.keys, self.masks, ends, geometry, reached, line, keys, first_keys, masks
        )
        masks = masks[:count].copy()
        layers = np.empty(int(arrays.popcount(masks).sum()), np.int64)
        _list_layers(masks, layers)
        output = CompiledSites(shape, self.batch_size, keys[:count].copy(), masks, layers)
        return output, Reading(self, output, first_keys, kernel[1], stride[0], padding[0])


def convolve_relu(
    features: FloatArray,
    kernel: FloatArray,
    bias: FloatArray,
    reading: Reading,
    team: Team | None = None,
) -> FloatArray:
    """See `array_convolution.convolve_relu`."""
    channels = len(bias)
    kernel, bias = with_zeros(kernel, LANES), with_zeros(bias, LANES)
    sites, output = reading.sites, reading.output
    result: FloatArray = np.empty((len(output), len(bias)), np.float32)
    values, weights, summands = flat(features), flat(kernel), flat(bias)
    bounds = np.searchsorted(output.starts, np.arange(0, len(output) + SIZE, SIZE))
    bounds[-1] = len(output.keys)
    num_parts, across = len(bounds) - 1, sites.shape[2] + 2
    first_keys = reading.first_keys.take(bounds[:-1])[:, None]
    fingers = np.searchsorted(sites.keys, first_keys + np.arange(reading.rows) * across)
    steps = np.array([features.shape[1], len(bias), across, reading.stride, reading.padding])
    source = sites.keys, sites.masks, sites.starts
    target = reading.first_keys, output.masks, output.starts
    team = team or Team()
    kept = _kept_pairs(team, reading, num_parts, len(kernel))

    def convolve_part(part: int) -> None:
        ends, pairs = (
            (_NO_ENDS, _NO_PAIRS) if kept is None else (kept.ends[part], kept.pairs[part])
        )
        _convolve(
            *(values, weights, summands, result.reshape(-1), source, target, steps),
            *(bounds[part : part + 2], fingers[part], SIZE + MAX_LAYERS, pairs, ends),
        )

    team.share(convolve_part, num_parts)
    return np.ascontiguousarray(result[:, :channels])


@dataclass
class _KeptPairs:
    """The pairs of a submanifold convolution, which the next one often shares.

    Attributes:
        reading: whose pairs they are.
        pairs: (parts, 2, n) int32 for inputs and outputs, one cell of the kernel after another.
        ends: (parts, K + 1) where those of each cell begin, and the end; -1 throughout for parts
            that are not known yet.
    """

    reading: Reading
    pairs: Array
    ends: Array


_NO_PAIRS, _NO_ENDS = np.empty((2, 0), np.int32), np.empty(0, np.int64)


def _kept_pairs(team: Team, reading: Reading, num_parts: int, num_cells: int) -> _KeptPairs | None:
    """Those of this reading, in memory that is used again and again; None if it is strided.

    Fresh memory would cost as much as finding the pairs.
    """
    if reading.sites is not reading.output:
        return None
    kept: _KeptPairs | None = team.memory
    if kept is not None and kept.reading is reading:
        return kept
    if kept is None or len(kept.pairs) < num_parts:
        pairs: Array = np.empty((num_parts, 2, num_cells * (SIZE + MAX_LAYERS)), np.int32)
    else:
        pairs = kept.pairs
    kept = team.memory = _KeptPairs(reading, pairs, np.full((num_parts, num_cells + 1), -1))
    return kept


def stack_layers(features: FloatArray, sites: Sites) -> tuple[FloatArray, IntArray]:
    """See `array_convolution.stack_layers`."""
    rows, columns = sites.columns
    depth, _, width = sites.shape
    stacked: FloatArray = np.zeros((len(rows), features.shape[1] * depth), np.float32)
    _stack_layers(flat(features), sites.masks, sites.layers, depth, stacked)
    return stacked, rows * width + columns


@compiled('void(f4[::1], u8[::1], i8[::1], i8, f4[:, ::1])')
def _stack_layers(
    features: Array, masks: Array, layers: Array, depth: int, stacked: Array
) -> None:
    """Write the features of the sites of each column, channel by channel and then layer."""
    channels, site = stacked.shape[1] // depth, 0
    for n in range(len(masks)):
        for _ in range(popcount(masks[n])):
            own, layer = site * channels, layers[site]
            for channel in range(channels):
                stacked[n, channel * depth + layer] = features[own + channel]
            site += 1


@compiled('i8(i8[::1], i8[::1], u8[::1], i8[::1], i8[::1], u8[::1], i8[::1])')
def _rank_cells(
    cells: Array,
    shape: Array,
    bits: Array,
    before: Array,
    keys: Array,
    masks: Array,
    ranks: Array,
) -> int:
    """Number of the columns with a cell, which are written in order.

    Args:
        cells: (R,) of one frame, `(layer * rows + row) * columns + column`.
        shape: layers, rows, columns.
        bits: zeros, a bit for each key; changed.
        before: changed, columns before each number of `bits`.
        keys: written.
        masks: zeros; written.
        ranks: (R,) written, of the cells.
    """
    one, count = np.uint64(1), 0
    height, width = shape[1], shape[2]
    for n in range(len(cells)):
        above = cells[n] // width
        layer = above // height
        key = (above - layer * height + 1) * (width + 2) + cells[n] - above * width + 1
        bits[key >> 6] |= one << np.uint64(key & 63)
        ranks[n] = key << 6 | layer
    for place in range(len(bits)):
        before[place] = count
        left = bits[place]
        while left:
            keys[count] = place << 6 | popcount((left & (~left + one)) - one)
            left &= left - one
            count += 1
    starts = np.zeros(count + 1, np.int64)
    for n in range(len(cells)):
        key, layer = ranks[n] >> 6, ranks[n] & 63
        lower = bits[key >> 6] & ((one << np.uint64(key & 63)) - one)
        column = before[key >> 6] + popcount(lower)
        masks[column] |= one << np.uint64(layer)
        ranks[n] = column << 6 | layer
    for column in range(count):
        starts[column + 1] = starts[column] + popcount(masks[column])
    for n in range(len(cells)):
        column, layer = ranks[n] >> 6, ranks[n] & 63
        lower = masks[column] & ((one << np.uint64(layer)) - one)
        ranks[n] = starts[column] + popcount(lower)
    return count


@compiled('void(u8[::1], i8[::1])')
def _list_layers(masks: Array, layers: Array) -> None:
    """Write the layers of all sites of these columns."""
    one, count = np.uint64(1), 0
    for n in range(len(masks)):
        left = masks[n]
        while left:
            layers[count] = popcount((left & (~left + one)) - one)  # place of the lowest bit
            left &= left - one
            count += 1


@compiled(
    'i8(i8[::1], u8[::1], i8[:, ::1], i8[:, ::1], u8[::1], u8[::1], i8[::1], i8[::1], u8[::1])'
)
def _reach(
    keys: Array,
    masks: Array,
    ends: Array,
    geometry: Array,
    reached: Array,
    line: Array,
    target_keys: Array,
    first_keys: Array,
    target_masks: Array,
) -> int:
    """Number of the columns of the output, which are written in order.

    Args:
        keys: (n,) of the input.
        masks: likewise.
        ends: (frames, rows + 1) first column of each row of the input, and the end.
        geometry: (5, 3) shapes of input and output, kernel, stride, padding.
        reached: (layers,) layers of the output that each one reaches.
        line: (cells of a row of the output,) zeros.
        target_keys: written.
        first_keys: written, see `Reading`.
        target_masks: written.
    """
    one, count = np.uint64(1), 0
    height, width, target_height, target_width = (
        geometry[0, 1], geometry[0, 2], geometry[1, 1], geometry[1, 2],
    )  # fmt: skip
    cells, step, padding = geometry[2, 2], geometry[3, 2], geometry[4, 2]
    for frame in range(len(ends)):
        for row in range(target_height):
            top = row * geometry[3, 1] - geometry[4, 1]
            for y in range(max(top, 0), min(top + geometry[2, 1], height)):
                edge = (frame * (height + 2) + y + 1) * (width + 2) + 1
                for n in range(ends[frame, y], ends[frame, y + 1]):
                    left, bits = masks[n], np.uint64(0)
                    while left:
                        bits |= reached[popcount((left & (~left + one)) - one)]
                        left &= left - one
                    last = keys[n] - edge + padding
                    for cell in range(
                        max(last - cells + step, 0) // step, min(last // step + 1, target_width)
                    ):
                        line[cell] |= bits
            key = (frame * (target_height + 2) + row + 1) * (target_width + 2) + 1
            first = (frame * (height + 2) + top + 1) * (width + 2) + 1 - padding
            for cell in range(target_width):
                if line[cell]:
                    target_keys[count], first_keys[count] = key + cell, first + cell * step
                    target_masks[count] = line[cell]
                    line[cell] = 0
                    count += 1
    return count


@compiled(
    f'void({KEYS_MASKS_STARTS}, {KEYS_MASKS_STARTS}, i8[::1], i8[::1], i8[::1],'
    ' i4[:, :, ::1], i8[::1])'
)
def _find_pairs(
    source: Columns,
    target: Columns,
    steps: Array,
    bounds: Array,
    fingers: Array,
    pairs: Array,
    counts: Array,
) -> None:
    """Write the pairs of each cell of the kernel, and their number; see `_convolve`.

    Every possible pair is written, and overwritten by the next one if its cells do not both exist:
    a processor guesses wrongly too often which do.
    """
    (keys, masks, starts), (first_keys, target_masks, target_starts) = source, target
    inputs, outputs = pairs[0], pairs[1]
    one, two = np.uint64(1), np.uint64(2)
    plane = len(counts) // 3
    cells, across, stride, padding = plane // len(fingers), steps[2], steps[3], steps[4]
    for m in range(bounds[0], bounds[1]):
        for i in range(len(fingers)):
            key, n = first_keys[m] + i * across, fingers[i]
            while n < len(keys) and keys[n] < key:
                n += 1
            fingers[i] = n
            while n < len(keys) and keys[n] < key + cells:
                low = i * cells + keys[n] - key
                middle, high = low + plane, low + 2 * plane
                num_low, num_middle, num_high = counts[low], counts[middle], counts[high]
                # one bit up, so that there is a layer below the lowest
                left, own = target_masks[m], masks[n] << one
                for to in range(target_starts[m], target_starts[m + 1]):
                    layer = popcount((left & (~left + one)) - one)  # place of the lowest bit
                    left &= left - one
                    z = np.uint64(layer * stride - padding + 1)
                    rank = starts[n] + popcount(own & ((one << z) - one))
                    there = own >> z
                    inputs[low, num_low], outputs[low, num_low] = rank, to
                    num_low += np.int64(there & one)
                    rank += np.int64(there & one)
                    inputs[middle, num_middle], outputs[middle, num_middle] = rank, to
                    num_middle += np.int64(there >> one & one)
                    rank += np.int64(there >> one & one)
                    inputs[high, num_high], outputs[high, num_high] = rank, to
                    num_high += np.int64(there >> two & one)
                counts[low], counts[middle], counts[high] = num_low, num_middle, num_high
                n += 1


@compiled(
    f'void(f4[::1], f4[::1], f4[::1], f4[::1], {KEYS_MASKS_STARTS}, {KEYS_MASKS_STARTS},'
    ' i8[::1], i8[::1], i8[::1], i8, i4[:, ::1], i8[::1])'
)
def _convolve(
    features: Array,
    weights: Array,
    bias: Array,
    result: Array,
    source: Columns,
    target: Columns,
    steps: Array,
    bounds: Array,
    fingers: Array,
    most: int,
    kept: Array,
    ends: Array,
) -> None:
    """Write the part of the result that belongs to the columns of the output within bounds.

    Args:
        features: of the input, flat.
        weights: flat.
        bias: of each channel.
        result: flat, written.
        source: (n,) keys and masks of the columns of the input, and their starts.
        target: (m,) first keys and masks of the columns of the output, and their starts.
        steps: channels of input and output, columns in a row, stride and padding along z.
        bounds: first column of the part, and the end.
        fingers: (rows of the kernel,) column where each begins to read; changed.
        most: sites of a part.
        kept: the part's of `_KeptPairs`; written if they are not known.
        ends: likewise; without any, pairs are not kept.
    """
    first, end = target[2][bounds[0]] * len(bias), target[2][bounds[1]] * len(bias)
    for place in range(first, end, len(bias)):
        for channel in range(0, len(bias), LANES):
            store(result, place + channel, load(bias, channel))
    size, num_cells = steps[0] * steps[1], len(weights) // (steps[0] * steps[1])
    if len(ends) and ends[0] == 0:
        for k in range(num_cells):
            add_products(
                features, weights, result, kept[0], kept[1],
                ends[k], ends[k + 1], k * size, steps[0], steps[1],
            )  # fmt: skip
    else:
        pairs, counts = np.empty((2, num_cells, most), np.int32), np.zeros(num_cells, np.int64)
        _find_pairs(source, target, steps, bounds, fingers, pairs, counts)
        for k in range(num_cells):
            add_products(
                features, weights, result, pairs[0, k], pairs[1, k],
                0, counts[k], k * size, steps[0], steps[1],
            )  # fmt: skip
        if len(ends):
            ends[0] = 0
            for k in range(num_cells):
                ends[k + 1] = ends[k] + counts[k]
                kept[:, ends[k] : ends[k + 1]] = pairs[:, k, : counts[k]]
    for place in range(first, end, LANES):
        store(result, place, larger(load(result, place), zeros()))
