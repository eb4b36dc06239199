# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Plans and results of studies; what runs them is tested in test_study_runner."""

from __future__ import annotations

from itertools import product
import json
from pathlib import Path

from changed_config import changed
import pytest

from pointdistiller_core.config import (
    ArmConfig,
    DistillationConfig,
    StudyConfig,
    StudySizeConfig,
    load_config,
    parse_config,
    shipped_configs,
)
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.distill import TERMS
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector
from pointdistiller_core.studies.plan import (
    check_begun,
    collect_runs,
    experiment_values,
    list_arms,
    merge,
    plan_study,
    scores_by_arm,
    setting_values,
)
from pointdistiller_core.studies.table import Arm
from pointdistiller_core.training.run import open_run

SIZE = {
    'data': {'seed': 7, 'train': 4, 'val': 1, 'test': 2},
    'experiment': {'dataset': {'cache_frames': True}, 'training': {'epochs': 3}},
    'teacher': {'training': {'epochs': 5, 'seed': 9}},
    'students': {'4x': {'model': {'width': 0.5}}, '16x': {'model': 'pointpillars_16x'}},
    'terms': {'local_graph': {'num_samples': 64, 'num_neighbors': 4}},
}
STUDY = {
    'title': 'Tiny',
    'seeds': [0, 1],
    'arms': [
        {'name': 'taught', 'title': 'distilled', 'experiment': {'distillation': 'local_graph'}},
        {'name': 'plain'},
        {'name': 'taught_16x', 'student': '16x', 'experiment': {'distillation': 'paper'}},
        {'name': 'plain_16x', 'student': '16x'},
    ],
}
PRESETS = ('paper', 'local_graph')
SIZES = ('small', 'long', 'full')
SHIPPED = {path.stem: path for path in shipped_configs('studies')}


def a_study(**changes):
    return parse_config(StudyConfig, {**STUDY, **changes}, where='study')


def a_size(**changes):
    return parse_config(StudySizeConfig, {**SIZE, **changes}, where='size')


def a_plan(study=None, size=None, **options):
    return plan_study(study or a_study(), size or a_size(), size_name='tiny', **options)


# --- plan ------------------------------------------------------------------------------------


def test_teacher_first_then_labels_alone_then_distilled():
    assert [job.folder for job in a_plan()] == [
        'runs/teacher-seed9',
        'runs/plain-seed0',
        'runs/plain_16x-seed0',
        'runs/plain-seed1',
        'runs/plain_16x-seed1',
        'runs/taught-seed0',
        'runs/taught_16x-seed0',
        'runs/taught-seed1',
        'runs/taught_16x-seed1',
    ]


def test_all_seeds_of_an_arm_before_the_next_one():
    folders = [job.folder for job in a_plan(a_study(order='arms'))]
    assert folders[:4] == [
        'runs/teacher-seed9',
        'runs/taught-seed0',
        'runs/taught-seed1',
        'runs/plain-seed0',
    ]


def test_arms_to_compare_must_be_there():
    with pytest.raises(ConfigError, match=r"comparisons: there are no arms \['tought'\]"):
        a_study(comparisons=[['tought', 'plain']])


def test_other_seeds_leave_the_teacher_alone():
    plan = a_plan(a_study(arms=[{'name': 'plain'}]), seeds=(4, 2))
    assert [job.folder for job in plan] == [
        'runs/teacher-seed9',
        'runs/plain-seed2',
        'runs/plain-seed4',
    ]


def test_what_a_run_is():
    jobs = {job.folder: job for job in a_plan()}
    taught, teacher = jobs['runs/taught-seed1'].experiment, jobs['runs/teacher-seed9'].experiment
    assert teacher.distillation is None
    assert (teacher.training.epochs, teacher.model.width) == (5, 1.0)
    assert (taught.training.epochs, taught.training.seed, taught.model.width) == (3, 1, 0.5)
    assert taught.dataset.root == Path('data')  # relative: the folder may move
    assert (taught.dataset.split, taught.validation.split) == ('train', 'test')
    assert taught.dataset.cache_frames
    assert jobs['runs/taught-seed1'].teacher == 'runs/teacher-seed9'
    assert jobs['runs/plain-seed1'].teacher is None
    assert jobs['runs/plain_16x-seed1'].experiment.model.width == 0.25


def test_an_arm_may_be_of_one_size():
    arms = [{'name': 'a', 'size': 'tiny'}, {'name': 'b', 'size': 'big'}]
    assert {job.arm for job in a_plan(a_study(arms=arms))} == {'teacher', 'a'}


