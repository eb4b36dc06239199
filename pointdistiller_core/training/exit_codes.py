# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Exit codes of the command line that a study's own processes tell it by."""

EXIT_STOPPED = 75  # saved and stopped in time: repeat to go on (EX_TEMPFAIL of sysexits.h)
