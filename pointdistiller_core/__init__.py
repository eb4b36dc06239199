# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""LiDAR 3D detectors whose small, fast students are taught by big, accurate teachers."""

__version__ = '0.1.0'
