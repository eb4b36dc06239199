# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Distillation: terms that are added to the loss of the student."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator
import yaml

from pointdistiller_core.config.base import Config, ImportanceName, Positive, TermConfig
from pointdistiller_core.config.data import DatasetConfig
from pointdistiller_core.config.detector import PILLARS, DetectorConfig
from pointdistiller_core.config.feature_terms import (
    AttentionConfig,
    AttentionNonlocalConfig,
    BoxFeaturesConfig,
    ContrastiveConfig,
    FitNetsConfig,
    GraphContrastConfig,
    OverhaulConfig,
    SimilarityConfig,
)
from pointdistiller_core.config.output_terms import ConsistencyConfig, LabelsConfig, LogitsConfig
from pointdistiller_core.config.shipped import shipped_configs


class LocalGraphConfig(TermConfig):
    """PointDistiller: local graph distillation with reweighting (section 3 of the paper)."""

    name: Literal['local_graph'] = 'local_graph'
    taps: tuple[str, ...] = Field(
        (PILLARS,),
        min_length=1,
        description='losses are summed; for SECOND, the default is its last `middle`, for '
        'PointRCNN `points`',
    )
    weight: float = Field(2.0, ge=0.0)
    num_samples: int = Field(6000, ge=1, description='pillars or cells per frame (N)')
    num_neighbors: int = Field(128, ge=1, description='nodes of a local graph (K)')
    importance: ImportanceName = 'num_points'
    sample: Literal['top', 'bottom', 'mixed', 'random'] = Field(
        'top', description='by importance; mixed: half top, half bottom'
    )
    edge: Literal['concat', 'difference'] = 'concat'
    adapter_channels: int = Field(32, ge=1)
    teacher_adapter: Literal['trained', 'frozen', 'none'] = Field(
        'frozen', description='trained: both adapters may meet at a constant and teach nothing'
    )
    pool: Literal['none', 'max', 'mean'] = Field('none', description='over the edges of a graph')
    norm: Literal['mean_square', 'per_graph', 'global'] = 'mean_square'
    reweight: Literal['importance', 'graph', 'batch_size', 'none'] = Field(
        'importance',
        description='by a softmax over the samples of their importance, or of the channel maximum '
        "of the teacher's graph feature; batch_size: a constant, as the authors' code for maps",
    )
    temperature: Positive = Field(10.0, description='of the reweighting, in units of importance')
    per_frame: bool = Field(True, description='sample and search neighbors inside one frame')

    @field_validator('taps')
    @classmethod
    def _check_taps(cls, taps: tuple[str, ...]) -> tuple[str, ...]:
        if len(taps) != len(set(taps)):
            raise ValueError('each tap may appear once')
        return taps


AnyTermConfig = Annotated[
    LocalGraphConfig
    | GraphContrastConfig
    | FitNetsConfig
    | AttentionConfig
    | SimilarityConfig
    | ContrastiveConfig
    | OverhaulConfig
    | AttentionNonlocalConfig
    | BoxFeaturesConfig
    | LogitsConfig
    | ConsistencyConfig
    | LabelsConfig,
    Field(discriminator='name'),
]

LOCAL_GRAPH_PRESETS = {
    'local_graph': LocalGraphConfig(),
    'paper': LocalGraphConfig(
        teacher_adapter='trained', pool='max', norm='per_graph', weight=1.0, temperature=0.01
    ),
    'authors_code': LocalGraphConfig(teacher_adapter='trained', temperature=0.01, per_frame=False),
    'authors_second': LocalGraphConfig(
        taps=('backbone.0', 'backbone.1'),
        num_samples=256,
        importance='channel_max',
        teacher_adapter='trained',
        reweight='batch_size',
    ),
    'authors_nuscenes': LocalGraphConfig(
        taps=('neck',),
        num_samples=256,
        importance='channel_max',
        adapter_channels=64,
        teacher_adapter='trained',
        reweight='none',
    ),
    'authors_pointrcnn': LocalGraphConfig(
        taps=('points',),
        importance='channel_max',
        adapter_channels=45,
        teacher_adapter='trained',
        pool='max',
        reweight='none',
    ),
}

DISTILLATION_PRESETS: Mapping[str, Mapping[str, Any]] = {
    'default': {'terms': (LogitsConfig(),), 'initialization': 'slice_norm'},
    **{name: {'terms': (term,)} for name, term in LOCAL_GRAPH_PRESETS.items()},
}
"""What the name of a preset stands for: some fields of `DistillationConfig`."""


@cache
def distillation_presets() -> Mapping[str, Mapping[str, Any]]:
    """All presets: also those that `pointdistiller balance` has measured, from shipped files."""
    measured = [
        yaml.safe_load(path.read_text(encoding='utf-8'))
        for path in shipped_configs('distillations')
    ]
    return {**DISTILLATION_PRESETS, **{name: of[name] for of in measured for name in of}}


class DistillationConfig(Config):
    """What a teacher does for a student: terms of its loss, its first weights, further frames.

    A file may also give the name of a preset; without terms, `default` is taken. A name alone
    stands for a term with its defaults.
    """

    terms: tuple[AnyTermConfig, ...] = Field(
        (), description='of the loss; where nothing is said, the preset `default` is meant'
    )
    initialization: Literal['random', 'slice', 'slice_norm'] = Field(
        'random',
        description="first weights of the student; slice: the teacher's first channels, "
        'slice_norm: those whose batch norm scales most',
    )
    unlabelled: SerializeAsAny[DatasetConfig] | None = Field(
        None,
        description='further frames without labels; they have no detection loss, unless the term '
        '`labels` labels them',
    )

    @model_validator(mode='before')
    @classmethod
    def _expand_names(cls, values: Any) -> Any:
        if isinstance(values, str):
            presets = distillation_presets()
            if values not in presets:
                raise ValueError(
                    f'no preset of this name; choose from {sorted(presets)} or write out the terms'
                )
            return _expand_terms(presets[values])
        if isinstance(values, dict) and 'terms' not in values:
            return {**DISTILLATION_PRESETS['default'], **values}
        return _expand_terms(values)

    @model_validator(mode='after')
    def _check_names(self) -> DistillationConfig:
        names = [term.name for term in self.terms]
        if len(names) != len(set(names)):
            raise ValueError(f'terms {names}: each may appear once')
        return self

    @model_validator(mode='after')
    def _check_unlabelled(self) -> DistillationConfig:
        if self.unlabelled is not None and not self.terms:
            raise ValueError(
                f'unlabelled {self.unlabelled.root}, {self.unlabelled.split}: without a term, '
                'nothing can be learned from frames without labels'
            )
        return self

    def settled_for(self, model: DetectorConfig) -> DistillationConfig:
        """The same; where taps of voxels were left out, for what the family of the model has."""
        terms = tuple(_settled(term, model) for term in self.terms)
        return self.model_copy(update={'terms': terms})


def _settled(term: AnyTermConfig, model: DetectorConfig) -> AnyTermConfig:
    if getattr(term, 'taps', ()) != (PILLARS,) or 'taps' in term.model_fields_set:
        return term
    known = type(term).model_fields.keys() - term.model_fields_set
    settings = {'taps': (model.taught_layer,), **model.taught_by}
    return term.model_copy(update={k: value for k, value in settings.items() if k in known})


def _expand_terms(values: Any) -> Any:
    """`terms: [fitnets]` is short for `terms: [{name: fitnets}]`."""
    if not isinstance(values, dict) or not isinstance(values.get('terms'), (list, tuple)):
        return values
    terms = [{'name': term} if isinstance(term, str) else term for term in values['terms']]
    return {**values, 'terms': terms}
