# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML page that loads nothing else."""

from __future__ import annotations

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
from pointdistiller_core.evaluation.comparison.report import (
    backend_of,
    repair_sentences,
    speed,
    table_rows,
)
from pointdistiller_core.evaluation.comparison.session import OnlineComparison
from pointdistiller_core.evaluation.html import (
    cards,
    document,
    figures,
    heading,
    image,
    paragraph,
    plain,
    table,
)

_WORST = 'Clouds with the most disagreements'


def build_page(comparison: OnlineComparison, summary: Mapping[str, Any]) -> str:
    """Build the page of a comparison.

    Args:
        comparison: a comparison that has ended.
        summary: its `summarize`.
    """
    parts = [
        heading(_title(summary), 1),
        paragraph(_subtitle(summary), minor=True),
        _cards(summary),
        heading('Numbers'),
        table(table_rows(summary)),
        paragraph(
            'Recall is the part of the reference that was found; precision is the part of the '
            'boxes that the reference has, too. Overlaps and errors are means over pairs; the '
            'error of the yaw leaves out which end is the front, flipped counts those.',
            minor=True,
        ),
        heading('Plots'),
        _figures(comparison),
        *_worst_clouds(comparison),
        heading('What was compared'),
        table(_facts(summary), kind='facts'),
        *map(paragraph, repair_sentences(summary)),
        *(
            f'<p><b>{key}</b> {escape(plain(summary[key]))}</p>'
            for key in ('source', 'rules', 'settings', 'machine')
            if key in summary
        ),
    ]
    return document(_title(summary), parts)


def _title(summary: Mapping[str, Any]) -> str:
    names = [summary.get(role, {}).get('name', role) for role in ('student', 'teacher')]
    return f'{names[0]} beside its teacher {names[1]}'


def _subtitle(summary: Mapping[str, Any]) -> str:
    clouds = ', '.join(f'{count} {name}' for name, count in summary['clouds'].items())
    error = f'broke off: {summary["error"]}' if summary.get('error') else ''
    return f'{summary.get("started", "")} · clouds: {clouds} · {error}'.strip(' ·')


def _cards(summary: Mapping[str, Any]) -> str:
    agreement, latency = summary['agreement'], summary['latency']
    ratio, faster = speed(latency['median_ratio'])
    values = {
        'recall': _format(agreement['recall'], '.3f'),
        'precision': _format(agreement['precision'], '.3f'),
        'F1': _format(agreement['f1'], '.3f'),
        'mean 3D IoU of pairs': _format(agreement['mean_iou_3d'], '.3f'),
        **{
            f"{role}'s median ({backend_of(summary, role)})": _format(
                latency[role]['median_ms'], '.1f'
            )
            + ' ms'
            for role in ('teacher', 'student')
        },
        faster: ratio,
    }
    return cards(values)


def _figures(comparison: OnlineComparison) -> str:
    plots = [plot_distances, plot_overlaps, plot_latencies, plot_timeline]
    if comparison.counts['with_truth']:
        plots.insert(1, plot_truth)
    names = {plot: plot.__name__.removeprefix('plot_') for plot in plots}
    return figures(image(plot(comparison), 'svg+xml', names[plot]) for plot in plots)


def _worst_clouds(comparison: OnlineComparison) -> Sequence[str]:
    """Pictures from above of the clouds with the most boxes that only one detector has."""
    images = []
    for result, agreement in comparison.worst:
        title = f'{result.title}: {agreement.num_disagreements} disagreements'
        picture = draw_cloud(result, agreement, comparison, title)
        images.append(image(picture, 'png', title))
    if not images:
        return [heading(_WORST), paragraph('There is none.')]
    return [heading(_WORST), figures(images)]


def _facts(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = [['', 'teacher', 'student']]
    about = [summary.get(role, {}) for role in ('teacher', 'student')]
    for key in dict.fromkeys([*about[0], *about[1]]):
        rows.append([key, *(plain(facts.get(key, '')) for facts in about)])
    return rows


def _format(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)
