# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from changed_config import changed
import pytest
import torch

from pointdistiller_core.config import (
    DistillationConfig,
    LocalGraphConfig,
    LogitsConfig,
    TermConfig,
)
from pointdistiller_core.distill import Distiller
from pointdistiller_core.distill.distiller import build_terms
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.grid import Grid
from pointdistiller_core.models import PointPillars, sketch_detector
from pointdistiller_core.training.data import collate

CONFIG = DistillationConfig(
    terms=(LocalGraphConfig(num_samples=40, num_neighbors=8, adapter_channels=4),)
)


@pytest.fixture
def distiller(tiny_model) -> Distiller:
    torch.manual_seed(0)
    student = tiny_model.model_copy(update={'width': 0.5})
    return Distiller(PointPillars(tiny_model), PointPillars(student), CONFIG)


def test_losses_are_the_students_and_one_per_term(distiller, make_batch):
    batch = make_batch(400, 300)
    losses = distiller(batch)
    student = distiller.student
    expected = student.losses(student(student.prepare(batch.points)), batch)
    assert set(losses) == {*expected, 'local_graph'}
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    assert losses['local_graph'] > 0


def test_gradient_reaches_student_and_adapters_but_not_the_teacher(distiller, make_batch):
    distiller(make_batch(400))['local_graph'].backward()
    assert distiller.student.encoder.linear.weight.grad.abs().sum() > 0
    assert (
        distiller.terms['local_graph'].losses[0].student_adapter.linear.weight.grad.abs().sum() > 0
    )
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in distiller.teacher.parameters())


def test_nothing_of_the_teacher_moves(distiller, make_batch):
    before = {name: value.clone() for name, value in distiller.teacher.state_dict().items()}
    distiller.train()
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=0.1)
    for _ in range(3):
        sum(distiller(make_batch(400)).values()).backward()
        optimizer.step()
    after = distiller.teacher.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_training_mode_is_the_students(distiller):
    distiller.train()
    assert distiller.student.training
    assert not any(module.training for module in distiller.teacher.modules())


def test_parameters_and_state_are_without_the_teacher(distiller):
    roots = {name.split('.')[0] for name in distiller.state_dict()}
    assert roots == {'student', 'terms'}
    held = {id(parameter) for parameter in distiller.parameters()}
    assert not held & {id(parameter) for parameter in distiller.teacher.parameters()}


def test_the_detector_holds_no_adapter(distiller, tiny_model):
    assert distiller.detector is distiller.student
    plain = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    assert set(distiller.detector.state_dict()) == set(plain.state_dict())


def test_state_can_be_resumed(distiller, tiny_model, make_batch):
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    other = Distiller(distiller.teacher, student, CONFIG)
    other.load_state_dict(distiller.state_dict())
    batch = make_batch(400)
    for first, second in zip(distiller(batch).values(), other(batch).values(), strict=True):
        torch.testing.assert_close(first, second)


def test_the_teacher_moves_with_the_distiller(distiller):
    distiller.double()
    assert distiller.teacher.encoder.linear.weight.dtype == torch.float64
    assert distiller.student.encoder.linear.weight.dtype == torch.float64


def test_both_see_the_same_pillars_and_of_the_teacher_only_the_encoder_runs(distiller, make_batch):
    seen, ran = [], []
    for model in (distiller.teacher, distiller.student):
        model.encoder.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    distiller.teacher.backbone.register_forward_pre_hook(lambda *_: ran.append('backbone'))
    distiller(make_batch(100))
    assert len(seen) == 2
    assert seen[0] is seen[1]
    assert ran == []


def test_no_tap_is_left(distiller, make_batch):
    distiller(make_batch(100))
    assert not distiller.student.encoder._forward_hooks
    assert not distiller.teacher.encoder._forward_hooks


