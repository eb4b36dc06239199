# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle that every backend which is installed can run."""

from __future__ import annotations

import shutil

from backend_parameters import installed
import pytest
import torch

from pointdistiller_core.config import DetectorConfig, find_config, load_config
from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files
from pointdistiller_core.deploy.export.exporters import EXPORTERS, export_detector
from pointdistiller_core.models import build_detector


def build_random(config):
    """Random weights and statistics that find something everywhere."""
    torch.manual_seed(0)
    detection = config.detection.model_copy(update={'score_threshold': 0.0})
    model = build_detector(config.model_copy(update={'detection': detection}))
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    torch.nn.init.normal_(model.head.conv.weight, std=0.2)  # scores and sizes of all kinds
    return model


@pytest.fixture(scope='session')
def kitti_bundle(tmp_path_factory):
    """The demo's 4x student, without training, for the backends that compute in float32."""
    config = load_config(DetectorConfig, find_config('models', 'pointpillars_small_4x'))
    model = build_random(config)
    folder = tmp_path_factory.mktemp('bundles') / 'small'
    save_bundle(folder, model, BundleInfo(model=model.config))
    for name in filter(installed, ('openvino', 'onnx')):
        add_files(folder, export_detector(load_detector_model(folder), name))
    return folder


def save_everywhere(config, dataset, folder):
    """Save a random detector for all backends."""
    model = build_random(config)
    save_bundle(folder, model, BundleInfo(model=model.config))
    clouds = [frame.points for frame in dataset.frames]
    for name in filter(installed, EXPORTERS):
        add_files(folder, export_detector(load_detector_model(folder), name, clouds))
    return folder


@pytest.fixture(scope='session')
def full_bundle(tiny_model, tiny_dataset, tmp_path_factory):
    """The tiny model for all backends."""
    folder = tmp_path_factory.mktemp('bundles') / 'bundle'
    return save_everywhere(tiny_model, tiny_dataset(8, seed=9), folder)


@pytest.fixture(scope='session')
def second_bundle(tiny_second, tiny_dataset, tmp_path_factory):
    """The tiny SECOND for all backends."""
    folder = tmp_path_factory.mktemp('bundles') / 'second'
    return save_everywhere(tiny_second, tiny_dataset(8, seed=9), folder)


@pytest.fixture(params=['full_bundle', 'second_bundle'])
def each_bundle(request):
    """A bundle of each family for all backends."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bundle(full_bundle, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(full_bundle, tmp_path / 'bundle')
