# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path
import signal
import subprocess
import sys

from bag_files import McapMessage, cloud_cdr, mcap_bytes
import numpy as np
import pytest
from recording_bags import SECOND, START, RecordingWriter, scene, transform, write_recording

from pointdistiller_core import files
from pointdistiller_core.config import ConversionConfig, FolderConfig, SplitConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import ConfigError, DatasetError, WriteError
from pointdistiller_core.formats.folder import FrameTable, read_info
from pointdistiller_core.geometry.transforms import rotation_from_angles
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.pipelines.bag_conversion import convert_bags, drive_names


def convert(bag, root, *, splits=None, strict=False, drive='', **config):
    names = {drive: bag} if drive else drive_names([bag])
    settings = ConversionConfig(**{'poses': 'none', **config})
    return convert_bags(names, root, settings, splits or SplitConfig(), strict=strict)[0]


def rows_of(root):
    return list(FrameTable(root / 'frames.csv'))


def tree_of(root):
    paths = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture
def bag(tmp_path):
    return write_recording(tmp_path / 'bag')


def test_points_keep_every_bit(bag, tmp_path):
    drive = convert(bag, tmp_path / 'data')
    assert (drive.name, drive.num_frames, drive.num_new) == ('bag', 10, 10)
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'data', split='all'), (), labelled=False)
    for number in range(10):
        np.testing.assert_array_equal(dataset[number].points, scene(number, count=300))
        assert dataset[number].stamp_ns == START + number * SECOND // 10


def test_again_there_is_nothing_to_do(bag, tmp_path):
    convert(bag, tmp_path / 'data')
    before = tree_of(tmp_path / 'data')
    assert convert(bag, tmp_path / 'data').num_new == 0
    assert tree_of(tmp_path / 'data') == before


def test_other_settings_or_another_recording_are_refused(bag, tmp_path):
    convert(bag, tmp_path / 'data')
    with pytest.raises(DatasetError, match='other settings: stride: 1 -> 2; choose another'):
        convert(bag, tmp_path / 'data', stride=2)
    other = write_recording(tmp_path / 'x' / 'bag', stamps_ns=[START + 5])
    (tmp_path / 'data' / 'dataset.yaml').write_text(
        (tmp_path / 'data' / 'dataset.yaml').read_text().replace(str(START), '17')
    )
    with pytest.raises(DatasetError, match='is of another recording'):
        convert(other, tmp_path / 'data')


def test_bags_can_be_added(bag, tmp_path):
    root = tmp_path / 'data'
    convert(bag, root)
    other = write_recording(tmp_path / 'other', num_clouds=7)
    assert convert(other, root).num_new == 7
    assert [row.drive for row in rows_of(root)] == ['bag'] * 10 + ['other'] * 7
    assert set(read_info(root).drives) == {'bag', 'other'}


# --- thinning --------------------------------------------------------------------------------


def test_every_third_cloud(bag, tmp_path):
    drive = convert(bag, tmp_path / 'data', stride=3)
    assert [row.stamp_ns - START for row in rows_of(tmp_path / 'data')] == [
        number * SECOND // 10 for number in (0, 3, 6, 9)
    ]
    assert drive.info.counts['by_stride'] == 6


