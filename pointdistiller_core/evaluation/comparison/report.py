# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a comparison: rows while it runs, numbers and a page at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
import csv
from dataclasses import dataclass
import json
import math
import operator
from pathlib import Path
import platform
import re
from typing import TYPE_CHECKING, Any

from pointdistiller_core.cores import processor_name, usable_cores
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.comparison.session import (
    ComparisonRules,
    OnlineComparison,
)
from pointdistiller_core.files import named_refusals, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_FILE, PAGE_FILE = 'comparison.json', 'comparison.html'
_COMPARISONS = {'>=': operator.ge, '<=': operator.le, '>': operator.gt, '<': operator.lt}


class ReportFolder:
    """A new folder with a CSV file for each table of rows, and the other files of a report.

    A row is in its file when `write` returns, so a killed process loses none.

    Args:
        folder: to create; may exist if it is empty.

    Raises:
        ConfigError: it holds files already; no report is overwritten.
        WriteError: the file system refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._open_files = ExitStack()
        self._writers: dict[str, tuple[Any, Any]] = {}
        with named_refusals(folder):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(
                    f'{folder} holds a report or other files already; choose another folder or '
                    'remove it'
                )
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: str, row: Mapping[str, float | str]) -> None:
        """Append a row to TABLE.csv; NaN stays empty.

        Raises:
            WriteError: the file system refuses.
        """
        path = self.path / f'{table}.csv'
        with named_refusals(path):
            if table not in self._writers:
                file = self._open_files.enter_context(path.open('w', newline='', encoding='utf-8'))
                self._writers[table] = file, csv.DictWriter(file, list(row))
                self._writers[table][1].writeheader()
            file, writer = self._writers[table]
            writer.writerow({key: _cell(value) for key, value in row.items()})
            file.flush()

    def replace(self, name: str, text: str) -> None:
        """Write or replace a file in one step.

        Raises:
            WriteError: the file system refuses; the file is as it was.
        """
        write_file(self.path / name, text.encode())

    def close(self) -> None:
        """Close the tables."""
        self._open_files.close()


def summarize(comparison: OnlineComparison, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers of a comparison, for JSON; NaN becomes None.

    Args:
        comparison: the comparison so far.
        facts: further facts, e.g. which bundles were compared.
    """
    rules, tallies = comparison.rules, comparison.tallies
    values = {
        **facts,
        'rules': {
            'classes': list(rules.class_names),
            'min_iou': dict(zip(rules.class_names, rules.iou_thresholds, strict=True)),
            'distances': list(rules.distances),
        },
        'clouds': {**dict(facts.get('clouds', {})), **comparison.counts},
        'latency': _summarize_latency(comparison),
        'agreement': tallies['agreement'].to_dict(rules.class_names),
        'ground_truth': None,
    }
    if comparison.counts['with_truth'] or comparison.num_truth_alone:
        values['ground_truth'] = {
            'labels_without_cloud': comparison.num_truth_alone,
            'repeated_labels': comparison.num_repeated_truth,
            'clouds_without_labels': comparison.num_without_truth,
            'teacher': tallies['teacher_truth'].to_dict(rules.class_names),
            'student': tallies['student_truth'].to_dict(rules.class_names),
        }
    cleaned: dict[str, Any] = _without_nan(values)
    return cleaned


def to_json(summary: Mapping[str, Any]) -> str:
    """The numbers as text."""
    return json.dumps(summary, indent=2, allow_nan=False) + '\n'


def describe_machine() -> dict[str, Any]:
    """The machine that the times were measured on."""
    return {
        'processor': processor_name(),
        'cores': usable_cores(),
        'system': platform.platform(),
    }


@dataclass(frozen=True)
class Check:
    """A limit for a number of a comparison, such as `recall>=0.8`.

    Attributes:
        text: as it was given.
        name: of the number, see `find_number`.
        sign: one of >=, <=, > and <.
        limit: to compare with.
    """

    text: str
    name: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Check:
        """A check from text.

        Raises:
            ConfigError: it is not of the form NAME>=NUMBER.
        """
        found = re.fullmatch(r'\s*([^<>=]+?)\s*(>=|<=|>|<)\s*(\S+)\s*', text)
        try:
            name, sign, limit = found.groups() if found else ('', '', '')
            return cls(text, name, sign, float(limit))
        except ValueError:
            raise ConfigError(
                f"check {text!r} is not of the form NAME>=NUMBER, e.g. 'recall>=0.8'"
            ) from None

    def holds(self, summary: Mapping[str, Any]) -> bool:
        """Whether the number keeps the limit; a missing number (None) does not.

        Raises:
            ConfigError: there is no number of this name.
        """
        value = find_number(summary, self.name)
        return value is not None and bool(_COMPARISONS[self.sign](value, self.limit))


def check_names(checks: Sequence[Check], rules: ComparisonRules) -> None:
    """Refuse checks of numbers that no comparison by these rules has.

    Raises:
        ConfigError: there is one.
    """
    summary = summarize(OnlineComparison(rules), {})
    summary['ground_truth'] = {role: summary['agreement'] for role in ('teacher', 'student')}
    for check in checks:
        find_number(summary, check.name)


