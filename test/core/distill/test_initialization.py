# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from changed_config import changed
import pytest
import torch
from torch import nn

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.distill.initialization import CHOICES, slice_weights
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import PointPillars, build_detector
from pointdistiller_core.models.stages.batch_norm import BatchNormRows


@pytest.fixture
def teacher(tiny_model) -> PointPillars:
    """Every number of its state is another one."""
    torch.manual_seed(0)
    model = PointPillars(tiny_model)
    for tensor in model.state_dict().values():
        tensor.random_() if not tensor.is_floating_point() else tensor.normal_()
    return model


def student_of(config: PointPillarsConfig, **values) -> PointPillars:
    return PointPillars(changed(config, **values))


@pytest.mark.parametrize('method', CHOICES)
def test_a_student_as_wide_as_the_teacher_is_the_teacher(teacher, method):
    student = student_of(teacher.config)
    student.load_state_dict(slice_weights(teacher, student, method))
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name


def test_every_tensor_is_the_documented_slice(teacher):
    """Widths of the teacher: 8, then 8 and 16, and 8 + 8 in the neck; half of these are kept."""
    state = slice_weights(teacher, student_of(teacher.config, width=0.5), 'slice')
    expected = {}
    for name, tensor in teacher.state_dict().items():
        if name == 'encoder.linear.weight':
            expected[name] = tensor[:4]
        elif name == 'head.conv.weight':
            expected[name] = tensor[:, [0, 1, 2, 3, 8, 9, 10, 11]]
        elif name == 'head.conv.bias' or tensor.ndim == 0:
            expected[name] = tensor
        elif tensor.ndim == 1:
            expected[name] = tensor[: len(tensor) // 2]
        else:
            expected[name] = tensor[: tensor.shape[0] // 2, : tensor.shape[1] // 2]
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


def test_the_largest_scales_are_kept_and_read(teacher):
    weights = teacher.state_dict()
    scales = {
        'encoder.norm': [0, 3, 0, -4, 2, 0, 1, 0],  # keeps 1, 3, 4, 6
        'backbone.stages.0.0.1': [5, 5, 0, 0, 0, 0, 5, 5],  # 0, 1, 6, 7
        'neck.upsamplers.0.1': [0, 0, 0, 0, 1, 1, 1, 1],  # 4 to 7
        'neck.upsamplers.1.1': [0, 1, 0, 1, 0, 1, 0, 1],  # odd ones
    }
    for name, values in scales.items():
        weights[f'{name}.weight'].copy_(torch.tensor(values))
    last = weights['backbone.stages.0.1.1.weight'].abs().topk(4).indices.sort().values.tolist()
    state = slice_weights(teacher, student_of(teacher.config, width=0.5), 'slice_norm')

    def same(name, rows, columns):
        assert torch.equal(state[name], weights[name][rows][:, columns]), name

    assert state['encoder.norm.weight'].tolist() == [3, -4, 2, 1]
    kept = weights['encoder.norm.running_var'][[1, 3, 4, 6]]
    assert torch.equal(state['encoder.norm.running_var'], kept)
    same('encoder.linear.weight', [1, 3, 4, 6], list(range(10)))
    same('backbone.stages.0.0.0.weight', [0, 1, 6, 7], [1, 3, 4, 6])
    same('neck.upsamplers.0.0.weight', last, [4, 5, 6, 7])
    same('head.conv.weight', list(range(20)), [4, 5, 6, 7, 8 + 1, 8 + 3, 8 + 5, 8 + 7])


def test_what_is_never_read_may_be_cut_away(teacher, make_batch):
    """A teacher that uses half of its channels is its slice."""
    for module in teacher.modules():
        norm = isinstance(getattr(module, 'running_var', None), torch.Tensor)
        if norm:
            module.running_var.abs_()
            for part in (module.weight, module.bias):
                nn.init.zeros_(part[len(part) // 2 :])
    student = student_of(teacher.config, width=0.5)
    student.load_state_dict(slice_weights(teacher, student, 'slice'))
    pillars = teacher.prepare(make_batch(300).points)
    with torch.no_grad():
        ours, theirs = (model.eval()(pillars) for model in (student, teacher))
    torch.testing.assert_close(ours.class_logits, theirs.class_logits, rtol=1e-3, atol=1e-4)
    assert theirs.class_logits.std() > 0.1


def test_neither_model_is_changed(teacher):
    student = student_of(teacher.config)
    before = [tensor.clone() for m in (teacher, student) for tensor in m.state_dict().values()]
    for tensor in slice_weights(teacher, student, 'slice').values():
        tensor.zero_()
    after = [tensor for m in (teacher, student) for tensor in m.state_dict().values()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(
    ('values', 'line'),
    [
        ({'width': 2.0}, 'backbone.channels: teacher has only (8, 16), student has (16, 32)'),
        (
            {'neck': {'channels': (4, 9)}},
            'neck.channels: teacher has only (8, 8), student has (4, 9)',
        ),
        (
            {'backbone': {'layers': (1, 2)}},
            'backbone.layers: teacher has (1, 1), student has (1, 2)',
        ),
    ],
)
def test_another_architecture_is_named_with_both_sides(teacher, values, line):
    with pytest.raises(ConfigError) as error:
        slice_weights(teacher, student_of(teacher.config, **values), 'slice')
    assert f'\n  {line}' in str(error.value)


@pytest.mark.parametrize('family', ['pointpillars', 'pointpillars-pyramid', 'second', 'pointrcnn'])
@pytest.mark.parametrize('method', CHOICES)
def test_a_teacher_whose_other_channels_are_switched_off_is_its_student(
    small_configs, make_batch, family, method
):
    """Channels with a batch norm of zeros give nothing: without them, the outputs are the same."""
    torch.manual_seed(0)
    config = small_configs[family]
    teacher, student = build_detector(config), build_detector(changed(config, width=0.5))
    for module in teacher.modules():
        if isinstance(module, (nn.BatchNorm2d, BatchNormRows)):
            kept = torch.arange(len(module.weight)) < len(module.weight) // 2
            for part in (module.weight, module.bias):
                part.data = torch.randn(len(kept)).abs() * kept
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    if family == 'pointrcnn':  # layers without batch norm
        for layer in (*teacher.refinement.point_layers, teacher.refinement.merge):
            for part in (layer[0].weight, layer[0].bias):
                part.data[len(part) // 2 :] = 0
    student.load_state_dict(slice_weights(teacher, student, method))
    points = make_batch(3000, 2000).points
    with torch.inference_mode():
        ours, theirs = (model(model.prepare(points)) for model in (student.eval(), teacher.eval()))
    if family == 'pointrcnn':
        for name in ('point_logits', 'point_codes', 'logits', 'residuals'):
            own, taught = getattr(ours, name), getattr(theirs, name)
            assert taught.std() > 1e-4
            torch.testing.assert_close(own, taught, rtol=1e-3, atol=1e-4)
        return
    assert theirs.class_logits.std() > 1e-3
    torch.testing.assert_close(ours.class_logits, theirs.class_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.box_residuals, theirs.box_residuals, rtol=1e-4, atol=1e-5)
