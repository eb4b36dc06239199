# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What happened in each stage of a job, as one HTML page that loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pointdistiller_core.evaluation.figures import ConstrainedLayoutEngine, Figure
from pointdistiller_core.evaluation.html import (
    cards,
    document,
    figures,
    heading,
    image,
    paragraph,
    table,
)

_INK, _FAINT, _GRID = '#1d2433', '#8a93a6', '#e4e8ef'
# Okabe and Ito's colors, which color-blind people tell apart.
_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
_LINES = ('solid', 'dashed', 'dotted', 'dashdot')


@dataclass(frozen=True)
class Picture:
    """A picture of a section.

    Attributes:
        content: of the file.
        kind: `png` or `svg+xml`.
        name: what it shows.
    """

    content: bytes
    kind: str
    name: str


@dataclass(frozen=True)
class Section:
    """What a page tells of a stage.

    Attributes:
        title: of the stage.
        lead: what it did, in a sentence.
        tables: each with the names in its first row.
        notes: what was assumed or left out.
        pictures: below them.
    """

    title: str
    lead: str = ''
    tables: Sequence[Sequence[Sequence[str]]] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


def build_stages_page(
    title: str, subtitle: str, numbers: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """Build the page.

    Args:
        title: of the job.
        subtitle: e.g. when, and of what.
        numbers: the most important ones, by their names.
        sections: in their order.
    """
    parts = [heading(title, 1), paragraph(subtitle, minor=True)]
    if numbers:
        parts.append(cards(numbers))
    for section in sections:
        parts.append(heading(section.title))
        if section.lead:
            parts.append(paragraph(section.lead))
        parts += map(table, section.tables)
        parts += (paragraph(note, minor=True) for note in section.notes)
        if section.pictures:
            parts.append(
                figures(image(each.content, each.kind, each.name) for each in section.pictures)
            )
    return document(title, parts)


def plot_losses(losses: Sequence[Mapping[str, float]], title: str) -> Picture:
    """The mean losses of each epoch by name, weighted, over the epochs."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # [inches]
    figure = Figure(figsize=(6.6, 3.6), facecolor='white', layout=layout)
    axes = figure.subplots()
    names = [name for name in losses[0] if any(record.get(name) for record in losses)]
    epochs = range(1, len(losses) + 1)
    for place, name in enumerate(names):
        axes.plot(
            epochs,
            [record[name] for record in losses],
            label=name,
            color=_COLORS[place % len(_COLORS)],
            linestyle=_LINES[place % len(_LINES)],
            marker='o' if len(losses) < 3 else '',
        )
    axes.set_title(title, loc='left', color=_INK, fontsize=11)
    axes.set_xlabel('epoch', color=_FAINT)
    axes.set_ylabel('loss, weighted', color=_FAINT)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis='x', integer=True)
    axes.grid(color=_GRID)
    axes.tick_params(colors=_FAINT)
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    if names:
        axes.legend(fontsize=8, frameon=False, labelcolor=_INK)
    target = BytesIO()
    figure.savefig(target, format='svg')
    return Picture(target.getvalue(), 'svg+xml', title)
