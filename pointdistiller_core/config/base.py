# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What every configuration is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
# A configuration may come with somebody else's bundle: what is beyond these is no detector, and
# would take all memory, or hours, before it fails.
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]  # [m] or [rad]; float32 has 0.06 m there
Length = Annotated[float, Field(ge=1e-3, le=1e6)]  # [m]
Channels = Annotated[int, Field(ge=1, le=2**14)]
Stride = Annotated[int, Field(ge=1, le=64)]
MAX_STAGES, MAX_CLASSES = 8, 1000
MAX_MAP_VALUES = 2**29  # of one map in a network: 2 GiB


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys, no silent conversions of numbers."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


class TermConfig(Config):
    """What every term of a distillation has; `name` is its key in `distill.TERMS`."""

    name: str
    weight: float = Field(1.0, ge=0.0)
