# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Trained detectors as files: the bundle, and importers of other projects' checkpoints."""