def test_an_empty_frame_in_the_batch(distiller, make_batch):
    losses = distiller(make_batch(0, 300))
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize('importance', ['channel_max', 'confidence'])
def test_a_batch_without_points_teaches_graphs_of_a_map_nothing(
    tiny_model, make_batch, importance
):
    """Of such a map all cells are there, though none is occupied."""
    torch.manual_seed(0)
    models = PointPillars(tiny_model), PointPillars(tiny_model)
    for model in models:
        for parameter in model.parameters():
            if parameter.dim() == 1:  # as if trained: empty cells have features, too
                parameter.data.uniform_(-0.5, 0.5)
    term = LocalGraphConfig(
        num_samples=20, num_neighbors=4, importance=importance, taps=('backbone.0',)
    )
    distiller = Distiller(*models, DistillationConfig(terms=(term,), initialization='random'))
    loss = distiller.train()(make_batch(0))['local_graph']
    loss.backward()
    assert torch.isfinite(loss)
    if importance == 'confidence':
        assert loss == 0


@pytest.fixture
def half_labelled(tiny_model, tiny_dataset):
    """A distiller by logits and local graphs, and a batch whose second frame has no labels."""
    torch.manual_seed(0)
    terms = (*CONFIG.terms, LogitsConfig(mask='all'))
    student = tiny_model.model_copy(update={'width': 0.5})
    models = PointPillars(tiny_model), PointPillars(student)
    distiller = Distiller(*models, DistillationConfig(terms=terms))
    first, second = tiny_dataset(2).frames
    return distiller.eval(), collate([first, replace(second, ground_truth=None)])


def gradients(distiller, *losses):
    distiller.zero_grad()
    torch.stack(losses).sum().backward()
    named = distiller.student.named_parameters()
    return {name: each.grad.clone() for name, each in named if each.grad is not None}


