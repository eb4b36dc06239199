# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Exit codes of the command line, by which a study's processes report to it."""

EXIT_STOPPED = 75  # saved and stopped in time: repeat to go on (EX_TEMPFAIL of sysexits.h)
