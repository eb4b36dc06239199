# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Compare a student with its teacher on every cloud of a bag or a dataset, without ROS."""

from pointdistiller_core.pipelines.comparison.detectors import ComparedDetectors, ComparisonConfig
from pointdistiller_core.pipelines.comparison.run import compare
from pointdistiller_core.pipelines.comparison.sources import BagSelection, DatasetSelection

__all__ = [
    'BagSelection',
    'ComparedDetectors',
    'ComparisonConfig',
    'DatasetSelection',
    'compare',
]