def test_the_detection_loss_is_of_labelled_frames_alone(half_labelled, tiny_dataset):
    # in eval mode, as batch norms of a training mix the frames
    distiller, batch = half_labelled
    losses = distiller(batch)
    names = ('classification', 'box', 'direction')
    found = gradients(distiller, *(losses[name] for name in names))
    alone = distiller(collate(tiny_dataset(1).frames))
    expected = gradients(distiller, *(alone[name] / 2 for name in names))  # a mean over two frames
    assert found.keys() == expected.keys()
    assert any(gradient.abs().sum() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_no_anchor_of_an_unlabelled_frame_has_a_detection_loss(half_labelled):
    distiller, batch = half_labelled
    student = distiller.student
    output = student(student.prepare(batch.points))
    parts = (output.class_logits, output.box_residuals, output.direction_logits)
    for part in parts:
        part.retain_grad()
    torch.stack(list(student.losses(output, batch).values())).sum().backward()
    for part in parts:
        assert part.grad[0].abs().sum() > 0
        assert part.grad[1].abs().sum() == 0


def test_the_terms_are_of_all_frames(half_labelled, tiny_dataset):
    distiller, batch = half_labelled
    losses, labelled = distiller(batch), distiller(collate(tiny_dataset(2).frames))
    for name in ('local_graph', 'logits'):
        torch.testing.assert_close(losses[name], labelled[name])
    assert losses['classification'] < labelled['classification']


def test_a_batch_without_any_label_is_learned_from(half_labelled, tiny_dataset):
    distiller, _ = half_labelled
    batch = collate([replace(frame, ground_truth=None) for frame in tiny_dataset(2).frames])
    losses = distiller(batch)
    assert losses['classification'] == losses['box'] == losses['direction'] == 0
    found = gradients(distiller, *losses.values())
    assert found['head.conv.weight'].abs().sum() > 0


def test_an_unknown_tap_lists_those_that_exist(tiny_model):
    class Tapping(TermConfig):
        name: str = 'tapping'
        taps: tuple[str, ...] = ('neck', 'backbone.7')

    config = DistillationConfig.model_construct(terms=(Tapping(),))
    with pytest.raises(ConfigError) as error:
        build_terms(config, *[PointPillars(tiny_model)] * 2)
    message = str(error.value)
    assert message.startswith("distillation.terms.tapping.taps: the teacher has no ['backbone.7']")
    assert "choose from ['voxels', 'backbone.0.norm'" in message


def test_more_samples_than_pillars_are_refused(tiny_model):
    def build(**values):
        config = DistillationConfig(terms=(LocalGraphConfig(**values),))
        build_terms(config, *[sketch_detector(tiny_model)] * 2)

    build(num_samples=1024)
    build(num_samples=1025, per_frame=False)  # of a whole batch, however large
    message = (
        r'num_samples 1025 is more than voxels of the models can have in a frame, which is 1024'
    )
    with pytest.raises(ConfigError, match=message):
        build(num_samples=1025)


def test_more_samples_than_cells_are_refused_whatever_the_cap(tiny_model):
    model = changed(tiny_model, voxels={'max_voxels_training': 16000})
    config = DistillationConfig(terms=(LocalGraphConfig(num_samples=1025),))
    with pytest.raises(ConfigError, match='in a frame, which is 1024'):
        build_terms(config, *[PointPillars(model)] * 2)


def test_both_sides_of_a_difference_are_named(tiny_model):
    grid = Grid(point_cloud_range=(0, -12.8, -3, 51.2, 12.8, 1), voxel_size=(0.8, 0.8, 4))
    other = changed(tiny_model, grid=grid, voxels={'max_points': 20})
    with pytest.raises(ConfigError) as error:
        Distiller(PointPillars(tiny_model), PointPillars(other), CONFIG)
    message = str(error.value)
    assert 'teacher has' in message
    assert 'student has' in message
    assert '25.6, 12.8, 1.0' in message
    assert '51.2, 12.8, 1.0' in message
    assert 'max_points=20' in message
    assert 'class_names' not in message


def on_maps(**changes: object) -> DistillationConfig:
    taps = ('pillars', 'backbone.0', 'backbone.1', 'neck')
    config = LocalGraphConfig(taps=taps, num_samples=40, num_neighbors=8, **changes)
    return DistillationConfig(terms=(config,))


def test_maps_teach_every_stage(tiny_model, make_batch):
    student = PointPillars(tiny_model.model_copy(update={'width': 0.5}))
    distiller = Distiller(PointPillars(tiny_model), student, on_maps())
    distiller(make_batch(400, 300))['local_graph'].backward()
    for stage in (student.encoder, student.backbone.stages[1], student.neck):
        assert all(parameter.grad.abs().sum() > 0 for parameter in stage.parameters())
    assert all(parameter.grad is None for parameter in student.head.parameters())


def test_maps_of_other_resolutions_are_refused(tiny_model):
    strides = {'backbone': {'strides': (2, 2)}, 'neck': {'strides': (2, 4)}}
    student = changed(tiny_model, width=0.5, **strides)
    with pytest.raises(ConfigError) as error:
        Distiller(PointPillars(tiny_model), PointPillars(student), on_maps())
    message = str(error.value)
    assert message.startswith('distillation.terms.local_graph.taps: compared cell by cell;')
    assert 'cells of backbone.0: teacher has (32, 32), student has (16, 16)' in message


def test_an_unknown_tap_is_refused_with_those_that_are_there(tiny_model):
    config = DistillationConfig(terms=(LocalGraphConfig(taps=('pillars', 'backbone.2')),))
    with pytest.raises(ConfigError, match=r"the teacher has no \['backbone.2'\]; choose from"):
        Distiller(PointPillars(tiny_model), PointPillars(tiny_model), config)


def test_distillation_draws_the_student_to_the_teacher(distiller, make_batch):
    batch = make_batch(400, 400)
    distiller.train()
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=0.01)
    totals, terms = [], []
    for _ in range(25):
        losses = distiller(batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
        terms.append(losses['local_graph'].item())
    assert totals[-1] < 0.7 * totals[0]
    assert terms[-1] < 0.9 * terms[0]
