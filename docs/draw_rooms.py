# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Draw the rooms of the code in layers, from their imports.

    python docs/draw_rooms.py      # writes docs/images/rooms.svg

Every arrow goes down, to a room that the upper one imports. Left out are imports that a path of
arrows shows already, and those of the ground, which every room may see. The words in a box are
the first sentence of the room's docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from itertools import combinations, pairwise
import math
from pathlib import Path
import random
import re
from statistics import fmean
import textwrap

ROOT = Path(__file__).resolve().parent.parent
CORE, ROS = 'pointdistiller_core', 'pointdistiller_ros'
PICTURE = ROOT / 'docs' / 'images' / 'rooms.svg'
WAYS_IN = ('cli', ROS)
GROUND = (
    ('records', 'geometry', 'config', 'grid'),
    ('errors', 'files', 'workers', 'blas', 'cores', 'compiled'),
)
WIDTH, HEIGHT, GAP, ROW = 196, 58, 22, 92  # of a box, between boxes, from row to row [px]
LETTERS = 29  # of a line in a box
TRIES, SWEEPS, ROUNDS = 20, 8, 400  # of finding an order, and places
STYLE = """
text { font: 11.5px sans-serif; text-anchor: middle; fill: #333 }
.name { font: bold 14px sans-serif; fill: #111 }
.room { fill: #e8f0fb; stroke: #3b6ea8 } .way-in { fill: #fdebd0; stroke: #c77f1a }
.ground { fill: #eeeeee; stroke: #999 } .band { fill: #f8f8f8; stroke: #bbb }
path { fill: none; stroke: #3b6ea8; stroke-width: 1.4; marker-end: url(#head) }
.head { fill: #3b6ea8; stroke: none; marker-end: none }
"""
Graph = Mapping[str, Collection[str]]
Rows = list[list[str]]
Pairs = Sequence[tuple[str, str]]


def rooms() -> dict[str, Path]:
    """Name and place (module or folder) of every room, the ROS package included."""
    places = {path.stem: path for path in sorted((ROOT / CORE).iterdir())}
    core = {
        name: path
        for name, path in places.items()
        if not name.startswith('_') and path.suffix in {'', '.py'}
    }
    return {name: path for name, path in core.items() if files_of(path)} | {ROS: ROOT / ROS}


def files_of(room: Path) -> list[Path]:
    """Modules of a room, which is a module or a folder."""
    return sorted(room.rglob('*.py')) if room.is_dir() else [room]


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    places = rooms()
    return {
        name: {seen for file in files_of(path) for seen in _imports_of(file)}
        & places.keys() - {name}
        for name, path in places.items()
    }


def _imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            root, _, rest = name.partition('.')
            if root in {CORE, ROS}:
                yield rest.split('.')[0] if root == CORE else ROS


def arrows() -> dict[str, list[str]]:
    """Imports above the ground without those that a longer path shows already."""
    ground = {name for row in GROUND for name in row}
    seen = {name: others - ground for name, others in imports().items() if name not in ground}
    return {
        name: sorted(o for o in others if not any(_leads(seen, x, o) for x in others - {o}))
        for name, others in seen.items()
    }


def _leads(graph: Graph, start: str, end: str) -> bool:
    return end in graph[start] or any(_leads(graph, name, end) for name in graph[start])


def layers(graph: Graph) -> list[list[str]]:
    """Rooms from the lowest row to the highest, which has the ways in."""
    heights = dict.fromkeys(graph, 0)
    for _ in graph:
        heights = {
            name: max((heights[o] + 1 for o in below), default=0) for name, below in graph.items()
        }
    top = max(heights.values())
    heights |= dict.fromkeys(WAYS_IN, top)
    return [sorted(name for name in graph if heights[name] == row) for row in range(top + 1)]


def chains(graph: Graph, rows: list[list[str]]) -> dict[tuple[str, str], list[str]]:
    """The names on each arrow's way down; rows that it passes get a name for it."""
    height = {name: row for row, names in enumerate(rows) for name in names}
    ways = {}
    for upper, below in graph.items():
        for lower in below:
            passed = range(height[upper] - 1, height[lower], -1)
            via = [f'{upper}>{lower}@{row}' for row in passed]
            for row, name in zip(passed, via, strict=True):
                rows[row].append(name)
            ways[upper, lower] = [upper, *via, lower]
    return ways


