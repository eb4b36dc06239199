# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""nuScenes' files: tables, an index of them, and submissions; no devkit is needed."""
