# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings to datasets."""

from pointdistiller_core.pipelines.bag_conversion.conversion import (
    ConvertedDrive,
    convert_bags,
    drive_names,
)

__all__ = ['ConvertedDrive', 'convert_bags', 'drive_names']