def uncrossed(rows: Rows, pairs: Pairs) -> Rows:
    """The best of some shuffles in which no exchange of two names saves a crossing."""
    tries = []
    for seed in range(TRIES):
        shuffled = [random.Random(seed).sample(row, len(row)) for row in rows]
        tries.append(_exchanged(_swept(shuffled, pairs), pairs))
    return min(tries, key=lambda rows: _disorder(rows, pairs))


def _swept(rows: Rows, pairs: Pairs) -> Rows:
    """Each row in the order of what its names are linked with, down and up again and again."""
    for sweep in range(2 * SWEEPS):
        place = {name: 2 * i - len(row) for row in rows for i, name in enumerate(row)}
        for row in rows[:: 1 if sweep % 2 else -1]:
            ends = [(a, b) if sweep % 2 else (b, a) for a, b in pairs]
            row.sort(
                key=lambda name, ends=ends: fmean(
                    [place[to] for at, to in ends if at == name] or [place[name]]
                )
            )
            place |= {name: 2 * i - len(row) for i, name in enumerate(row)}
    return rows


def _exchanged(rows: Rows, pairs: Pairs) -> Rows:
    least, again = _disorder(rows, pairs), True
    while again:
        again = False
        for row in rows:
            for i, j in combinations(range(len(row)), 2):
                row[i], row[j] = row[j], row[i]
                if (now := _disorder(rows, pairs)) < least:
                    least, again = now, True
                else:
                    row[i], row[j] = row[j], row[i]
    return rows


def _disorder(rows: Rows, pairs: Pairs) -> tuple[int, int]:
    """Crossings of arrows, then how far they lead aside."""
    place = {name: 2 * i - len(row) for row in rows for i, name in enumerate(row)}
    row_of = {name: i for i, row in enumerate(rows) for name in row}
    crossings = sum(
        row_of[a] == row_of[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b), (c, d) in combinations(pairs, 2)
    )
    return crossings, sum(abs(place[a] - place[b]) for a, b in pairs)


def centers(rows: Rows, ways: Collection[Sequence[str]]) -> dict[str, float]:
    """The x of each name: near those it is linked with, a box apart from its neighbors."""
    x = {name: i * (WIDTH + GAP) for row in rows for i, name in enumerate(row)}
    near: dict[str, list[str]] = {name: [] for name in x}
    for way in ways:
        for a, b in pairwise(way):
            near[a].append(b)
            near[b].append(a)
        for name in way[1:-1]:  # an arrow that passes rows is to be straight
            near[name] += 10 * way[1:-1]
    for _ in range(ROUNDS):
        middle = fmean(x.values())  # pulls a little, so that no group drifts away
        for row in rows:
            wanted = [fmean([*(x[o] for o in near[name]), middle]) for name in row]
            widths = [0 if '>' in name else WIDTH for name in row]
            x |= zip(row, _apart(wanted, widths), strict=True)
    for way in ways:
        x |= _straight(way[1:-1], rows, x)
    first = min(x.values())
    return {name: at - first for name, at in x.items()}


def _straight(via: Sequence[str], rows: Rows, x: Mapping[str, float]) -> dict[str, float]:
    """One x for all places that an arrow passes, if there is one between their neighbors."""
    low, high = -math.inf, math.inf
    for row in rows:
        for left, right in pairwise(row):
            room = GAP * 0.6 + (0 if '>' in left and '>' in right else WIDTH / 2)
            low = max(low, x[left] + room) if right in via else low
            high = min(high, x[right] - room) if left in via else high
    if not via or low > high:
        return {}
    return dict.fromkeys(via, min(max(fmean(x[name] for name in via), low), high))


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Numbers nearest to the wanted ones that keep half of both widths and a gap apart."""
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + GAP)
    blocks: list[list[float]] = []
    for value in (w - o for w, o in zip(wanted, offsets, strict=True)):
        blocks.append([value])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    means = [fmean(block) for block in blocks for _ in block]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def sentence(room: Path) -> str:
    """The first sentence of a room's docstring, up to a semicolon."""
    file = room / '__init__.py' if room.is_dir() else room
    text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
    return re.split(r'[.;](?:\s|$)', text.replace('`', ''))[0]


