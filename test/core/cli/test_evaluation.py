# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller evaluate`, of result files and of a bundle."""

from __future__ import annotations

import json
from pathlib import Path
import re
import subprocess
import sys
from types import MappingProxyType

from archives import unpack
from kitti_folder import write_frame
from matplotlib.image import imread
import pytest

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.evaluation.metric import METRICS, Scores
from pointdistiller_core.pipelines.make_bag import write_kitti_bag

LABEL = 'Car 0 0 1.5 100 100 200 150 1.5 1.6 4 {x} 1.5 20 1.5\n'
RESULT = LABEL.replace('\n', ' 0.9\n')
KINDS, COUNTS = ('BEV', '3D'), ('num_found', 'num_false')


@pytest.fixture
def files(tmp_path) -> list[object]:
    """Options that evaluate four frames, each with one car; the last is not found."""
    for folder in ('labels', 'results'):
        (tmp_path / folder).mkdir()
    for index in range(4):
        text = LABEL.format(x=index)
        (tmp_path / 'labels' / f'{index}.txt').write_text(text, encoding='utf-8')
        text = RESULT.format(x=index) if index < 3 else ''
        (tmp_path / 'results' / f'{index}.txt').write_text(text, encoding='utf-8')
    return ['--predictions', tmp_path / 'results', '--labels', tmp_path / 'labels']


def row_of(table: str, name: str) -> list[str]:
    (row,) = [line for line in table.splitlines() if f' {name} ' in line]
    return row.strip('│ ').split('│')[1:]


def test_result_files(run, files, tmp_path):
    options = ['--json', tmp_path / 'new' / 'ap.json', '--curves', tmp_path / 'curves.png']
    code, table, notes = run('evaluate', *files, *options)
    assert code == 0
    assert '(4 frames)' in table
    # Three hits make three of 41 points: 1 and 2 count for R40, 0 for R11.
    expected = ['5.00'] * 3 + ['9.09'] * 3
    for metric in ('2D', 'BEV', '3D', 'AOS'):
        assert [cell.strip() for cell in row_of(table, f'{metric} Car')] == expected
        for name in ('Pedestrian', 'Cyclist'):
            assert [cell.strip() for cell in row_of(table, f'{metric} {name}')] == ['-'] * 6
    precision = {'Car': {'ap11': [9.0909] * 3, 'ap40': [5.0] * 3}}
    written = json.loads((tmp_path / 'new' / 'ap.json').read_text(encoding='utf-8'))
    assert written == dict.fromkeys(('bbox', 'bev', '3d', 'aos'), precision)
    assert 'wrote' in notes
    assert imread(tmp_path / 'curves.png').shape[1] > 1000


def test_json_alone_on_stdout(run, files):
    code, output, table = run('evaluate', *files, '--json', '-')
    assert code == 0
    assert list(json.loads(output)) == ['bbox', 'bev', '3d', 'aos']
    assert 'R40 moderate' in table


def test_split_and_overlaps(run, files, tmp_path):
    split = tmp_path / 'split.txt'
    split.write_text('0\n3\n', encoding='utf-8')
    overlaps = ['--min-overlap', 'Car=0.5', '--min-overlap', 'Tram=0.25']
    code, table, _ = run('evaluate', *files, '--split', split, *overlaps)
    assert code == 0
    assert '(2 frames)' in ' '.join(table.split())  # a long path wraps the line
    assert row_of(table, '3D Tram')
    assert 'Pedestrian' not in table


def test_result_files_need_no_torch(files):
    code = 'from pointdistiller_core.cli.app import app; import sys; '
    code += 'app(sys.argv[1:], standalone_mode=False); sys.exit("torch" in sys.modules)'
    command = [sys.executable, '-c', code, 'evaluate', *map(str, files)]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == 0


