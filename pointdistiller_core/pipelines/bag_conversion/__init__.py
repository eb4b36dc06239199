# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Convert recordings into datasets."""

from pointdistiller_core.pipelines.bag_conversion.conversion import (
    ConvertedDrive,
    convert_bags,
    drive_names,
)
from pointdistiller_core.pipelines.bag_conversion.inspection import BagInspection, inspect_bag

__all__ = ['BagInspection', 'ConvertedDrive', 'convert_bags', 'drive_names', 'inspect_bag']
