# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Terms that compare features; for sources and decisions see docs/reference/feature_terms.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pointdistiller_core.config.base import ImportanceName, Positive, TermConfig


class FeatureTermConfig(TermConfig):
    """Base of all terms that compare features."""

    taps: tuple[str, ...] = Field(
        ('neck',), description='compared one by one and summed; none: every level of the backbone'
    )


class FitNetsConfig(FeatureTermConfig):
    """FitNets (Romero et al., ICLR 2015): the student's features predict the teacher's."""

    name: Literal['fitnets'] = 'fitnets'
    weight: float = Field(0.1, ge=0.0)
    regressor: Literal['linear', 'norm_relu'] = Field(
        'norm_relu', description='linear: for taps before a ReLU'
    )


class AttentionConfig(FeatureTermConfig):
    """Attention transfer (Zagoruyko and Komodakis, ICLR 2017)."""

    name: Literal['attention'] = 'attention'
    weight: float = Field(100.0, ge=0.0)
    taps: tuple[str, ...] = ()
    power: float = Field(2.0, ge=1.0, description='p of the mean over channels of |F|^p')


class SimilarityConfig(FeatureTermConfig):
    """Similarity-preserving distillation (Tung and Mori, ICCV 2019)."""

    name: Literal['similarity'] = 'similarity'
    weight: float = Field(3.0, ge=0.0)
    among: Literal['frames', 'cells'] = Field(
        'frames', description='frames: the paper; cells: a variant, inside each frame'
    )
    num_samples: int = Field(1024, ge=2, description='pillars or cells per frame, if among cells')


class ContrastiveConfig(FeatureTermConfig):
    """CRD (Tian et al., ICLR 2020), with negatives of the batch instead of a memory."""

    name: Literal['contrastive'] = 'contrastive'
    weight: float = Field(0.8, ge=0.0)
    num_samples: int = Field(512, ge=2, description='pillars or cells per frame')
    channels: int = Field(128, ge=1, description='of the embeddings')
    temperature: Positive = 0.07


class GraphContrastConfig(FeatureTermConfig):
    """Local graphs of the teacher, each of which the student's must find among all others."""

    name: Literal['graph_contrast'] = 'graph_contrast'
    weight: float = Field(0.1, ge=0.0)
    num_samples: int = Field(
        256, ge=1, description='most important rows with points per frame; as many at random'
    )
    num_neighbors: int = Field(
        32, ge=1, description='nodes of a local graph (K); 1: the row alone, a plain contrast'
    )
    importance: ImportanceName | Literal['uniform'] = Field(
        'confidence', description='uniform: all rows alike, so that they are drawn at random'
    )
    channels: int = Field(128, ge=1, description='of the graph features')
    temperature: Positive = 0.07
    reweight_temperature: Positive = Field(
        0.5, description='of the reweighting, where importance is scaled to 0 to 1 in each frame'
    )


class OverhaulConfig(FeatureTermConfig):
    """A comprehensive overhaul (OFD; Heo et al., ICCV 2019): features before their ReLU."""

    name: Literal['overhaul'] = 'overhaul'
    weight: float = Field(1e-5, ge=0.0)
    taps: tuple[str, ...] = Field(
        (), description='pillars, backbone.0.norm, ..., finest first; none: all these norms'
    )


class AttentionNonlocalConfig(FeatureTermConfig):
    """Attention-guided and non-local distillation (Zhang and Ma, ICLR 2021)."""

    name: Literal['attention_nonlocal'] = 'attention_nonlocal'
    feature_weight: float = Field(7e-5, ge=0.0)
    channel_weight: float = Field(4e-3, ge=0.0)
    spatial_weight: float = Field(4e-3, ge=0.0)
    nonlocal_weight: float = Field(7e-5, ge=0.0)
    temperature: Positive = Field(0.5, description='of both masks; the lower, the sharper')
    nonlocal_channels: int = Field(64, ge=1, description='inside the non-local blocks')
    nonlocal_stride: int = Field(
        8, ge=1, description='of the max pooling of keys and values on maps; pillars have none'
    )


class BoxFeaturesConfig(FeatureTermConfig):
    """Imitation only inside labelled boxes (FGFI, LiDAR Distillation)."""

    name: Literal['box_features'] = 'box_features'
    margin: float = Field(
        0.3, ge=0.0, description='added to each side of a box, seen from above [m]'
    )
    norm: Literal['mean_square', 'per_cell'] = Field(
        'mean_square', description='per_cell: mean length of the differences'
    )