def failures(checks: Sequence[Check], summary: Mapping[str, Any]) -> list[str]:
    """What is said of each check that does not hold.

    Raises:
        ConfigError: there is no number of its name.
    """
    return [
        f'{check.name} is {find_number(summary, check.name)}, so this does not hold: {check.text}'
        for check in checks
        if not check.holds(summary)
    ]


def find_number(summary: Mapping[str, Any], name: str) -> float | None:
    """A number of `summarize` by its path, e.g. `classes.Car.recall` or `latency.median_ratio`.

    Paths begin in `agreement`, or at the top.

    Raises:
        ConfigError: no such number.
    """
    for place in (summary['agreement'], summary):
        value: Any = place
        for key in name.split('.'):
            value = value.get(key, math.nan) if isinstance(value, Mapping) else math.nan
        if value is None or (isinstance(value, int | float) and not math.isnan(value)):
            return value
    numbers = sorted(key for key, value in summary['agreement'].items() if _is_number(value))
    raise ConfigError(
        f'a comparison has no number {name!r}; it has {numbers}, the same below classes.NAME, '
        'distances.NAME, ground_truth.teacher and ground_truth.student, and latency.median_ratio'
    )


def format_table(summary: Mapping[str, Any]) -> str:
    """The most important numbers as lines of text."""
    rows = table_rows(summary)
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        '  '.join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return '\n'.join([*lines, '', *_sentences(summary)]) + '\n'


def table_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """A row of names, then one for everything, each band of distances and each class."""
    head = ['student beside teacher', 'recall', 'precision', 'F1', 'IoU 3D', 'IoU BEV']
    head += ['center [m]', 'size [m]', 'yaw [deg]', 'flipped', 'reference', 'boxes']
    rows = [head]
    for title, numbers in _parts(summary['agreement'], 'all'):
        rows.append([title, *_cells(numbers)])
    for name in ('teacher', 'student') if summary['ground_truth'] else ():
        for title, numbers in _parts(summary['ground_truth'][name], f'{name} beside labels'):
            rows.append([title, *_cells(numbers)])
    return rows


def _parts(values: Mapping[str, Any], title: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield title, values
    for group in ('distances', 'classes'):
        for name, numbers in values[group].items():
            yield f'  {name}', numbers


def _cells(numbers: Mapping[str, Any]) -> list[str]:
    yaw = numbers['mean_yaw_error']
    values = [numbers[key] for key in ('recall', 'precision', 'f1', 'mean_iou_3d', 'mean_iou_bev')]
    errors = [numbers['mean_center_error'], numbers['mean_size_error']]
    counts = [numbers[key] for key in ('num_flipped', 'num_reference', 'num_found')]
    cells = ['-' if value is None else f'{value:.3f}' for value in [*values, *errors]]
    return [*cells, '-' if yaw is None else f'{math.degrees(yaw):.1f}', *map(str, counts)]


def _sentences(summary: Mapping[str, Any]) -> Sequence[str]:
    latency, clouds = summary['latency'], summary['clouds']
    lines = [', '.join(f'{count} {name}' for name, count in clouds.items())]
    if clouds['compared']:
        times = ', '.join(
            f'{name} {latency[name]["median_ms"]:.1f} ms '
            f'({backend_of(summary, name)}, p95 {latency[name]["p95_ms"]:.1f})'
            for name in ('teacher', 'student')
        )
        lines.append(f'median latency: {times}: {" ".join(speed(latency["median_ratio"]))}')
    return [*lines, *repair_sentences(summary)]


def backend_of(summary: Mapping[str, Any], role: str) -> str:
    """What the network of a role ran in; times of two backends say little of the networks."""
    return str(summary.get(role, {}).get('backend', '?'))


def speed(ratio: float | None) -> tuple[str, str]:
    """A ratio of latencies, teacher / student, in words: `('1.9', 'times slower')`."""
    if not ratio or math.isnan(ratio):
        return '-', 'times faster'
    return (f'{ratio:.1f}', 'times faster') if ratio >= 1 else (f'{1 / ratio:.1f}', 'times slower')


def repair_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Sentences about wrong intensities, clipped intensities and refused boxes."""
    lines = [
        f'{role}: {counts["intensity_outside"]} intensities clipped, '
        f'{counts["boxes_refused"]} boxes refused'
        for role, counts in summary.get('repairs', {}).items()
        if any(counts.values())
    ]
    return lines + [text for text in [summary.get('intensity', {}).get('problem')] if text]


def _summarize_latency(comparison: OnlineComparison) -> dict[str, Any]:
    teacher, student = comparison.latencies['teacher'], comparison.latencies['student']
    return {
        'teacher': teacher.to_dict(),
        'student': student.to_dict(),
        'median_ratio': teacher.percentile_ms(50) / student.percentile_ms(50),
        'p95_ratio': teacher.percentile_ms(95) / student.percentile_ms(95),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(value: float | str) -> str:
    if isinstance(value, int | str):
        return str(value)
    return '' if math.isnan(value) else f'{value:.6g}'
