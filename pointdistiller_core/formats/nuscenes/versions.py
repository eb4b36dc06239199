# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of the tables below a root: `v1.0-trainval`, `v1.0-mini`, others."""

from __future__ import annotations

from pathlib import Path

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.index import ALL_SAMPLES, read_splits
from pointdistiller_core.formats.nuscenes.names import official_splits

TABLE = 'sample_data.json'  # what a folder of tables is known by, with another
OTHER_TABLE = 'sample.json'


def versions_at(root: Path) -> list[Path]:
    """Folders of tables in a root, complete or not; itself, if it is one."""
    if _has_tables(root):
        return [root]
    return sorted(path for path in root.glob('*') if path.is_dir() and _has_tables(path))


def find_version(root: Path, split: str, version: str = '') -> Path:
    """The folder of tables that a split belongs to.

    Args:
        root: of the dataset, or the folder of one version of its tables.
        split: of which the first one decides, as of `train+val`.
        version: name of the folder; empty is the one that has the split.

    Raises:
        DatasetError: there are no tables, or none or several have the split.
    """
    versions = versions_at(root)
    if not versions:
        raise DatasetError(f'{root}: has no tables of nuScenes, such as v1.0-mini/{OTHER_TABLE}')
    by_name = {path.resolve().name: path for path in versions}
    if version:
        if version not in by_name:
            raise DatasetError(f'{root}: has no version {version!r}; it has {sorted(by_name)}')
        return by_name[version]
    if len(versions) == 1:
        return versions[0]
    first = split.split('+')[0]
    having = [path for path in versions if first in _splits_of(path)]
    if len(having) == 1:
        return having[0]
    listed = '; '.join(f'{path.name} has {", ".join(_splits_of(path))}' for path in versions)
    if having:
        names = ', '.join(path.name for path in having)
        raise DatasetError(f'{root}: split {split} is in {names}; name one, as {having[0]}')
    raise DatasetError(f'{root}: no version of the tables has a split {split!r}; {listed}')


def _has_tables(path: Path) -> bool:
    return (path / TABLE).is_file() or (path / OTHER_TABLE).is_file()


def _splits_of(folder: Path) -> list[str]:
    return [*official_splits(folder.name), *read_splits(folder), ALL_SAMPLES]