@pytest.mark.parametrize(
    ('distillation', 'expected'),
    [
        ('paper', {'num_samples': 64, 'num_neighbors': 4, 'temperature': 0.01}),
        ('local_graph', {'num_samples': 64, 'num_neighbors': 4, 'temperature': 10}),
        ({'terms': ['local_graph']}, {'num_samples': 64, 'num_neighbors': 4}),
        (
            {'terms': [{'name': 'local_graph', 'num_samples': 8}]},
            {'num_samples': 8, 'num_neighbors': 4},
        ),
    ],
)
def test_terms_have_the_settings_of_the_size_unless_the_arm_says_otherwise(distillation, expected):
    arm = {'name': 'a', 'experiment': {'distillation': distillation}}
    _, job, _ = a_plan(a_study(arms=[arm]))
    (term,) = job.experiment.distillation.terms
    assert {name: getattr(term, name) for name in expected} == expected


def test_another_family_has_its_own_models_and_its_own_taps():
    models = {
        'pointpillars': {'teacher': 'pointpillars', '4x': 'pointpillars_4x'},
        'second': {'teacher': 'second', '4x': 'second_4x'},
    }
    size = a_size(models=models, students={'4x': {}})
    study = a_study(
        arms=[{'name': name, 'experiment': {'distillation': name}} for name in PRESETS]
    )
    for family, taps in (('second', 'middle.4'), ('pointpillars', 'pillars'), (None, 'pillars')):
        teacher, *students = a_plan(study, size.of_family(family), seeds=[0])
        assert (teacher.experiment.model.name, teacher.experiment.model.width) == (
            family or 'pointpillars',
            1.0,
        )
        for job in students:
            assert (job.experiment.model.name, job.experiment.model.width) == (
                teacher.experiment.model.name,
                0.5,
            )
            (term,) = job.experiment.distillation.terms
            assert (term.taps, term.num_samples) == ((taps,), 64)


def test_compression_of_pointrcnn_is_planned():
    size = load_config(StudySizeConfig, SHIPPED['small']).of_family('pointrcnn')
    study = load_config(StudyConfig, SHIPPED['compression'])
    teacher, *students = plan_study(study, size, size_name='small', seeds=[0])
    assert (teacher.experiment.model.name, teacher.experiment.model.width) == ('pointrcnn', 1.0)
    widths = [round(job.experiment.model.width, 3) for job in students]
    assert widths == [0.357, 0.25, 0.357, 0.25]
    taught = [job.experiment.distillation for job in students]
    assert [each and each.initialization for each in taught] == [None] * 2 + ['slice_norm'] * 2


def test_a_size_without_the_family_is_refused():
    size = a_size(models={'second': {'teacher': 'second', '4x': 'second_4x'}})
    with pytest.raises(ConfigError, match=r"no models of 'pointrcnn'; choose from \['second'\]"):
        size.of_family('pointrcnn')
    bare = a_size(models={'second': {'teacher': 'second', '5x': 'second_4x'}})
    with pytest.raises(ConfigError, match=r"models.second: no model of \['4x', '16x'\]"):
        bare.of_family('second')
    wrong = a_size(models=size.models, families={'pointrcnn': {}})
    with pytest.raises(ConfigError, match=r"families: no models of \['pointrcnn'\]"):
        wrong.of_family('second')
    with pytest.raises(ConfigError, match=r"no models of 'second'; choose from \[\]"):
        a_size().of_family('second')
    assert a_size().of_family(None) == a_size()


def test_arms_of_students_that_a_family_lacks_are_left_out():
    models = {'second': {'teacher': 'second', '4x': 'second_4x'}}
    size = a_size(models=models, students={'4x': {}, '16x': {}}).of_family('second')
    assert size.absent == ('16x',)
    assert [job.arm for job in a_plan(size=size)[1:]] == ['plain', 'plain', 'taught', 'taught']


def test_a_family_may_have_data_and_settings_of_its_own():
    models = {name: {'teacher': 'pointpillars', '4x': 'pointpillars_4x'} for name in ('a', 'b')}
    own = {
        'data': {'format': 'nuscenes', 'train': 9},
        'experiment': {'dataset': {'name': 'nuscenes'}, 'training': {'batch_size': 2}},
    }
    experiment = {'training': {'epochs': 3}}
    size = a_size(
        models=models, families={'b': own}, experiment=experiment, students={'4x': {}, '16x': {}}
    )
    first, second = size.of_family('a'), size.of_family('b')
    assert (first.data.format, first.data.train) == ('kitti', 4)
    assert (second.data.format, second.data.train, second.data.test) == ('nuscenes', 9, 2)
    job = a_plan(a_study(arms=[{'name': 'plain'}]), second)[1]
    assert (job.experiment.training.epochs, job.experiment.training.batch_size) == (3, 2)
    assert job.experiment.dataset.name == 'nuscenes'


