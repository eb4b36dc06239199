# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Errors that a caller can act on; each message names the value at fault and the remedy."""

from __future__ import annotations


class PointDistillerError(Exception):
    """Base of all errors raised on purpose; the command line turns it into exit code 2."""


class ConfigError(PointDistillerError):
    """A configuration value is unknown, missing or inconsistent."""


class DatasetError(PointDistillerError):
    """A dataset file, label, calibration or bag is missing or malformed."""


class DamageError(DatasetError):
    """Parts of a bag cannot be read; raised after everything else was."""


class CheckpointError(PointDistillerError):
    """A checkpoint or bundle is missing, damaged or belongs to another architecture."""


class TrainingStopped(PointDistillerError):
    """A training was stopped at the time it was given; all that it has done is saved."""


class TrainingInterrupted(TrainingStopped):
    """A training was asked to stop, by a signal; all that it has done is saved."""


class BackendError(PointDistillerError):
    """A backend cannot run: its package or its files are missing, or its detector is closed."""


class CloudError(PointDistillerError):
    """A point cloud cannot be used: wrong shape, missing field, wrong lengths."""


class WriteError(PointDistillerError):
    """A file or folder cannot be written: disk full, no permission, or it exists already."""


def describe(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing."""
    return str(error) or type(error).__name__
