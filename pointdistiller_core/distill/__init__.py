# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Distillation: beside the detectors, never inside."""

from pointdistiller_core.distill.distiller import TERMS, Distiller, check_distillation

__all__ = ['TERMS', 'Distiller', 'check_distillation']