BOTH = 'give BUNDLE and --dataset, or --predictions and --labels'
OVERLAP = 'expected CLASS=IOU'
TWICE = 'Car=0.7: Car is given twice'
OVERLAPS = 'expected CLASS=IOU, or CLASS=IOU/IOU from above and in 3D'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('', BOTH),
        ('--json ap.json', BOTH),
        ('bundle', 'to evaluate a bundle, give --dataset'),
        ('--dataset d --results r', 'to evaluate a bundle, give BUNDLE'),
        ('--device cuda', 'to evaluate a bundle, give BUNDLE, --dataset'),
        ('--labels l', 'to evaluate result files, give --predictions'),
        (
            'b --predictions p --dataset d',
            'to evaluate result files, give --labels and leave out BUNDLE, --dataset',
        ),
        (
            '--predictions p --labels l --results r --no-camera-view',
            'to evaluate result files, leave out --results, --camera-view',
        ),
        ('--predictions p --labels l', 'l: no such folder'),
        ('--curves c.png', BOTH),
        ('b --dataset d', 'd: no such file or folder'),
        (
            'b --dataset d --metric mota',
            "metric 'mota': unknown; choose from ['kitti', 'lidar', 'nuscenes']",
        ),
        (
            'b --dataset d --metric lidar --results r --curves c.png',
            'to evaluate a bundle by another metric than kitti, leave out --curves',
        ),
        (
            '--predictions p --labels l --metric lidar',
            'metric than kitti, give BUNDLE, --dataset and leave out --predictions, --labels',
        ),
        ('b --dataset d --metric kitti --min-overlap Car=0.7/0.5', OVERLAP),
        ('b --dataset d --metric lidar --min-overlap Car=0.7/0.5/0.3', OVERLAPS),
        ('b --dataset d --metric lidar --min-overlap Car=0.7/1', OVERLAPS),
        ('b --dataset d --metric lidar --min-overlap Car=', OVERLAPS),
        ('b --dataset d --metric lidar --min-overlap =0.5', OVERLAPS),
        ('--predictions p --labels l --curves c.pdf', 'c.pdf: choose a name that ends in .png'),
        ('--predictions p --labels l --min-overlap Car', OVERLAP),
        ('--predictions p --labels l --min-overlap =0.5', OVERLAP),
        ('--predictions p --labels l --min-overlap Car=1.0', OVERLAP),
        ('--predictions p --labels l --min-overlap Car=nan', OVERLAP),
        ('b --dataset d --metric kitti --min-overlap Car=0.5 --min-overlap Car=0.7', TWICE),
        ('b --dataset d --metric lidar --min-overlap Car=0.5 --min-overlap Car=0.7', TWICE),
    ],
)
def test_one_error_for_what_does_not_fit(run, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, output, error = run('evaluate', *options.split())
    assert (code, output) == (2, '')
    assert error.startswith('error: ')
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_bundle(run, bundle, dataset, tmp_path):
    results = tmp_path / 'results'
    options = ['--dataset', dataset, '--results', results, '--json', tmp_path / 'bundle.json']
    code, table, notes = run('evaluate', bundle, *options)
    assert code == 0
    assert '(val, 2 frames)' in table
    assert 'wrote the results of 2 frames' in notes
    lines = (results / '000001.txt').read_text(encoding='utf-8').splitlines()
    assert 0 < len(lines) <= 20
    assert {len(line.split()) for line in lines} == {16}

    files = ['--predictions', results, '--labels', dataset / 'training' / 'label_2']
    overlap = ['--min-overlap', 'Car=0.7', '--json', tmp_path / 'files.json']
    code, again, _ = run('evaluate', *files, *overlap)
    assert code == 0
    assert row_of(again, '3D Car') == row_of(table, '3D Car')
    written = [
        json.loads((tmp_path / f'{name}.json').read_bytes()) for name in ('bundle', 'files')
    ]
    assert written[0] == written[1]


def test_a_bundle_at_other_overlaps(run, bundle, dataset):
    tables = [
        run('evaluate', bundle, '--dataset', dataset, '--min-overlap', f'Car={least}')[1]
        for least in (0.0, 0.99)
    ]
    assert 'Pedestrian' not in tables[0]
    assert row_of(tables[0], 'BEV Car') != row_of(tables[1], 'BEV Car')


@pytest.mark.parametrize('metric', ['kitti', 'lidar'])
def test_classes_that_a_bundle_does_not_know_are_named(run, bundle, dataset, metric):
    options = ['--dataset', dataset, '--metric', metric]
    overlaps = ['--min-overlap', 'car=0.5', '--min-overlap', 'Car=0.5', '--min-overlap', 'Tram=0']
    code, table, notes = run('evaluate', bundle, *options, *overlaps)
    assert code == 0
    notes = ' '.join(notes.split())
    assert f'not evaluated, unknown to {bundle}: car, Tram; it knows Car' in notes
    assert 'car' not in table.replace(str(bundle), '').replace(str(dataset), '')
    assert 'unknown' not in run('evaluate', bundle, *options)[2]  # nothing was asked for


def test_classes_of_a_bundle_without_a_least_overlap(run, bundle, dataset):
    code, _, error = run('evaluate', bundle, '--dataset', dataset, '--min-overlap', 'Tram=0.5')
    assert code == 2
    assert 'which have no least overlap; give --min-overlap Car=0.5' in error


def test_classes_without_a_detection_are_said(run, make_bundle, dataset):
    bundle = make_bundle('blind', detection=DetectionConfig(score_threshold=1.0))
    code, table, notes = run('evaluate', bundle, '--dataset', dataset, '--min-overlap', 'Car=0.5')
    assert code == 0
    assert [cell.strip() for cell in row_of(table, '3D Car')] == ['-'] * 6
    assert 'no AP, as in the benchmark, without detections: Car' in notes


def test_what_the_labels_allow_is_said_of_every_class(run, files, tmp_path):
    label = tmp_path / 'labels' / '0.txt'
    hidden, low = 'Car 0 3 0 0 0 99 99 1 1 1 0 0 9 0', 'Car 0 0 0 0 0 9 9 1 1 1 0 0 9 0'
    label.write_text(f'{LABEL.format(x=0)}{hidden}\n{low}\n', encoding='utf-8')
    notes = run('evaluate', *files)[2]
    perfect = 'a perfect detector has AP|R40 7.5, 7.5, 7.5, AP|R11 9.1, 9.1, 9.1'
    assert f'Car: 4, 4, 4 of 6 labels count; {perfect}' in notes
    assert 'Car: labels that never count: 1 at most 25 pixels high, 1 occluded above 2' in notes
    for name in ('Pedestrian', 'Cyclist'):
        assert f'{name}: 0, 0, 0 of 0 labels count; a perfect detector has AP|R40 0.0' in notes


@pytest.mark.parametrize('box', ['0 0 0 0', '-1 -1 -1 -1'])
def test_objects_without_2d_boxes_are_projected_or_said(run, tmp_path, box):
    """A perfect detector is perfect where a calibration is there, and the metric's limit is said
    where it is not.
    """
    car = [12.0, 1.0, -1.0, 3.9, 1.6, 1.5, 0.3]
    for index in range(4):
        write_frame(tmp_path, f'{index}', [], [car], ['Car'])
    labels, results = tmp_path / 'training' / 'label_2', tmp_path / 'results'
    results.mkdir()
    files = ['evaluate', '--predictions', results, '--labels', labels]
    rows = []
    for written in (None, box):
        for path in labels.iterdir():
            fields = path.read_text(encoding='utf-8').split()
            fields[4:8] = written.split() if written else fields[4:8]
            path.write_text(' '.join(fields), encoding='utf-8')
            (results / path.name).write_text(' '.join([*fields, '0.9']), encoding='utf-8')
        code, table, notes = run(*files)
        assert code == 0
        rows.append([row_of(table, f'{metric} Car') for metric in ('2D', 'BEV', '3D', 'AOS')])
    assert rows[0] == rows[1]
    assert rows[0][0][0].strip() == '7.50'
    assert '8 objects have no 2D box: 8 3D boxes are projected; 0 are' in notes
    (tmp_path / 'training').rename(tmp_path / 'elsewhere')
    notes = run(*files[:-1], tmp_path / 'elsewhere' / 'label_2')[2]
    assert '8 objects have no 2D box' in notes
    assert 'training/label_2 beside training/calib' in notes
    assert 'Car: 0, 0, 0 of 4 labels count' in notes
    assert 'Car: labels that never count: 4 without a 2D box' in notes
    assert 'Car: 4 detections have no place in the image (no 2D box)' in notes


def test_the_lidar_metric_of_a_bundle(run, bundle, dataset, tmp_path):
    file = tmp_path / 'lidar.json'
    options = ['--metric', 'lidar', '--json', file, '--min-overlap', 'Car=0.1/0']
    code, table, notes = run('evaluate', bundle, '--dataset', dataset, *options)
    assert code == 0
    written = json.loads(file.read_text(encoding='utf-8'))
    assert written['num_labels'] == {'Car': 4}
    assert written['details']['min_overlaps'] == {'Car': {'BEV': 0.1, '3D': 0.0}}
    scores = [written['by_class']['Car'][f'{kind} AP'] for kind in ('BEV', '3D')]
    assert scores[1] > 0
    texts = [f'{score:.2f}' for score in scores]
    title, both, *of_bins = table.split('AP|R40 [%]')
    of_classes, counts = both.split('found and false, 2 frames')
    counted = [written['details'][of]['Car'][kind] for kind in KINDS for of in COUNTS]
    assert counted[0] > 0  # the bundle finds something
    assert [cell.strip() for cell in row_of(counts, 'Car')] == ['4', *map(str, counted)]
    assert f'{bundle} on {dataset} (val, 2 frames)' in title
    cells = [[cell.strip() for cell in row_of(of_classes, name)] for name in ('Car', 'mean')]
    assert cells == [['0.1/0', *texts, '4'], ['', *texts]]
    for split, part in zip(('by_distance', 'by_points'), of_bins, strict=True):
        bins = written['details'][split]['Car']
        assert sum(cell['num_labels'] for cell in bins.values()) == 4
        assert all(name in part for name in bins)
        shown = [cell['3D AP'] for cell in bins.values()]
        assert None in shown
        texts = ['-' if value is None else f'{value:.2f}' for value in shown]
        assert [cell.strip() for cell in row_of(part, '3D Car')[:4]] == texts
    assert 'Car: 4 of 4 labels count, 0 have no point; ' in notes


def test_the_lidar_metric_needs_no_camera(run, bundle, dataset, tmp_path):
    """Neither 2D boxes nor the size of the image; the KITTI metric has nothing left then."""
    (dataset / 'image_sizes.json').unlink()
    written = []
    for name in ('before', 'after'):
        options = ['--dataset', dataset, '--no-camera-view', '--json', tmp_path / name]
        assert run('evaluate', bundle, *options, '--metric', 'lidar')[0] == 0
        written.append(json.loads((tmp_path / name).read_text(encoding='utf-8')))
        for path in (dataset / 'training' / 'label_2').iterdir():
            lines = [line.split() for line in path.read_text(encoding='utf-8').splitlines()]
            hidden = [' '.join([fields[0], '1 3 0 0 0 0 0', *fields[8:]]) for fields in lines]
            path.write_text('\n'.join([*hidden, '']), encoding='utf-8')
    assert written[0] == written[1]
    assert written[0]['num_labels']['Car'] == 4


def test_the_lidar_metric_says_what_does_not_count(run, bundle, dataset):
    label = dataset / 'training' / 'label_2' / '000000.txt'
    car = LABEL.format(x=0).replace(' 20 1.5', ' 60 1.5')  # 60 m ahead there is no point
    van = car.replace('Car', 'Van')
    label.write_text(label.read_text(encoding='utf-8') + car + van, encoding='utf-8')
    code, _, notes = run('evaluate', bundle, '--dataset', dataset, '--metric', 'lidar')
    assert code == 0
    assert 'Car: 4 of 5 labels count, 1 have no point; ' in notes
    assert '1 labels of other classes, or out of view, are ignored' in notes
    assert 'labels of other classes, which are ignored: 1 Van; --class-map' in notes
    options = ['--metric', 'lidar', '--class-map', 'Van=Car', '--class-map', 'Vann=Car']
    code, _, notes = run('evaluate', bundle, '--dataset', dataset, *options)
    assert code == 0
    assert 'Car: 4 of 6 labels count, 2 have no point; ' in notes
    assert 'class map: 1 Van are Car' in notes
    assert 'class map: nothing is called Vann; the classes are Car, Van' in notes
    assert 'which are ignored' not in notes


def test_classes_of_result_files_get_new_names(run, files, tmp_path):
    for path in (tmp_path / 'labels').iterdir():
        path.write_text(path.read_text(encoding='utf-8').replace('Car', 'car'), encoding='utf-8')
    for path in (tmp_path / 'results').iterdir():
        path.write_text(path.read_text(encoding='utf-8').replace('Car', 'car'), encoding='utf-8')
    _, _, notes = run('evaluate', *files)
    assert 'labels of other classes, which are ignored: 4 car' in notes
    code, table, _ = run('evaluate', *files, '--class-map', 'nuscenes')
    assert (code, row_of(table, 'BEV Car')[0].strip()) == (0, '5.00')
    code, _, notes = run('evaluate', *files, '--class-map', 'nuscene')
    assert code == 2
    assert "'nuscene' is no map of classes; choose from ['nuscenes', 'vod', 'autoware']" in notes


@pytest.fixture
def bag(dataset, tmp_path) -> Path:
    """The same frames as a bag, and their boxes."""
    write_kitti_bag(dataset, tmp_path / 'bag', ground_truth=('Pedestrian', 'Car'))
    return tmp_path / 'bag'


def test_a_labelled_bag(run, bundle, dataset, bag, tmp_path):
    """It has the scores of the dataset that it was made of."""
    least = ['--metric', 'lidar', '--min-overlap', 'Car=0.1/0']
    options = [*least, '--class', 'Pedestrian', '--class', 'Car', '--json', tmp_path / 'bag.json']
    code, table, notes = run('evaluate', bundle, '--dataset', bag, *options)
    assert code == 0
    assert f'{bundle} on {bag} (2 frames)' in table
    assert 'Car: 4 of 4 labels count' in notes
    options = [*least, '--no-camera-view', '--json', tmp_path / 'dataset.json']
    assert run('evaluate', bundle, '--dataset', dataset, *options)[0] == 0
    written = [json.loads((tmp_path / f'{name}.json').read_bytes()) for name in ('bag', 'dataset')]
    assert written[0] == written[1]
    assert written[0]['means']['3D mAP'] > 0
    results = tmp_path / 'results'
    code, _, notes = run('evaluate', bundle, '--dataset', bag, '--results', results)
    assert (code, 'wrote the results of 2 frames' in notes) == (0, True)
    assert 'warning' not in notes  # the bag says which classes its labels are
    found = json.loads((results / '000001.json').read_text(encoding='utf-8'))
    assert len(found['boxes']) == len(found['scores']) == len(found['classes']) == 20


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('--metric kitti', 'the KITTI metric needs a camera'),
        ('--curves c.png', 'by another metric than kitti, leave out --curves'),
        ('--split val', "split: Input should be 'all'"),
        ('--ground-truth /boxes', 'no boxes on /boxes; name their topic (ground_truth'),
    ],
)
def test_what_a_bag_has_not(run, bundle, bag, options, message):
    code, _, error = run('evaluate', bundle, '--dataset', bag, *options.split())
    assert code == 2
    assert message in error


