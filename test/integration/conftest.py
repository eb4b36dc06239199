# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that need ROS."""

from ros_graph import session  # noqa: F401 - a fixture
