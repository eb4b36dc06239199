# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Two streams of stamped items, paired by time."""

from __future__ import annotations

from typing import Generic, TypeVar

LeftT = TypeVar('LeftT')
RightT = TypeVar('RightT')
ItemT = TypeVar('ItemT')


class StampMatcher(Generic[LeftT, RightT]):
    """Pairs each item with the nearest in time of the other stream, whichever comes first.

    Each item is in one pair at most. An item without a partner waits; if too many wait, the oldest
    is given up.

    Args:
        tolerance_ns: largest difference of the stamps of a pair; less than half a period, or an
            item may take its neighbor's partner.
        capacity: items of each stream that may wait.
    """

    def __init__(self, *, tolerance_ns: int, capacity: int) -> None:
        self._tolerance_ns = tolerance_ns
        self._left = _Waiting[LeftT](capacity)
        self._right = _Waiting[RightT](capacity)

    def add_left(self, stamp_ns: int, item: LeftT) -> tuple[LeftT, RightT] | None:
        """The pair that the item makes, or None while it waits."""
        partner = self._right.take(stamp_ns, self._tolerance_ns)
        if partner is None:
            self._left.put(stamp_ns, item)
            return None
        return item, partner

    def add_right(self, stamp_ns: int, item: RightT) -> tuple[LeftT, RightT] | None:
        """The pair that the item makes, or None while it waits."""
        partner = self._left.take(stamp_ns, self._tolerance_ns)
        if partner is None:
            self._right.put(stamp_ns, item)
            return None
        return partner, item


class _Waiting(Generic[ItemT]):
    """Items by stamp; a later item with the same stamp replaces the earlier one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: dict[int, ItemT] = {}

    def put(self, stamp_ns: int, item: ItemT) -> None:
        self._items.pop(stamp_ns, None)
        self._items[stamp_ns] = item
        if len(self._items) > self._capacity:
            del self._items[next(iter(self._items))]

    def take(self, stamp_ns: int, tolerance_ns: int) -> ItemT | None:
        if not self._items:
            return None
        nearest = min(self._items, key=lambda other_ns: abs(other_ns - stamp_ns))
        if abs(nearest - stamp_ns) > tolerance_ns:
            return None
        return self._items.pop(nearest)