def draw() -> str:
    """The picture as SVG."""
    graph = arrows()
    rows = layers(graph)
    ways = chains(graph, rows)
    pairs = [pair for way in ways.values() for pair in pairwise(way)]
    rows = uncrossed(rows, pairs)
    x = centers(rows, ways.values())
    y = {name: 12 + (len(rows) - 1 - i) * ROW for i, row in enumerate(rows) for name in row}
    base = 4 + len(rows) * ROW
    ground = max(map(len, GROUND)) * (WIDTH + 8) + 8
    middle = (min(x.values()) + max(x.values())) / 2
    width = max(max(x.values()) - min(x.values()) + WIDTH, ground) + 20
    left, height = middle - width / 2, base + 30 + len(GROUND) * (HEIGHT + 8) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} 0 {width:.0f} {height}">',
        f'<style>{STYLE}</style>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        f'<rect fill="white" x="{left:.0f}" y="0" width="{width:.0f}" height="{height}"/>',
    ]
    for (upper, lower), way in ways.items():
        title = f'<title>{upper} imports {lower}</title>'
        parts.append(f'<path d="{_curve(way, x, y, pairs)}">{title}</path>')
    for name in graph:
        parts += _box(name, x[name], y[name], 'way-in' if name in WAYS_IN else 'room')
    parts.append(
        f'<rect class="band" x="{middle - ground / 2:.0f}" y="{base}" width="{ground}" '
        f'height="{height - base - 4}" rx="8"/>'
    )
    parts.append(
        f'<text x="{middle:.0f}" y="{base + 19}">The ground: all rooms may import it</text>'
    )
    for i, names in enumerate(GROUND):
        for j, name in enumerate(names):
            at = middle + (j - (len(names) - 1) / 2) * (WIDTH + 8), base + 28 + i * (HEIGHT + 8)
            parts += _box(name, *at, 'ground')
    return '\n'.join([*parts, '</svg>', ''])


def _box(name: str, x: float, y: float, kind: str) -> Iterator[str]:
    yield (
        f'<rect class="{kind}" x="{x - WIDTH / 2:.0f}" y="{y:.0f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="6"/>'
    )
    yield f'<text class="name" x="{x:.0f}" y="{y + 18:.0f}">{name}</text>'
    for i, line in enumerate(
        textwrap.wrap(sentence(rooms()[name]), LETTERS, max_lines=2, placeholder=' ...')
    ):
        yield f'<text x="{x:.0f}" y="{y + 34 + 14 * i:.0f}">{escape(line)}</text>'


def _curve(
    way: Sequence[str], x: Mapping[str, float], y: Mapping[str, float], pairs: Pairs
) -> str:
    """From the lower edge of one box to the upper edge of another, straight down beside others."""
    places = []
    for a, b in pairwise(way):
        down = sorted((o for n, o in pairs if n == a), key=x.__getitem__)
        up = sorted((n for n, o in pairs if o == b), key=x.__getitem__)
        places.append((x[a] + _spread(down.index(b), len(down)), y[a] + HEIGHT))
        places.append((x[b] + _spread(up.index(a), len(up)), y[b]))
    path = 'M{:.0f} {:.0f}'.format(*places[0])
    for (from_x, from_y), (to_x, to_y) in pairwise(places):
        bend = (from_y + to_y) / 2
        path += f' C{from_x:.0f} {bend:.0f} {to_x:.0f} {bend:.0f} {to_x:.0f} {to_y:.0f}'
    return path


def _spread(i: int, count: int) -> float:
    return (i - (count - 1) / 2) * WIDTH * 0.7 / max(count, 3)


if __name__ == '__main__':
    PICTURE.write_text(draw(), encoding='utf-8')
    print(PICTURE)
