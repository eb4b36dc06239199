# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of an HTML page that loads nothing else; all texts are escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2433; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; }
h2 { font-size: 1.2em; margin: 2em 0 0.4em; }
p.sub { color: #5a6478; margin-top: 0.2em; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 1.2em 0; }
.card { border: 1px solid #e4e8ef; border-radius: 8px; padding: 10px 16px; min-width: 110px; }
.card b { display: block; font-size: 1.5em; }
.card span { color: #5a6478; font-size: 0.85em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88em; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 9px; text-align: right; border-bottom: 1px solid #e4e8ef; }
th:first-child, td:first-child { text-align: left; white-space: pre; }
tr.part td:first-child { color: #5a6478; }
.facts th, .facts td { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 14px; }
img { width: 100%; border-radius: 6px; }
figure { margin: 0; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The page with a title, of parts that are HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n'
        + '\n'.join(parts)
        + '\n</body></html>\n'
    )


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f'<h{level}>{escape(text)}</h{level}>'


def paragraph(text: str, *, minor: bool = False) -> str:
    """A paragraph; a minor one is pale."""
    kind = ' class="sub"' if minor else ''
    return f'<p{kind}>{escape(text)}</p>'


def cards(values: Mapping[str, str]) -> str:
    """Large numbers in a row, by their names."""
    inside = ''.join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="cards">{inside}</div>'


def table(rows: Sequence[Sequence[str]], *, kind: str = 'numbers') -> str:
    """A table whose first row has the names; `facts` is one of texts."""

    def line(cells: Sequence[str], tag: str) -> str:
        part = ' class="part"' if cells[0].startswith(' ') else ''
        inside = ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)
        return f'<tr{part}>{inside}</tr>'

    body = ''.join(line(cells, 'td') for cells in rows[1:])
    return f'<div class="wide"><table class="{kind}">{line(rows[0], "th")}{body}</table></div>'


def image(picture: bytes, kind: str, name: str) -> str:
    """A picture, of the kind `png` or `svg+xml`."""
    data = b64encode(picture).decode()
    return f'<figure><img alt="{escape(name)}" src="data:image/{kind};base64,{data}"></figure>'


def figures(images: Iterable[str]) -> str:
    """Pictures side by side."""
    return f'<div class="figures">{"".join(images)}</div>'


def plain(value: Any) -> str:
    """Nested values as text."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key}: {plain(item)}' for key, item in value.items())
    if isinstance(value, list | tuple):
        return ', '.join(map(plain, value))
    return str(value)
