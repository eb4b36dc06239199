# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a teacher teaches: terms that are added to the loss of the student."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import Config, Positive, TermConfig
from pointdistiller_core.config.feature_terms import (
    AttentionConfig,
    AttentionNonlocalConfig,
    BoxFeaturesConfig,
    ContrastiveConfig,
    FitNetsConfig,
    OverhaulConfig,
    SimilarityConfig,
)


class LocalGraphConfig(TermConfig):
    """PointDistiller: local graph distillation with reweighting (section 3 of the paper)."""

    name: Literal['local_graph'] = 'local_graph'
    weight: float = Field(2.0, ge=0.0)
    num_samples: int = Field(6000, ge=1, description='pillars per frame, by importance (N)')
    num_neighbors: int = Field(128, ge=1, description='nodes of a local graph (K)')
    importance: Literal['num_points', 'channel_max', 'abs_mean'] = 'num_points'
    edge: Literal['concat', 'difference'] = 'concat'
    adapter_channels: int = Field(32, ge=1)
    teacher_adapter: Literal['trained', 'frozen', 'none'] = Field(
        'frozen', description='trained: both adapters may meet at a constant and teach nothing'
    )
    pool: Literal['none', 'max', 'mean'] = Field('none', description='over the edges of a graph')
    norm: Literal['mean_square', 'per_graph', 'global'] = 'mean_square'
    reweight: bool = Field(True, description='graphs of important pillars count more')
    temperature: Positive = Field(10.0, description='of the reweighting, in units of importance')
    per_frame: bool = Field(True, description='sample and search neighbors inside one frame')


AnyTermConfig = Annotated[
    LocalGraphConfig
    | FitNetsConfig
    | AttentionConfig
    | SimilarityConfig
    | ContrastiveConfig
    | OverhaulConfig
    | AttentionNonlocalConfig
    | BoxFeaturesConfig,
    Field(discriminator='name'),
]

DISTILLATION_PRESETS = {
    'default': LocalGraphConfig(),
    'paper': LocalGraphConfig(
        teacher_adapter='trained', pool='max', norm='per_graph', weight=1.0, temperature=0.01
    ),
    'authors_code': LocalGraphConfig(teacher_adapter='trained', temperature=0.01, per_frame=False),
}


class DistillationConfig(Config):
    """Terms that are added to the student's detection loss.

    In a file also the name of a preset; a term with its defaults is named by its name alone.
    """

    terms: tuple[AnyTermConfig, ...] = (DISTILLATION_PRESETS['default'],)

    @model_validator(mode='before')
    @classmethod
    def _expand_names(cls, values: Any) -> Any:
        if not isinstance(values, str):
            return _expand_terms(values)
        if values not in DISTILLATION_PRESETS:
            raise ValueError(
                f'no preset of this name; choose from {sorted(DISTILLATION_PRESETS)} '
                'or write out the terms'
            )
        return {'terms': (DISTILLATION_PRESETS[values],)}

    @model_validator(mode='after')
    def _check_names(self) -> DistillationConfig:
        names = [term.name for term in self.terms]
        if len(names) != len(set(names)):
            raise ValueError(f'terms {names}: each may appear once')
        return self


def _expand_terms(values: Any) -> Any:
    """`terms: [fitnets]` is short for `terms: [{name: fitnets}]`."""
    if not isinstance(values, dict) or not isinstance(values.get('terms'), (list, tuple)):
        return values
    terms = [{'name': term} if isinstance(term, str) else term for term in values['terms']]
    return {**values, 'terms': terms}