def test_problems_of_all_arms_are_reported_together():
    arms = [
        {'name': 'a', 'student': '5x'},
        {'name': 'b', 'experiment': {'training': {'epochs': 0}}},
        {'name': 'c', 'experiment': {'distillation': 'papr'}},
        {'name': 'd', 'experiment': {'model': 'pointpilars'}},
    ]
    with pytest.raises(ConfigError) as error:
        a_plan(a_study(arms=arms))
    message = str(error.value)
    assert "arm a: no student '5x'; choose from ['16x', '4x']" in message
    assert 'arm b:\n  training.epochs' in message
    assert 'arm c, distillation:' in message
    assert "'pointpilars'; choose from" in message


@pytest.mark.parametrize(
    ('experiment', 'message'),
    [
        (
            {'distillation': {'terms': [{'name': 'fitnets', 'taps': ['nek']}]}},
            r"arm a: distillation.terms.fitnets.taps: the teacher has no \['nek'\]; choose from",
        ),
        (
            {'distillation': {'terms': [{'name': 'local_graph', 'num_samples': 10**6}]}},
            'arm a: .*num_samples 1000000 is more than voxels of the models can have',
        ),
        (
            {
                'distillation': {'terms': [], 'initialization': 'slice'},
                'model': {'backbone': {'layers': [1, 1, 1]}},
            },
            'arm a: distillation.initialization: the student must be its teacher',
        ),
        (
            {'distillation': 'default', 'model': {'class_names': ['Car']}},
            'arm a: .*teacher and student must agree on what they see',
        ),
    ],
)
def test_what_no_teacher_can_teach_is_found_before_one_is_trained(experiment, message):
    with pytest.raises(ConfigError, match=f'(?s){message}'):
        a_plan(a_study(arms=[{'name': 'a', 'experiment': experiment}]))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'arms': [{'name': 'a'}, {'name': 'a'}]}, r"arms \['a'\]: each may appear once"),
        ({'arms': [{'name': 'teacher'}]}, "'teacher' is taken"),
        ({'arms': []}, 'at least 1 item'),
        ({'seeds': [1, 1]}, 'each seed may appear once'),
        ({'curves': {'num_samples': ['b']}}, r"there are no arms \['b'\]; there are"),
        ({'arms': [{'name': '../a'}]}, 'should match pattern'),
    ],
)
def test_study_that_makes_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        a_study(**changes)


def test_merge_replaces_lists_and_leaves_its_arguments_alone():
    first, second = {'a': {'b': [1, 2], 'c': 3}}, {'a': {'b': [4]}, 'd': 5}
    assert merge(first, second) == {'a': {'b': [4], 'c': 3}, 'd': 5}
    assert first == {'a': {'b': [1, 2], 'c': 3}}


# --- what is there ---------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path, tiny_model):
    """A folder in which the teacher is complete and one distilled run has begun."""
    teacher = tmp_path / 'runs/teacher-seed9'
    save_bundle(teacher / 'bundle', build_detector(tiny_model), BundleInfo(model=tiny_model))
    (teacher / 'metrics.json').write_text('{}')
    checksum = json.loads((teacher / 'bundle/bundle.json').read_text())['sha256']
    (job,) = (job for job in a_plan() if job.folder == 'runs/taught-seed0')
    facts = {'teacher_sha256': checksum['model.safetensors']}
    open_run(tmp_path / job.folder, job.experiment, facts, resume=False)
    return tmp_path


def test_runs_that_began_as_planned(output):
    check_begun(output, a_plan())


def test_runs_that_began_otherwise(output):
    plan = a_plan(size=a_size(experiment={'training': {'epochs': 8}}))
    with pytest.raises(ConfigError, match=r'taught-seed0(.|\n)*training\.epochs: 3 then, 8 now'):
        check_begun(output, plan)


