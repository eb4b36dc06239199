# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Copies of configurations that differ in nested values."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

ConfigT = TypeVar('ConfigT', bound=BaseModel)


def changed(config: ConfigT, **values: Any) -> ConfigT:
    """`changed(model, width=0.5, neck={'strides': (1, 1)})`; nothing is validated."""
    update = {
        name: changed(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return config.model_copy(update=update)
