# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'pointdistiller_ros'


def shared_files(*patterns: str) -> list[tuple[str, list[str]]]:
    """Files of the source tree, each to the same folder below share/<package>."""
    folders: dict[Path, list[str]] = {}
    for pattern in patterns:
        for path in sorted(Path().glob(pattern)):
            folders.setdefault(path.parent, []).append(str(path))
    return [(str('share' / Path(NAME) / folder), files) for folder, files in folders.items()]


def wheels(distribution: str) -> list[str]:
    """ROS 2 where it is not installed."""
    names = (
        'diagnostic-msgs',
        'geometry-msgs',
        'rclpy',
        'rmw-fastrtps-cpp',
        'rosgraph-msgs',
        'sensor-msgs',
        'std-msgs',
        'visualization-msgs',
    )
    return [f'ros-{distribution}-{name}' for name in names]


# Running a bundle needs one of the first two; exporting needs the third; int8 is made by nncf.
RUN_OPENVINO, RUN_ONNX = ['openvino>=2024.4'], ['onnxruntime>=1.17']
EXPORT = [*RUN_OPENVINO, 'nncf>=2.13', 'onnx>=1.15']

# Sparse convolutions on a GPU; the package `spconv` is the build for CPUs.
SPCONV = [
    'spconv-cu120>=2.3; python_version < "3.12"',
    'spconv-cu126>=2.3; python_version >= "3.12"',
]

NUMBA = ['numba>=0.60']  # compiles host code of SECOND and of merged sweeps for the CPU

ODOMETRY = ['kiss-icp>=1.3,<2']  # poses of recordings that have none

# colcon looks here for what runs the tests.
TEST = ['hypothesis', 'pytest', 'pytest-timeout']

# Before torch 2.6, `weights_only` could execute what a crafted checkpoint asks for.
setup(
    name=NAME,
    version='0.1.0',
    description='LiDAR 3D object detection with small, fast students taught by big teachers',
    author='The PointDistiller authors',
    maintainer='PointDistiller maintainers',
    maintainer_email='maintainers@example.com',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['pointdistiller_core*', 'pointdistiller_ros*']),
    package_data={'pointdistiller_core': ['py.typed'], 'pointdistiller_ros': ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        # Entry points get the interpreter that colcon runs in, not the virtual environment's.
        (f'lib/{NAME}', sorted(map(str, Path('scripts').iterdir()))),
        *shared_files('package.xml', 'launch/*.launch.py'),
        *shared_files('config/**/*.yaml', 'config/**/*.rviz', 'config/**/*.xml'),
        *shared_files(*(f'{info.parent}/*' for info in Path().glob('weights/*/bundle.json'))),
    ],
    zip_safe=True,
    install_requires=[
        'setuptools',
        # Also of rosbags.
        'backports.zstd>=1; python_version < "3.14"',
        'embreex>=2.17.7',
        'lightning-fabric>=2.4',
        'lz4>=4',
        'matplotlib>=3.7',
        'numpy>=1.22',
        'pillow>=9.0',
        'pydantic>=2.7',
        'PyYAML>=5.4',
        'rich>=13',
        'rosbags>=0.11',
        'safetensors>=0.4.3',
        'tensorboard>=2.14',
        'threadpoolctl>=3.8',
        'torch>=2.6',
        'trimesh>=4.4',
        'typer>=0.12',
    ],
    extras_require={
        'ros': wheels('kilted'),
        'ros-kilted': wheels('kilted'),
        'ros-jazzy': wheels('jazzy'),
        'openvino': RUN_OPENVINO,
        'onnx': RUN_ONNX,
        'export': EXPORT,
        'odometry': ODOMETRY,
        'numba': NUMBA,
        'spconv': SPCONV,
        'spconv-triton': ['spconv-triton>=1'],
        'test': TEST,
        'dev': [
            *(*EXPORT, *RUN_ONNX, *NUMBA, *ODOMETRY, *TEST),
            *('mypy', 'pytest-xdist', 'ruff', 'types-PyYAML'),
        ],
    },
    entry_points={
        'console_scripts': ['pointdistiller = pointdistiller_core.cli:main'],
    },
)
