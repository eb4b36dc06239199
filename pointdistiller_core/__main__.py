# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m pointdistiller_core` is the `pointdistiller` command."""

from pointdistiller_core.cli import main

main()
