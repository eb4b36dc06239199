# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Width and height of the camera's images, which decide what the camera sees of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text
from pointdistiller_core.formats.kitti import Calibration

Size = tuple[int, int]  # width, height [pixels]

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
MOST_PIXELS = 100_000  # in one direction; more is a mistake


def read_image_sizes(path: Path) -> Mapping[str, Size]:
    """Sizes by frame, from a file that may be missing.

    Raises:
        DatasetError: the file is malformed.
    """
    if not path.exists():
        return {}
    try:
        sizes = json.loads(read_text(path, DatasetError))
        found = {name: (int(width), int(height)) for name, (width, height) in sizes.items()}
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f'{path}: expected {{frame: [width, height]}}: {error}') from error
    for name, size in found.items():
        if not all(0 < value <= MOST_PIXELS for value in size):
            raise DatasetError(f'{path}: frame {name} has an image of {size[0]} x {size[1]}')
    return found


def measure_image(folder: Path, name: str) -> Size | None:
    """Size of the image `folder/name.*` of any common format; None if there is none.

    Only the beginning of the file is read.

    Raises:
        DatasetError: it is no image.
    """
    endings = (ending for suffix in SUFFIXES for ending in (suffix, suffix.upper()))
    path = next((file for ending in endings if (file := folder / (name + ending)).exists()), None)
    if path is None:
        return None
    from PIL import Image  # not before there is an image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: not an image that can be read: {error}') from error


def size_from_principal_point(calibration: Calibration) -> Size | None:
    """Size of an image whose middle is the principal point, as it nearly is in most cameras.

    None if the middle of an image cannot be there.
    """
    width, height = (2 * calibration.image_from_camera[:2, 2]).round().tolist()
    if not (1 < width <= MOST_PIXELS and 1 < height <= MOST_PIXELS):
        return None
    return int(width), int(height)
