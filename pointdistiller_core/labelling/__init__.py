# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels by trained detectors; several views joined, tracked over the drive, trusted by track."""
