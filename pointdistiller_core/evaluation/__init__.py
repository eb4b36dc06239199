# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics, comparisons and pictures; knows boxes and labels, never a model."""
