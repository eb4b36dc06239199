# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes, overlaps, suppression and rigid transforms.

Import from the modules; all take NumPy arrays and torch tensors, and need no torch for arrays.
"""
