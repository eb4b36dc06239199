# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for every detector: those there are, and one that nobody has heard of."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from pointdistiller_core.models import DETECTORS, build_detector, sketch_detector
from pointdistiller_core.models.layer import read_layers
from pointdistiller_core.records import Batch


@pytest.fixture(params=[*DETECTORS, 'pointpillars-pyramid', 'toy'])
def config(request, small_configs):
    """A small configuration of each family."""
    return small_configs[request.param]


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return build_detector(config)


@pytest.fixture
def batch(tiny_dataset) -> Batch:
    """Two frames with cars, and one without a point between them."""
    frames = tiny_dataset(2).frames
    first, second = (
        [torch.from_numpy(column) for column in (f.points, f.ground_truth.boxes)] for f in frames
    )
    empty = [torch.zeros(0, 4), torch.zeros(0, 7)]
    points, boxes = zip(first, empty, second, strict=True)
    labels = tuple(torch.zeros(len(own), dtype=torch.int64) for own in boxes)
    velocities = tuple(torch.ones(len(own), 2) for own in boxes)
    return Batch(points, boxes, labels, ('a', 'empty', 'b'), velocities)


def test_a_small_configuration_of_every_family_is_tested(small_configs):
    assert {config.name for config in small_configs.values()} == {*DETECTORS, 'toy'}
    for name, config in small_configs.items():
        assert name.startswith(config.name)


def test_places_name_their_points(model, batch):
    prepared = model.eval().prepare(batch.points)
    assert prepared.batch_size == 3
    assert [len(owners) for owners in prepared.owners] == [len(own) for own in batch.points]
    owned = torch.cat(prepared.owners)
    assert owned.max() < len(prepared)
    assert 'points' in prepared.cuts
    places = model.places(prepared, model(prepared))
    assert [len(own.owners) for own in places] == [len(own) for own in batch.points]
    assert sum(len(own.centers) for own in places) == len(prepared)
    for own in places:
        assert own.centers.shape == (len(own.values), 3)
        assert own.owners.max(initial=-1) < len(own.centers)


def test_losses_are_finite_and_reach_every_weight(model, batch):
    model.train()
    losses = model.losses(model(model.prepare(batch.points), batch), batch)
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_nothing_to_see_and_nothing_to_learn(model):
    empty = torch.zeros(0, 4)
    batch = Batch((empty,), (torch.zeros(0, 7),), (torch.zeros(0, dtype=torch.int64),), ('',))
    losses = model.train().losses(model(model.prepare(batch.points), batch), batch)
    assert all(loss.isfinite() for loss in losses.values())
    output = model.eval()(model.prepare(batch.points))
    (found,) = model.detect(output)
    assert found.boxes.shape == (len(found), 7)


def test_boxes_of_each_frame_by_descending_score(model, batch):
    model.eval()
    detection = model.config.detection.model_copy(update={'score_threshold': 0.0})
    output = model(model.prepare(batch.points))
    candidates, found = model.candidates(output, detection), model.detect(output, detection)
    assert len(candidates) == len(found) == 3
    for own in (*candidates, *found):
        assert own.boxes.shape == (len(own), 7)
        assert own.boxes.isfinite().all()
        assert (own.scores.diff() <= 0).all()
        assert own.labels.dtype == torch.int64
    assert candidates[0].boxes.requires_grad
    assert all(len(kept) <= len(all_) for kept, all_ in zip(found, candidates, strict=True))
    assert len(found[0])


def test_a_frame_is_found_alike_alone_and_among_others(model, batch):
    model.eval()
    detection = model.config.detection.model_copy(update={'score_threshold': 0.0})
    with torch.no_grad():
        together = model.detect(model(model.prepare(batch.points)), detection)
        (alone,) = model.detect(model(model.prepare(batch.points[2:])), detection)
    torch.testing.assert_close(together[2].scores, alone.scores, rtol=1e-3, atol=1e-4)


def test_layers_are_what_they_say(model, batch):
    model.train()
    prepared, layers = model.prepare(batch.points), model.layers()
    with read_layers(layers) as outputs:
        model(prepared, batch)
    assert set(outputs) == set(layers)
    for name, layer in layers.items():
        rows = layer.to_rows(outputs[name], prepared)
        assert rows.features.shape == (sum(rows.sizes), layer.channels), name
        assert len(rows.sizes) == 3
        assert max(rows.sizes) <= layer.most_rows
        assert rows.positions.shape == (len(rows), 3)
        assert rows.num_points.shape == (len(rows),)
        assert (rows.map_shape, rows.is_map) == (layer.map_shape, layer.is_map)
        assert rows.num_points.sum() == prepared.cuts['points'].kept
        if name in {'voxels', 'points'}:
            assert len(rows) == len(prepared)
        assert rows.features.requires_grad
        low, high = torch.tensor(model.config.point_cloud_range).view(2, 3)
        assert ((rows.positions >= low) & (rows.positions <= high)).all()


def test_layers_run_in_their_order_and_no_further_than_asked(model, batch):
    model.eval()
    prepared, layers = model.prepare(batch.points), model.layers()
    ran = []
    for name, layer in layers.items():
        layer.module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with read_layers(layers) as expected:
        model(prepared)
    assert ran == list(layers)
    for i, name in enumerate(layers):
        ran.clear()
        outputs = model.run_until(prepared, [name])
        assert ran == list(layers)[: i + 1]
        assert list(outputs) == [name]
        rows = [layers[name].to_rows(own[name], prepared) for own in (outputs, expected)]
        assert torch.equal(rows[0].features, rows[1].features)
    ran.clear()
    assert model.run_until(prepared, []) == {}
    assert ran == []


def test_a_sketch_has_its_shapes_without_memory_or_draws(config, model):
    before = torch.random.get_rng_state()
    sketch = sketch_detector(config)
    assert torch.equal(torch.random.get_rng_state(), before)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in sketch.state_dict().items()} == shapes
    assert all(tensor.is_meta for tensor in sketch.state_dict().values())
    for name, layer in model.layers().items():
        other = sketch.layers()[name]
        for field in ('channels', 'most_rows', 'map_shape', 'is_map'):
            assert getattr(other, field) == getattr(layer, field), (name, field)
    assert sketch.input_facts() == model.input_facts()


def test_a_narrower_one_sees_the_same(config, batch):
    narrow = config.model_copy(update={'width': 0.5})
    wide, thin = build_detector(config).eval(), build_detector(narrow).eval()
    assert wide.input_facts() == thin.input_facts()
    assert sum(p.numel() for p in thin.parameters()) < sum(p.numel() for p in wide.parameters())
    output = thin(wide.prepare(batch.points))
    for field in fields(output):
        value = getattr(output, field.name)
        assert not isinstance(value, Tensor) or value.isfinite().all()


def test_no_detection_loss_is_due_for_a_frame_without_labels(model, batch):
    model.eval()
    output = model(model.prepare(batch.points), batch)
    alone = model.losses(output, replace(batch, unlabelled=frozenset({1, 2})))
    first = Batch(
        batch.points[:1], batch.boxes[:1], batch.labels[:1], ('a',), batch.velocities[:1]
    )
    expected = model.losses(model(model.prepare(first.points), first), first)
    for name, loss in expected.items():
        torch.testing.assert_close(alone[name], loss / 3)
    nothing = model.losses(output, replace(batch, unlabelled=frozenset({0, 1, 2})))
    assert all(loss == 0 for loss in nothing.values())
