# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What every configuration is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys, no silent conversions of numbers."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


class TermConfig(Config):
    """What every term of a distillation has; `name` is its key in `distill.TERMS`."""

    name: str
    weight: float = Field(1.0, ge=0.0)
