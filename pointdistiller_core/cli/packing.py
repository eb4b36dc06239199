# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that carry runs and bundles between machines: `pack`, `unpack` and `copy-bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pointdistiller_core.cli.output import print_note

HalfOption = Annotated[
    bool, typer.Option('--half', help='Round the weights to float16: half the size.')
]


def pack_command(
    run: Annotated[Path, typer.Argument(help='Folder of a run, complete or not.')],
    folder: Annotated[Path, typer.Argument(help='Folder for the parts and their list.')],
    *,
    optimizer: Annotated[
        Literal['full', 'half', 'none'],
        typer.Option(help='Keep its state, round it to bfloat16, or leave it out.'),
    ] = 'full',
    half: HalfOption = False,
    part_mib: Annotated[float, typer.Option(min=0.001, help='Largest size of a part [MiB].')] = 15,
) -> None:
    """Pack a run into parts with checksums: its records and its bundle or newest checkpoint.

    Example: `pointdistiller pack runs/teacher carried --optimizer half`
    """
    from pointdistiller_core.training.packing import pack_run

    packed = pack_run(
        run, folder, optimizer=optimizer, half=half, part_size=round(part_mib * 2**20)
    )
    print_note(f'{packed.manifest}: {len(packed.parts)} parts, {packed.size / 2**20:.1f} MiB')
    if packed.left_out:
        print_note(f'left out: {", ".join(packed.left_out)}')


def unpack_command(
    manifest: Annotated[Path, typer.Argument(help='NAME.pack.json, beside its parts.')],
    run: Annotated[Path, typer.Argument(help='The new folder of the run.')],
) -> None:
    """Unpack a run, after checking its parts; `train --resume` then continues it.

    Example: `pointdistiller unpack carried/teacher.pack.json runs/teacher`
    """
    from pointdistiller_core.training.packing import unpack_run

    unpack_run(manifest, run)
    print_note(f'{run}: unpacked')


def copy_bundle_command(
    source: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    target: Annotated[Path, typer.Argument(help='The new bundle.')],
    *,
    half: HalfOption = False,
) -> None:
    """Copy the bundle of a run, without exports for other backends.

    Example: `pointdistiller copy-bundle runs/student student --half`
    """
    from pointdistiller_core.deploy.bundle import load_detector_model, read_info, save_bundle
    from pointdistiller_core.deploy.bundle_format import find_bundle

    bundle = find_bundle(source)
    model = load_detector_model(bundle)
    save_bundle(target, model, read_info(bundle), half=half)
    size = sum(file.stat().st_size for file in target.iterdir())
    print_note(f'{target}: {size / 2**20:.1f} MiB')
