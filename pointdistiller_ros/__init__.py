# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes around `pointdistiller_core`; they translate and never compute."""
