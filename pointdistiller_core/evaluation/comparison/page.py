# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML page that loads nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pointdistiller_core.evaluation.comparison.plots import (
    draw_cloud,
    plot_distances,
    plot_latencies,
    plot_overlaps,
    plot_timeline,
    plot_truth,
)
from pointdistiller_core.evaluation.comparison.report import repair_sentences, table_rows
from pointdistiller_core.evaluation.comparison.session import OnlineComparison

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


def build_page(comparison: OnlineComparison, summary: Mapping[str, Any]) -> str:
    """Build the page of a comparison.

    Args:
        comparison: a comparison that has ended.
        summary: its `summarize`.
    """
    parts = [
        f'<h1>{_title(summary)}</h1>',
        f'<p class="sub">{escape(_subtitle(summary))}</p>',
        _cards(summary),
        '<h2>Numbers</h2>',
        _table(table_rows(summary)),
        '<p class="sub">Recall is the part of the reference that was found; precision is the part '
        'of the boxes that the reference has, too. Overlaps and errors are means over pairs; the '
        'error of the yaw leaves out which end is the front, flipped counts those.</p>',
        '<h2>Plots</h2>',
        _figures(comparison),
        *_worst_clouds(comparison),
        '<h2>What was compared</h2>',
        _table(_facts(summary), kind='facts'),
        *(f'<p>{escape(text)}</p>' for text in repair_sentences(summary)),
        *(
            f'<p><b>{key}</b> {escape(_plain(summary[key]))}</p>'
            for key in ('source', 'rules', 'settings', 'machine')
            if key in summary
        ),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{_title(summary)}</title><style>{_STYLE}</style></head>\n<body>\n'
        + '\n'.join(parts)
        + '\n</body></html>\n'
    )


def _title(summary: Mapping[str, Any]) -> str:
    names = [summary.get(role, {}).get('name', role) for role in ('student', 'teacher')]
    return escape(f'{names[0]} beside its teacher {names[1]}')


def _subtitle(summary: Mapping[str, Any]) -> str:
    clouds = ', '.join(f'{count} {name}' for name, count in summary['clouds'].items())
    error = f'broke off: {summary["error"]}' if summary.get('error') else ''
    return f'{summary.get("started", "")} · clouds: {clouds} · {error}'.strip(' ·')


def _cards(summary: Mapping[str, Any]) -> str:
    agreement, latency = summary['agreement'], summary['latency']
    values = {
        'recall': _format(agreement['recall'], '.3f'),
        'precision': _format(agreement['precision'], '.3f'),
        'F1': _format(agreement['f1'], '.3f'),
        'mean 3D IoU of pairs': _format(agreement['mean_iou_3d'], '.3f'),
        "teacher's median": _format(latency['teacher']['median_ms'], '.1f') + ' ms',
        "student's median": _format(latency['student']['median_ms'], '.1f') + ' ms',
        'times faster': _format(latency['median_ratio'], '.2f'),
    }
    cards = ''.join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="cards">{cards}</div>'


def _figures(comparison: OnlineComparison) -> str:
    plots = [plot_distances, plot_overlaps, plot_latencies, plot_timeline]
    if comparison.counts['with_truth']:
        plots.insert(1, plot_truth)
    names = {plot: plot.__name__.removeprefix('plot_') for plot in plots}
    images = ''.join(_image(plot(comparison), 'svg+xml', names[plot]) for plot in plots)
    return f'<div class="figures">{images}</div>'


def _worst_clouds(comparison: OnlineComparison) -> Sequence[str]:
    """Pictures from above of the clouds with the most boxes that only one detector has."""
    images = []
    for result, agreement in comparison.worst:
        title = f'{result.title}: {agreement.num_disagreements} disagreements'
        picture = draw_cloud(result, agreement, comparison, title)
        images.append(_image(picture, 'png', title))
    if not images:
        return ['<h2>Clouds with the most disagreements</h2><p>There is none.</p>']
    return [
        '<h2>Clouds with the most disagreements</h2>',
        f'<div class="figures">{"".join(images)}</div>',
    ]


def _facts(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = [['', 'teacher', 'student']]
    about = [summary.get(role, {}) for role in ('teacher', 'student')]
    for key in dict.fromkeys([*about[0], *about[1]]):
        rows.append([key, *(_plain(facts.get(key, '')) for facts in about)])
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key}: {_plain(item)}' for key, item in value.items())
    if isinstance(value, list | tuple):
        return ', '.join(map(_plain, value))
    return str(value)


def _table(rows: Sequence[Sequence[str]], *, kind: str = 'numbers') -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        part = ' class="part"' if cells[0].startswith(' ') else ''
        inside = ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)
        return f'<tr{part}>{inside}</tr>'

    body = ''.join(line(cells, 'td') for cells in rows[1:])
    return f'<div class="wide"><table class="{kind}">{line(rows[0], "th")}{body}</table></div>'


def _image(picture: bytes, kind: str, name: str) -> str:
    data = b64encode(picture).decode()
    return f'<figure><img alt="{escape(name)}" src="data:image/{kind};base64,{data}"></figure>'


def _format(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)