class Found:
    """A metric that counts detections."""

    quantity, min_overlaps = 'detections', MappingProxyType({})

    def evaluate(self, frames, indices, found):
        assert len(indices) == len(found)
        total = sum(map(len, found))
        names = frames.class_names
        return Scores({'found': total}, {name: {'found': total} for name in names}, {'Car': 4})


def test_a_metric_of_ones_own(run, bundle, dataset, bag, monkeypatch):
    monkeypatch.setitem(METRICS, 'found', Found)
    for where in (dataset, bag):
        code, table, _ = run('evaluate', bundle, '--dataset', where, '--metric', 'found')
        assert code == 0
        assert row_of(table, 'mean')[0].strip() == '40.00'
    options = ['--metric', 'found', '--min-overlap', 'Car=0.5']
    error = run('evaluate', bundle, '--dataset', dataset, *options)[2]
    assert '--min-overlap: the metric found has no least overlaps' in error


def test_what_the_caps_cut_off_is_said(run, make_bundle, dataset):
    caps = {'max_points': 1, 'max_voxels': 10}
    cut = make_bundle('cut', voxels=caps)
    notes = run('evaluate', cut, '--dataset', dataset)[2]
    # Ten points of each of the two clouds remain, one in a pillar.
    points, used = re.search(r'(\d+) of (\d+) points', notes).groups()
    assert int(used) - int(points) == 20
    voxels, occupied = re.search(r'(\d+) of (\d+) voxels in range', notes).groups()
    assert int(occupied) - int(voxels) == 20
    clouds = [dataset / 'training' / 'velodyne' / f'00000{index}.bin' for index in (0, 1)]
    assert notes_of_cuts(run('detect', cut, *clouds, '--backend', 'torch')[2])
    caps = {'max_points': 1000, 'max_voxels': 1024}
    whole = make_bundle('whole', voxels=caps)
    assert not notes_of_cuts(run('evaluate', whole, '--dataset', dataset)[2])
    assert not notes_of_cuts(run('detect', whole, *clouds, '--backend', 'torch')[2])