def test_a_least_period_forgives_a_sensor_its_jitter(tmp_path):
    stamps = [START + number * SECOND // 10 - number % 2 * 100_000 for number in range(10)]
    bag = write_recording(tmp_path / 'bag', stamps_ns=stamps)
    convert(bag, tmp_path / 'data', min_period_s=0.3)
    kept = [row.stamp_ns for row in rows_of(tmp_path / 'data')]
    assert kept == [stamps[number] for number in (0, 3, 6, 9)]


@pytest.mark.parametrize('recorded', [{'tf': True}, {'odometry_topic': '/odom', 'tf': False}])
def test_motion_thins_by_tf_or_odometry(tmp_path, recorded):
    bag = write_recording(tmp_path / 'bag', speed=10.0, **recorded)
    drive = convert(bag, tmp_path / 'data', poses='auto', min_distance=2.9)
    rows = rows_of(tmp_path / 'data')
    assert [row.stamp_ns - START for row in rows] == [
        number * SECOND // 10 for number in (0, 3, 6, 9)
    ]
    steps = np.diff([row.pose.values[0] for row in rows])
    np.testing.assert_allclose(steps, 3.0, atol=1e-9)
    source = 'tf' if recorded['tf'] else 'odometry'
    assert drive.info.choices['poses']['source'] == source


def test_a_vehicle_that_stands_gives_one_frame(tmp_path):
    bag = write_recording(tmp_path / 'bag', speed=0.0, tf=True)
    drive = convert(bag, tmp_path / 'data', poses='tf', min_distance=1)
    assert drive.num_frames == 1
    assert drive.info.counts['too_near'] == 9


def test_poses_are_of_the_frame_that_the_points_are_in(tmp_path):
    bag = write_recording(tmp_path / 'bag', tf=True, height=2.73)
    drive = convert(bag, tmp_path / 'data', poses='tf')
    assert drive.info.choices['height']['height'] == pytest.approx(2.73, abs=0.02)
    row = rows_of(tmp_path / 'data')[4]
    points = FolderDataset(FolderConfig(root=tmp_path / 'data', split='all'), (), labelled=False)
    moved = (row.pose.matrix @ np.insert(points[4].points[:, :3], 3, 1, axis=1).T)[:3].T
    expected = scene(4, height=2.73, count=300)[:, :3] + [1 + 4.0, 0, 1]
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_poses_that_are_not_there_are_refused_by_name(bag, tmp_path):
    for poses, reason in (('tf', 'moves'), ('odometry', 'no nav_msgs/Odometry')):
        with pytest.raises(ConfigError, match=reason):
            convert(bag, tmp_path / 'data', poses=poses)


def test_clouds_before_the_first_transform_have_no_pose(tmp_path):
    path = tmp_path / 'bag'
    with RecordingWriter(path) as writer:
        for number in range(12):
            time_ns = START + number * SECOND // 10
            if number >= 3:
                writer.tf(time_ns, [transform('odom', 'lidar', time_ns, xyz=(number, 0, 0))])
            writer.write('/points', time_ns, 'lidar', scene(number, count=300))
    drive = convert(path, tmp_path / 'data', poses='tf')
    assert [row.pose is None for row in rows_of(tmp_path / 'data')] == [True] * 3 + [False] * 9
    assert drive.info.counts['without_pose'] == 3


def test_icp_is_refused_by_name_where_it_is_not_installed(bag, tmp_path, monkeypatch):
    module = 'pointdistiller_core.pipelines.bag_conversion'
    for place in ('pose_sources', 'choices'):
        monkeypatch.setattr(f'{module}.{place}.is_icp_installed', lambda: False)
    with pytest.raises(ConfigError, match=r'need the package kiss-icp: pip install .*odometry'):
        convert(bag, tmp_path / 'data', poses='icp')
    drive = convert(bag, tmp_path / 'auto', poses='auto')
    assert drive.info.choices['poses']['source'] == 'none'
    assert 'kiss-icp' in drive.info.choices['poses']['evidence']


def test_icp_finds_the_way_in_the_clouds(tmp_path):
    pytest.importorskip('kiss_icp')
    rng = np.random.default_rng(0)
    street = rng.uniform([-40, -12, -1.73, 0], [60, 12, 3, 1], (40_000, 4))
    road = (abs(street[:, 1]) < 7) & (rng.uniform(0, 1, len(street)) < 0.98)
    street[road, 2] = -1.73
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for number in range(8):
            seen = (street - [0.5 * number, 0, 0, 0])[rng.uniform(0, 1, len(street)) < 0.5]
            time_ns = START + number * SECOND // 10
            writer.write('/points', time_ns, 'lidar', seen.astype(np.float32))
    drive = convert(tmp_path / 'bag', tmp_path / 'data', poses='icp', min_distance=0.9)
    assert drive.num_frames == 4
    last = rows_of(tmp_path / 'data')[-1].pose.values
    np.testing.assert_allclose(last[:3], [3, 0, 0], atol=0.1)
    assert 'of drift after 3 m' in ' '.join(drive.info.notes)


def test_a_window_of_time_has_the_transforms_before_it(tmp_path):
    with RecordingWriter(tmp_path / 'bag') as writer:
        for number in range(30):
            time_ns = START + number * SECOND // 10
            writer.write('/points', time_ns, 'lidar', scene(number, count=300))
            later_ns = time_ns + SECOND // 20
            moved = transform('odom', 'lidar', later_ns, xyz=(number, 0, 0))
            writer.tf(later_ns, [moved])
    options = {'start_s': 1.47, 'duration_s': 0.5}
    drive = convert(tmp_path / 'bag', tmp_path / 'data', poses='tf', **options)
    rows = rows_of(tmp_path / 'data')
    assert [row.stamp_ns - START for row in rows] == [n * SECOND // 10 for n in range(15, 20)]
    assert all(row.pose for row in rows)
    assert drive.info.counts['clouds'] == 5


# --- splits ----------------------------------------------------------------------------------


def test_the_end_of_a_drive_is_for_validation_after_a_gap(tmp_path):
    bag = write_recording(tmp_path / 'bag', num_clouds=41)
    convert(bag, tmp_path / 'data', splits=SplitConfig(val_part=0.25, gap_s=1.0))
    splits = {path.stem: path.read_text() for path in (tmp_path / 'data' / 'splits').iterdir()}
    assert splits == {
        'train': 'bag_000000..bag_000027\n',
        'val': 'bag_000030..bag_000040\n',
    }


def test_whole_drives_are_for_validation(bag, tmp_path):
    other = write_recording(tmp_path / 'other')
    splits = SplitConfig(val_drives=('other',))
    config = ConversionConfig(poses='none')
    convert_bags(drive_names([bag, other]), tmp_path / 'data', config, splits)
    folder = tmp_path / 'data' / 'splits'
    assert (folder / 'train.txt').read_text() == 'bag_000000..bag_000009\n'
    assert (folder / 'val.txt').read_text() == 'other_000000..other_000009\n'
    with pytest.raises(ConfigError, match=r"val_drives \['third'\]"):
        convert(bag, tmp_path / 'data', splits=SplitConfig(val_drives=('third',)))


# --- intensity, height, ego box --------------------------------------------------------------


def test_an_intensity_of_bytes_is_scaled_and_the_evidence_kept(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for number in range(10):
            points = scene(number) * np.array([1, 1, 1, 255], np.float32)
            writer.write('/points', START + number * SECOND // 10, 'lidar', points)
    drive = convert(tmp_path / 'bag', tmp_path / 'data')
    sensor = drive.info.choices['sensors'][0]
    assert sensor['intensity_scale'] == 1 / 255
    assert 'reaches 25' in sensor['intensity']
    dataset = FolderDataset(FolderConfig(root=tmp_path / 'data', split='all'), (), labelled=False)
    np.testing.assert_allclose(dataset[3].points, scene(3), rtol=1e-6)


def test_a_high_sensor_is_brought_down(tmp_path):
    bag = write_recording(tmp_path / 'bag', height=2.4)
    convert(bag, tmp_path / 'fitted')
    convert(bag, tmp_path / 'told', height=2.4)
    convert(bag, tmp_path / 'kept', height='keep')
    for name, height, tolerance in (('fitted', 1.73, 0.02), ('told', 1.73, 0), ('kept', 2.4, 0)):
        config = FolderConfig(root=tmp_path / name, split='all')
        points = FolderDataset(config, (), labelled=False)[0].points
        expected = scene(0, height=2.4, count=300)
        shift = np.median(points[:, 2] - expected[:, 2])
        assert shift == pytest.approx(2.4 - height, abs=max(tolerance, 1e-6))


def test_tf_tells_the_height_and_levels(tmp_path):
    with RecordingWriter(tmp_path / 'bag') as writer:
        mounted = transform('base_footprint', 'lidar', START, xyz=(1, 0, 2.03), rpy=(0, 0.1, 0.5))
        writer.tf(START, [mounted], '/tf_static')
        writer.write('/points', START, 'lidar', scene(0, height=2.03))
    drive = convert(tmp_path / 'bag', tmp_path / 'data')
    choice = drive.info.choices['height']
    assert choice['height'] == pytest.approx(2.03)
    assert choice['evidence'] == "TF: above 'base_footprint'; points are moved by +0.300 m"
    points = FolderDataset(FolderConfig(root=tmp_path / 'data', split='all'), (), labelled=False)
    rotation = rotation_from_angles(0, 0.1, 0.5)
    expected = scene(0, height=2.03)[:, :3] @ rotation.T + [0, 0, 0.3]
    np.testing.assert_allclose(points[0].points[:, :3], expected, atol=1e-5)


def test_tf_and_points_that_disagree_are_told(tmp_path):
    with RecordingWriter(tmp_path / 'bag') as writer:
        mounted = transform('base_footprint', 'lidar', START, xyz=(0, 0, 1.0))
        writer.tf(START, [mounted], '/tf_static')
        writer.write('/points', START, 'lidar', scene(0, height=1.73))
    drive = convert(tmp_path / 'bag', tmp_path / 'data')
    assert drive.info.choices['height']['height'] == 1.0
    assert 'the ground is 1.73 m below it; TF is taken' in ' '.join(drive.info.notes)
    with pytest.raises(ConfigError, match='ground_frame'):
        convert(tmp_path / 'bag', tmp_path / 'other', ground_frame='street')


def test_the_ego_box_is_dropped_and_counted(bag, tmp_path):
    drive = convert(bag, tmp_path / 'data', ego_box=(-5, -2, -2, 5, 2, 1))
    inside = [
        int(((abs(p[:, 0]) <= 5) & (abs(p[:, 1]) <= 2)).sum())
        for p in (scene(number, count=300) for number in range(10))
    ]
    assert [row.num_points for row in rows_of(tmp_path / 'data')] == [300 - n for n in inside]
    assert drive.info.counts['points_in_ego_box'] == sum(inside)


def test_clouds_without_intensity_must_be_wanted(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        writer.write('/points', START, 'lidar', scene()[:, :3])
    with pytest.raises(DatasetError, match='none of the intensity fields'):
        convert(tmp_path / 'bag', tmp_path / 'data')
    drive = convert(tmp_path / 'bag', tmp_path / 'data', without_intensity=True)
    assert drive.info.choices['sensors'][0]['intensity'] == 'the clouds have none: 0'


# --- several sensors -------------------------------------------------------------------------


def write_two_sensors(path, *, late_ns=10_000_000, missing=(), static=True):
    with RecordingWriter(path) as writer:
        if static:
            mounted = [transform('front', 'rear', START, xyz=(-4, 0, 0), rpy=(0, 0, np.pi))]
            writer.tf(START, mounted, '/tf_static')
        for number in range(6):
            time_ns = START + number * SECOND // 10
            writer.write('/front', time_ns, 'front', scene(number))
            if number not in missing:
                writer.write('/rear', time_ns + late_ns, 'rear', scene(100 + number))
    return path


def test_sensors_are_merged_through_static_tf(tmp_path):
    bag = write_two_sensors(tmp_path / 'bag')
    drive = convert(bag, tmp_path / 'data', topics=('/front', '/rear'))
    assert drive.num_frames == 6
    config = FolderConfig(root=tmp_path / 'data', split='all')
    points = FolderDataset(config, (), labelled=False)[2].points
    np.testing.assert_array_equal(points[:2000], scene(2))
    turned = scene(102) * [-1, -1, 1, 1] + np.array([-4, 0, 0, 0])
    front, rear = (sensor['frame_from_sensor'] for sensor in drive.info.choices['sensors'])
    assert front == np.eye(4).tolist()
    np.testing.assert_allclose(np.array(rear)[:3, 3], [-4, 0, 0])
    np.testing.assert_allclose(np.diag(rear), [-1, -1, 1, 1])
    np.testing.assert_allclose(points[2000:], turned, atol=1e-5)


def test_clouds_merged_in_a_frame_on_the_ground_are_brought_to_the_sensors_height(tmp_path):
    with RecordingWriter(tmp_path / 'bag') as writer:
        mounted = transform('base_link', 'lidar', START, xyz=(1, 0, 2.0))
        writer.tf(START, [mounted], '/tf_static')
        writer.write('/points', START, 'lidar', scene(0, height=2.0))
    drive = convert(tmp_path / 'bag', tmp_path / 'data', frame='base_link')
    assert drive.info.choices['height']['height'] == pytest.approx(0, abs=0.01)
    points = FolderDataset(FolderConfig(root=tmp_path / 'data', split='all'), (), labelled=False)
    expected = scene(0, height=2.0) + np.array([1, 0, 2.0 - 1.73, 0])
    np.testing.assert_allclose(points[0].points, expected, atol=0.02)


def test_a_missing_sensor_is_counted_and_left_out_or_kept_or_refused(tmp_path):
    bag = write_two_sensors(tmp_path / 'bag', missing=(1, 4))
    topics = ('/front', '/rear')
    drive = convert(bag, tmp_path / 'data', topics=topics)
    assert (drive.num_frames, drive.info.counts['incomplete']) == (4, 2)
    assert 'frames lack a cloud of another sensor: 2; the first: ' in ' '.join(drive.info.notes)
    kept = convert(bag, tmp_path / 'kept', topics=topics, keep_incomplete=True)
    assert kept.num_frames == 6
    with pytest.raises(DatasetError, match=r'none of /rear within 0.05 s.*without --strict'):
        convert(bag, tmp_path / 'strict', topics=topics, strict=True)


def test_clouds_out_of_tolerance_do_not_belong_together(tmp_path):
    bag = write_two_sensors(tmp_path / 'bag', late_ns=30_000_000)
    with pytest.raises(DatasetError, match='no frame is left'):
        convert(bag, tmp_path / 'data', topics=('/front', '/rear'), tolerance_s=0.02)


def test_sensors_that_tf_does_not_connect_are_named(tmp_path):
    bag = write_two_sensors(tmp_path / 'bag', static=False)
    with pytest.raises(ConfigError, match=r"/rear are in 'rear'.*record /tf_static"):
        convert(bag, tmp_path / 'data', topics=('/front', '/rear'))


def test_a_cloud_whose_frame_is_unknown_is_left_out(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for number in range(6):
            frame = 'elsewhere' if number == 4 else 'lidar'
            writer.write('/points', START + number * SECOND // 10, frame, scene(number))
    drive = convert(tmp_path / 'bag', tmp_path / 'data')
    assert (drive.num_frames, drive.info.counts['without_transform']) == (5, 1)
    assert "connects 'lidar' and 'elsewhere'" in ' '.join(drive.info.notes)


# --- bad input -------------------------------------------------------------------------------


def test_stamps_that_repeat_or_go_back_are_left_out(tmp_path):
    stamps = [START + step * SECOND // 10 for step in (0, 1, 1, 3, 2, 5)]
    bag = write_recording(tmp_path / 'bag', stamps_ns=stamps)
    drive = convert(bag, tmp_path / 'data')
    assert [row.stamp_ns for row in rows_of(tmp_path / 'data')] == [
        stamps[number] for number in (0, 1, 3, 5)
    ]
    assert (drive.info.counts['duplicates'], drive.info.counts['backwards']) == (1, 1)
    assert 'by 0.100 s' in ' '.join(drive.info.notes)
    with pytest.raises(DatasetError, match=r'by 0.100 s'):
        convert(bag, tmp_path / 'strict', strict=True)
    assert convert(bag, tmp_path / 'recorded', stamps='recorded').num_frames == 6


def test_the_same_points_again_are_left_out(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for number in range(4):
            writer.write('/points', START + number * SECOND // 10, 'lidar', scene(number // 2))
    drive = convert(tmp_path / 'bag', tmp_path / 'data')
    assert (drive.num_frames, drive.info.counts['duplicates']) == (2, 2)


def test_clouds_without_a_stamp_take_the_time_of_recording(tmp_path):
    bag = write_recording(tmp_path / 'bag', stamps_ns=[0, 0, 0])
    drive = convert(bag, tmp_path / 'data')
    assert [row.stamp_ns for row in rows_of(tmp_path / 'data')] == [
        START + number * SECOND // 10 for number in range(3)
    ]
    assert drive.info.counts['without_stamp'] == 3


def test_a_recording_that_was_cut_off_is_converted_up_to_there(tmp_path):
    times = (START, START + SECOND)
    messages = [
        McapMessage(time_ns, cloud_cdr(time_ns, scene(n))) for n, time_ns in enumerate(times)
    ]
    data = mcap_bytes([[message] for message in messages])
    path = tmp_path / 'cut.mcap'
    path.write_bytes(data[: data.rindex(b'\x89MCAP') - 200])
    drive = convert(path, tmp_path / 'data')
    assert (drive.name, drive.num_frames, drive.info.counts['damaged']) == ('cut', 2, 1)
    assert 'was cut off' in ' '.join(drive.info.notes)
    with pytest.raises(DatasetError, match='was cut off'):
        convert(path, tmp_path / 'strict', strict=True)


def test_a_broken_message_is_counted(tmp_path):
    path = tmp_path / 'bag'
    with CloudBagWriter(path) as writer:
        for number in range(4):
            time_ns = START + number * SECOND // 10
            cdr = cloud_cdr(time_ns, scene(number))
            cdr = cdr[:40] if number == 2 else cdr
            writer.write_serialized('/points', 'sensor_msgs/msg/PointCloud2', time_ns, cdr)
    drive = convert(path, tmp_path / 'data')
    assert (drive.num_frames, drive.info.counts['unreadable']) == (3, 1)


def test_a_topic_of_another_type_is_named(tmp_path):
    bag = write_recording(tmp_path / 'bag', tf=True)
    with pytest.raises(DatasetError, match=r"has tf2_msgs/msg/TFMessage there.*\['/points'\]"):
        convert(bag, tmp_path / 'data', topics=('/tf',))
    with pytest.raises(DatasetError, match='has no such topic'):
        convert(bag, tmp_path / 'data', topics=('/nothing',))


def test_names_of_bags_are_kept_apart():
    bags = [Path('a/run.mcap'), Path('b/run'), Path('c/my run.bag')]
    assert list(drive_names(bags)) == ['a_run', 'b_run', 'my_run']
    with pytest.raises(ConfigError, match='given twice'):
        drive_names([Path('a'), Path('a')])


# --- interruptions ---------------------------------------------------------------------------


def test_after_sigkill_it_goes_on_to_the_same_files(tmp_path):
    bag = write_recording(tmp_path / 'bag', num_clouds=60, tf=True)
    convert(bag, tmp_path / 'whole', poses='tf', min_distance=1.5)
    code = (
        'import os, signal, sys\n'
        'from pathlib import Path\n'
        'from pointdistiller_core import files\n'
        'from pointdistiller_core.config import ConversionConfig, SplitConfig\n'
        'from pointdistiller_core.pipelines.bag_conversion import convert_bags\n'
        'left, append, replace = int(sys.argv[3]), files._append, Path.replace\n'
        'def count(*_):\n'
        '    global left\n'
        '    left -= 1\n'
        '    left or os.kill(os.getpid(), signal.SIGKILL)\n'
        'def killed_append(descriptor, file, content):\n'
        '    count() if sys.argv[4] == "before" else os.write(descriptor, content[:7])\n'
        '    if sys.argv[4] == "before":\n'
        '        append(descriptor, file, content)\n'
        '    else:\n'
        '        count()\n'
        '        os.write(descriptor, content[7:])\n'
        'files._append = killed_append\n'
        'config = ConversionConfig(poses="tf", min_distance=1.5)\n'
        'convert_bags({"bag": Path(sys.argv[1])}, Path(sys.argv[2]), config, SplitConfig())\n'
    )
    out = tmp_path / 'killed'
    for left, where in ((3, 'before'), (4, 'within'), (100, 'before')):
        command = [sys.executable, '-c', code, str(bag), str(out), str(left), where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == (-signal.SIGKILL if left < 100 else 0), done.stderr
    assert tree_of(out) == tree_of(tmp_path / 'whole')


def test_a_full_disk_is_named_and_nothing_is_lost(bag, tmp_path, monkeypatch):
    convert(bag, tmp_path / 'whole')
    write = files.write_file

    def full(file, content, **options):
        if file.name == 'bag_000004.bin':
            raise WriteError(f'{file}: cannot be written: {os.strerror(errno.ENOSPC)}')
        write(file, content, **options)

    with monkeypatch.context() as patch:
        patch.setattr('pointdistiller_core.formats.folder_writer.write_file', full)
        with pytest.raises(WriteError, match='No space left'):
            convert(bag, tmp_path / 'data')
    assert len(rows_of(tmp_path / 'data')) == 4
    assert convert(bag, tmp_path / 'data').num_new == 6
    assert tree_of(tmp_path / 'data') == tree_of(tmp_path / 'whole')


def test_points_that_a_loss_of_power_took_are_written_again(bag, tmp_path):
    convert(bag, tmp_path / 'whole')
    convert(bag, tmp_path / 'data')
    info = tmp_path / 'data' / 'dataset.yaml'
    info.write_text(info.read_text().replace('complete: true', 'complete: false'))
    (tmp_path / 'data' / 'points' / 'bag_000003.bin').write_bytes(b'')
    assert convert(bag, tmp_path / 'data').num_new == 0
    assert tree_of(tmp_path / 'data') == tree_of(tmp_path / 'whole')


def test_a_recording_that_changed_is_not_mixed_with_itself(bag, tmp_path):
    convert(bag, tmp_path / 'data')
    info = tmp_path / 'data' / 'dataset.yaml'
    info.write_text(info.read_text().replace('complete: true', 'complete: false'))
    frames = tmp_path / 'data' / 'frames.csv'
    frames.write_text(frames.read_text().replace(',300,', ',301,'))
    with pytest.raises(DatasetError, match='the recording has changed'):
        convert(bag, tmp_path / 'data')
