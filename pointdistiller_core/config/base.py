# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Base of all configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
# How much a row of features matters; for sampling and weighting, see `distill.importance`.
ImportanceName = Literal[
    'num_points', 'channel_max', 'abs_mean', 'confidence', 'gradient', 'disagreement'
]
# A configuration may come with somebody else's bundle. Values beyond these limits make no
# detector, and would take all memory, or hours, before they fail.
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]  # [m] or [rad]; float32 has 0.06 m there
Length = Annotated[float, Field(ge=1e-3, le=1e6)]  # [m]
Channels = Annotated[int, Field(ge=1, le=2**14)]
Stride = Annotated[int, Field(ge=1, le=64)]
MAX_STAGES, MAX_CLASSES = 8, 1000
MAX_MAP_VALUES = 2**29  # of one map in a network: 2 GiB


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys, no silent conversions of numbers."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


class Choice(Config):
    """Base of configurations whose class is chosen by a key when they are read.

    Without the key, the first class is taken; a string alone is short for the key alone.

    Attributes:
        key: the key that chooses.
        choices: class by value of the key; a class with choices of its own is no choice itself.
    """

    key: ClassVar[str] = 'name'
    choices: ClassVar[Mapping[str, type[Choice]]] = {}

    @model_validator(mode='wrap')
    @classmethod
    def _choose(cls, values: Any, read: Callable[[Any], Any]) -> Any:
        values = {cls.key: values} if isinstance(values, str) else values
        if 'choices' not in vars(cls) or not isinstance(values, dict):
            return read(values)
        chosen = cls.chosen_by(values)
        if chosen is None:
            tags = {'tag': str(values[cls.key]), 'expected_tags': ', '.join(cls.choices)}
            raise PydanticKnownError('union_tag_invalid', {'discriminator': cls.key, **tags})
        return chosen.model_validate(values)

    @classmethod
    def chosen_by(cls, values: Any) -> type[Choice] | None:
        """The class that plain values, or a name, choose; None if there is none."""
        name = values.get(cls.key) if isinstance(values, dict) else values
        return next(iter(cls.choices.values())) if name is None else cls.choices.get(str(name))


class TermConfig(Config):
    """Base of all terms of a distillation; `name` is the key in `distill.TERMS`."""

    name: str
    weight: float = Field(1.0, ge=0.0)