def notes_of_cuts(notes: str) -> list[str]:
    return re.findall(r'only some points are used, as in training: \d+ of', notes)


def test_a_bundle_runs_in_the_precision_that_was_asked_for(run, bundle, dataset, tmp_path):
    for precision in ('fp32', 'bf16'):
        options = ['--precision', precision, '--results', tmp_path / precision]
        assert run('evaluate', bundle, '--dataset', dataset, *options)[0] == 0
    texts = [(tmp_path / name / '000000.txt').read_text('utf-8') for name in ('fp32', 'bf16')]
    assert texts[0] != texts[1]


def test_a_bundle_does_not_mix_its_results_with_others(run, bundle, dataset, tmp_path):
    results = tmp_path / 'results'
    options = ['--dataset', dataset, '--results', results]
    assert run('evaluate', bundle, *options, '--no-camera-view')[0] == 0
    code, output, error = run('evaluate', bundle, *options, '--split', 'one')
    assert (code, output) == (2, '')
    assert 'results: holds result files of other frames (000000, 1 in all)' in error


def test_equals_the_official_program(run, shared_data, tmp_path):
    folder = shared_data / 'kitti_eval'
    ids = (folder / 'val.txt').read_text(encoding='utf-8').split()[:200]
    (tmp_path / 'first.txt').write_text('\n'.join(ids), encoding='utf-8')
    for name in ('label_2', 'perturbed_seed1'):
        unpack(folder / f'{name}.tar.xz', tmp_path, lambda file: file.stem in ids)
    files = ['--predictions', tmp_path / 'perturbed_seed1', '--labels', tmp_path / 'label_2']
    split = ['--split', tmp_path / 'first.txt', '--json', tmp_path / 'ap.json']
    assert run('evaluate', *files, *split)[0] == 0
    written = json.loads((tmp_path / 'ap.json').read_text(encoding='utf-8'))
    expected = json.loads((folder / 'perturbed_expected.json').read_text(encoding='utf-8'))
    assert flat(written) == pytest.approx(flat(expected['seed1_first200']), abs=2e-4)


def flat(metrics: dict[str, dict[str, dict[str, list[float]]]]) -> dict[tuple[object, ...], float]:
    return {
        (metric, name, key, index): value
        for metric, classes in metrics.items()
        for name, precisions in classes.items()
        for key, values in precisions.items()
        for index, value in enumerate(values)
    }
