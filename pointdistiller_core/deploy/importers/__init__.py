# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other projects; each module knows one."""

from __future__ import annotations

from pathlib import Path

from pointdistiller_core.deploy.importers.checkpoints import Imported, read_settings
from pointdistiller_core.deploy.importers.mmdetection3d import (
    import_mmdetection3d,
    is_mmdetection3d,
)
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet

__all__ = ['Imported', 'import_checkpoint']


def import_checkpoint(checkpoint: Path, config_yaml: Path) -> Imported:
    """Read a checkpoint of any project that is known, by the keys of its configuration.

    Raises:
        ConfigError, CheckpointError: see `import_openpcdet` and `import_mmdetection3d`.
    """
    settings = read_settings(config_yaml)
    if is_mmdetection3d(settings):
        return import_mmdetection3d(checkpoint, settings, config_yaml)
    return Imported(*import_openpcdet(checkpoint, config_yaml))