def test_runs_that_another_teacher_taught(output, tiny_model):
    wide = changed(tiny_model, encoder={'channels': 16})
    bundle = output / 'runs/teacher-seed9/bundle'
    bundle.rename(bundle.with_name('before'))
    check_begun(output, a_plan())  # until there is a new teacher, nothing has changed
    save_bundle(bundle, build_detector(wide), BundleInfo(model=wide))
    with pytest.raises(ConfigError, match='teacher_sha256'):
        check_begun(output, a_plan())


@pytest.mark.parametrize('name', ['metrics.json', 'metrics.jsonl', 'run.json', 'features.json'])
def test_damage_is_found_before_anything_is_trained(output, name):
    (job,) = (job for job in a_plan() if job.folder == 'runs/taught-seed0')
    run = output / job.folder
    facts = json.loads((run / 'run.json').read_text())['facts']
    finish(run, 30.0, [1.5], facts)
    check_begun(output, a_plan())
    (run / name).write_text('{"sess')
    for read in (lambda: check_begun(output, a_plan()), lambda: collect_runs(output, [job])):
        with pytest.raises(CheckpointError, match=f'taught-seed0/{name}: missing or damaged'):
            read()


def test_damage_to_a_run_whose_teacher_is_not_there(output):
    (output / 'runs/teacher-seed9/metrics.json').unlink()
    (output / 'runs/taught-seed0/run.json').write_text('[]')
    with pytest.raises(CheckpointError, match=r'taught-seed0/run\.json: missing or damaged'):
        check_begun(output, a_plan())


# --- what was found --------------------------------------------------------------------------


def finish(run: Path, car: float, seconds: list[float], facts: object = None) -> None:
    (run / 'bundle').mkdir(parents=True)
    levels = {'ap11': [0, 0, 0], 'ap40': [car + 1, car, car - 1]}
    metrics = {'validation': {metric: {'Car': levels} for metric in ('bev', '3d')}}
    (run / 'metrics.json').write_text(json.dumps(metrics))
    lines = [json.dumps({'seconds': value, 'losses': {'total': value}}) for value in seconds]
    (run / 'metrics.jsonl').write_text('\n'.join(lines))
    sessions = [{'revision': name, 'machine': {'cores': 2}} for name in ('b', 'a', 'b')]
    (run / 'run.json').write_text(json.dumps({'facts': facts, 'sessions': sessions}))


def test_complete_runs_are_collected(tmp_path):
    finish(tmp_path / 'runs/plain-seed1', 30.0, [1.5, 2.0])
    (tmp_path / 'runs/plain-seed0').mkdir()
    (found,) = collect_runs(tmp_path, a_plan())
    checksum = found.pop('config_sha256')
    assert found == {
        'arm': 'plain',
        'seed': 1,
        'revisions': ['a', 'b'],
        'metric': 'kitti',
        'means': ['BEV mAP', '3D mAP'],
        'ap40': {'bev': {'Car': [31, 30, 29]}, '3d': {'Car': [31, 30, 29]}},
        'scores': {
            'BEV mAP': 10.0,
            '3D mAP': 10.0,
            '3D Car': 30.0,
            '3D Pedestrian': 0.0,
            '3D Cyclist': 0.0,
        },
        'seconds': 3.5,
        'machine': {'cores': 2},
    }
    assert scores_by_arm([found]) == {'plain': {1: found['scores']}}
    finish(tmp_path / 'runs/taught-seed0', 30.0, [3.0, 2.0, 1.5])
    features = {'student': {'neck': {'cka': 0.5}}}
    (tmp_path / 'runs/taught-seed0/features.json').write_text(json.dumps(features))
    _, taught = collect_runs(tmp_path, a_plan())
    assert taught['losses'] == {'first': {'total': 3.0}, 'last': {'total': 1.5}}
    assert taught['features'] == features
    changed = a_plan(size=a_size(experiment={'training': {'epochs': 8}}))
    assert collect_runs(tmp_path, changed)[0]['config_sha256'] != checksum


def test_distilled_arms_are_compared_with_the_same_network_on_labels_alone():
    assert list_arms(a_study(), a_plan()) == [
        Arm('teacher', 'teacher'),
        Arm('taught', 'distilled', 'plain'),
        Arm('plain', 'plain'),
        Arm('taught_16x', 'taught_16x', 'plain_16x'),
        Arm('plain_16x', 'plain_16x'),
    ]


