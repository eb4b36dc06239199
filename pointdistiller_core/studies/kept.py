# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of studies that go on over many sittings, on any machine, through version control.

Such a folder ignores what the same command makes again (frames, checkpoints, logs). What is left
of a complete run is small: its configuration, origin, history and results, and its weights in half
precision. Students are taught by the teacher that is kept, so it makes no difference where.
"""

from __future__ import annotations

from pathlib import Path

from pointdistiller_core.deploy.bundle import WEIGHTS_FILE, find_bundle, load_bundle, pack_weights
from pointdistiller_core.deploy.bundle_format import add_files, digests, read_info
from pointdistiller_core.files import remove_folder, write_text
from pointdistiller_core.studies.plan import DATA, RUNS
from pointdistiller_core.training.experiment import weights_checksum
from pointdistiller_core.training.run import CONFIG_FILE, read_facts

IGNORE_FILE = '.gitignore'
_IGNORED = f"""\
!/{RUNS}/
# The same command makes these again. Weights of students may be left out, too; the teacher's not:
# /{RUNS}/*/bundle/{WEIGHTS_FILE}
/{DATA}/
/{RUNS}/*.log
/{RUNS}/*.yaml
/{RUNS}/*/checkpoints/
/{RUNS}/*/tensorboard/
"""


def ignore_the_rest(folder: Path) -> None:
    """Make the folder, if need be, with the list of what version control leaves out.

    Raises:
        WriteError: the file system refuses.
    """
    if not (folder / IGNORE_FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / IGNORE_FILE, _IGNORED)


def shrink_run(run: Path) -> None:
    """Drop what a complete run needs no more, and store its weights in half precision.

    A teacher keeps the weights that it has already taught with. Repeated, it changes nothing.

    Raises:
        CheckpointError: the bundle is damaged.
        WriteError: the file system refuses.
    """
    for name in ('checkpoints', 'tensorboard'):
        if (run / name).is_dir():
            remove_folder(run / name)
    bundle = find_bundle(run)
    if not (bundle / WEIGHTS_FILE).exists() or _has_taught(run):  # its weights were left out
        return
    files = {WEIGHTS_FILE: pack_weights(load_bundle(bundle)[1], half=True)}
    if digests(files)[WEIGHTS_FILE] != read_info(bundle).sha256[WEIGHTS_FILE]:
        add_files(bundle, files)


def _has_taught(run: Path) -> bool:
    others = (path.parent for path in run.parent.glob(f'*/{CONFIG_FILE}'))
    return weights_checksum(run) in {read_facts(each).get('teacher_sha256') for each in others}
