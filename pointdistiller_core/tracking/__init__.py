# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The same object in one sweep after another; live in `tracker`, over whole drives in `drives`."""