def test_arms_are_compared_with_labels_alone_of_the_same_schedule():
    longer = {'training': {'epochs': 9}}
    distilled = STUDY['arms'][0]['experiment']
    study = a_study(
        arms=[
            *STUDY['arms'],
            {'name': 'plain_long', 'experiment': longer},
            {'name': 'taught_long', 'experiment': {**distilled, **longer}},
        ]
    )
    baselines = {arm.name: arm.baseline for arm in list_arms(study, a_plan(study))}
    assert (baselines['taught'], baselines['taught_long']) == ('plain', 'plain_long')


def test_without_labels_alone_there_is_nothing_to_compare_with():
    study = a_study(arms=STUDY['arms'][:1])
    assert list_arms(study, a_plan(study)) == [
        Arm('teacher', 'teacher'),
        Arm('taught', 'distilled'),
    ]


def test_settings_are_those_that_the_runs_have():
    study = a_study(
        arms=[
            *STUDY['arms'],
            {
                'name': 'few',
                'experiment': {
                    'distillation': {'terms': [{'name': 'local_graph', 'num_samples': 8}]}
                },
            },
            {'name': 'many', 'size': 'big'},
        ],
        curves={'num_samples': ['taught', 'few', 'many'], 'num_neighbors': ['taught']},
    )
    assert setting_values(study, a_plan(study)) == {
        'num_samples': {'taught': 64, 'few': 8},
        'num_neighbors': {'taught': 4},
    }


def test_setting_that_an_arm_does_not_have():
    study = a_study(curves={'num_samples': ['plain']})
    with pytest.raises(ConfigError, match=r"curves\.num_samples: no term of the arm 'plain'"):
        setting_values(study, a_plan(study))


# --- shipped studies -------------------------------------------------------------------------


def test_these_are_shipped():
    assert set(SHIPPED) == {
        *('ablation', 'capacity', 'compression', 'graphs', 'methods', 'schedule', 'sensitivity'),
        *SIZES,
    }


def shipped_arms() -> list[tuple[str, str, ArmConfig]]:
    """Size, study and arm."""
    studies = {
        name: load_config(StudyConfig, path) for name, path in SHIPPED.items() if name not in SIZES
    }
    return [
        (size, name, arm)
        for size, (name, study) in product(SIZES, studies.items())
        for arm in study.arms
        if arm.size in {None, size}
    ]


def uses_what_exists(arm: ArmConfig) -> bool:
    distillation = arm.experiment.get('distillation')
    if not isinstance(distillation, dict):
        return True
    terms = [term if isinstance(term, str) else term['name'] for term in distillation['terms']]
    return set(terms) <= set(TERMS) and set(distillation) <= set(DistillationConfig.model_fields)


@pytest.mark.parametrize('size', SIZES)
def test_arms_of_one_name_are_the_same_in_all_studies(size):
    settings = load_config(StudySizeConfig, SHIPPED[size]).of_family(None)
    seen = {}
    for _, study, arm in (entry for entry in shipped_arms() if entry[0] == size):
        if arm.student in settings.absent:
            continue
        content = arm.student, experiment_values(settings, arm)
        assert seen.setdefault(arm.name, content) == content, (study, arm.name)


@pytest.mark.parametrize(
    ('size', 'study', 'arm'),
    [
        pytest.param(size, study, arm, id=f'{size}-{study}-{arm.name}')
        for size, study, arm in shipped_arms()
    ],
)
@pytest.mark.parametrize('family', ['pointpillars', 'second', 'pointpillars_nuscenes'])
def test_shipped_arms_are_valid(size, study, arm, family):
    if not uses_what_exists(arm):
        pytest.skip(f'{study}: {arm.name} uses terms that are not there yet')
    shipped = load_config(StudySizeConfig, SHIPPED[size])
    if family not in shipped.models or arm.student not in shipped.models[family]:
        pytest.skip(f'{size} has no {arm.student} of {family}')
    settings = shipped.of_family(family)
    plan = plan_study(
        StudyConfig(title='one arm', arms=(arm,)), settings, size_name=size, seeds=(3,)
    )
    assert [job.folder for job in plan[1:]] == [f'runs/{arm.name}-seed3']
    assert {job.experiment.model.name for job in plan} == {family.partition('_')[0]}


@pytest.mark.parametrize('size', ['small', 'full'])  # `long` is for few arms
def test_shipped_curves_have_their_settings(size):
    study = load_config(StudyConfig, SHIPPED['sensitivity'])
    settings = load_config(StudySizeConfig, SHIPPED[size]).of_family(None)
    plan = plan_study(study, settings, size_name=size)
    for values in setting_values(study, plan).values():
        assert len(values) >= 5
        assert len(set(values.values())) == len(values)
