# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the pictures use of matplotlib, without a screen; only this module imports it.

`MPLBACKEND` names the display for windows. A notebook sets it for all that it starts, and
matplotlib refuses to be imported if that display is not installed, although no window is opened
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
import os
from pathlib import Path
from typing import Any, BinaryIO

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.files import write_file


@contextmanager
def _without_display() -> Iterator[None]:
    display = os.environ.pop('MPLBACKEND', None)
    try:
        yield
    finally:
        if display is not None:
            os.environ['MPLBACKEND'] = display


with _without_display():
    import matplotlib
    from matplotlib import colormaps as colormaps
    from matplotlib.axes import Axes as Axes
    from matplotlib.cm import ScalarMappable as ScalarMappable
    from matplotlib.collections import LineCollection as LineCollection
    from matplotlib.collections import PolyCollection as PolyCollection
    from matplotlib.colors import ListedColormap as ListedColormap
    from matplotlib.colors import Normalize as Normalize
    from matplotlib.figure import Figure as Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine as ConstrainedLayoutEngine
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.ticker import FixedLocator as FixedLocator
    from matplotlib.ticker import FuncFormatter as FuncFormatter
    from matplotlib.ticker import NullFormatter as NullFormatter
    from matplotlib.ticker import NullLocator as NullLocator

if 'MPLBACKEND' in os.environ:
    with suppress(ValueError):  # it is not installed
        matplotlib.rcParams['backend'] = os.environ['MPLBACKEND']


def save_figure(figure: Figure, target: Path | BinaryIO, **options: Any) -> None:
    """Draw a figure into a file, which is written whole or not at all.

    Args:
        figure: is drawn.
        target: a file whose suffix tells its kind, or an open file, which becomes a PNG.
        options: further ones of `Figure.savefig`.

    Raises:
        ConfigError: there is no such kind of picture.
        WriteError: the file system refuses.
    """
    if not isinstance(target, Path):
        figure.savefig(target, **options)
        return
    kind = target.suffix.lower().removeprefix('.')
    if kind not in figure.canvas.get_supported_filetypes():
        raise ConfigError(f'{target}: no kind of picture; choose a name that ends in .png or .svg')
    content = BytesIO()
    figure.savefig(content, format=kind, **options)
    write_file(target, content.getvalue())
