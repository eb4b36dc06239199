# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From an experiment's configuration to a trained bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
import json
import logging
from pathlib import Path
from typing import Any

from pydantic import JsonValue
import torch
from torch import nn
from torch.utils.data import ConcatDataset

from pointdistiller_core.config import BagConfig, DatasetConfig, ExperimentConfig
from pointdistiller_core.datasets import (
    FrameDataset,
    Frames,
    build_dataset,
    divide_by_labels,
)
from pointdistiller_core.datasets.camera_view import check_camera_view
from pointdistiller_core.datasets.class_tally import count_names, tally_labels
from pointdistiller_core.datasets.levelling import describe_levelling
from pointdistiller_core.deploy.bundle import (
    WEIGHTS_FILE,
    find_bundle,
    load_detector_model,
    read_info,
)
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.distill.distiller import Distiller
from pointdistiller_core.distill.feature_similarity import compare_features, untrained_twin
from pointdistiller_core.distill.initialization import slice_weights
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.files import write_text
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.evaluate import spread_clouds
from pointdistiller_core.sparse.engines import TORCH, engine_of, use_engine
from pointdistiller_core.training.data import torch_seed
from pointdistiller_core.training.fine_tuning import (
    SOURCE_FACT,
    has_weights,
    source_facts,
    start_from,
    warn_of_height,
)
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.label_survey import check_training_labels, survey_labels
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective, detector_of
from pointdistiller_core.training.processes import is_first_process
from pointdistiller_core.training.run import FEATURES_FILE

logger = logging.getLogger(__name__)

REPORTED_FRAMES = 50  # whose features are compared after a distillation


def run_experiment(
    config: ExperimentConfig,
    run: Path,
    *,
    teacher: Path | None = None,
    source: Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    device: str = 'auto',
    stop_at: float | None = None,
) -> Path:
    """Train a detector, or distil it if the configuration has distillation terms.

    Args:
        config: the whole experiment.
        run: folder of the run, see `pointdistiller_core.training.run`.
        teacher: bundle or run of the teacher; needed if and only if there is
            `config.distillation`.
        source: bundle or run whose weights a training or a student begins with, see `start_from`;
            not needed to resume from a checkpoint.
        resume: go on from the newest checkpoint in `run`.
        listener: told about progress.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...
        stop_at: moment of `time.monotonic` at which to save the run and stop.

    Returns:
        The folder of the bundle.

    Raises:
        TrainingStopped: `stop_at` has come.
        ConfigError: teacher or source and configuration do not fit together.
        CheckpointError, DatasetError, PointDistillerError: as `fit`.
    """
    own = config.distillation.initialization if config.distillation else 'random'
    if source is not None and own != 'random':
        raise ConfigError(
            f'source {source}: distillation.initialization={own} cuts the first weights out of '
            'the teacher; choose random, which leaves them to the source'
        )
    refuse_bags(config)
    names = config.model.class_names
    dataset = build_dataset(config.dataset, names, model=config.model)
    validation = (
        build_dataset(config.validation, names, model=config.model) if config.validation else None
    )
    more = config.distillation.unlabelled if config.distillation else None
    unlabelled = build_dataset(more, names, labelled=False, model=config.model) if more else None
    labelled, bare = divide_by_labels(dataset)
    tell = listener.on_note if listener is not None and is_first_process() else lambda _: None
    if not (run / 'bundle').exists():  # otherwise the run is complete
        for note in check_bare(config, labelled, bare, unlabelled):
            tell(note)
        check_labels(config, labelled, validation)
        check_views((config.dataset, config.validation, more), (dataset, validation, unlabelled))
    others: Any = [part for part in (bare, unlabelled) if part is not None and len(part)]
    joined: Frames | None = ConcatDataset(others) if others and config.distillation else None
    if config.model.levelled and len(labelled) and not has_weights(run):
        tell(describe_levelling(labelled))
    objective = build_objective(config, teacher)
    if config.training.sparse_engine != TORCH:
        teachers = (objective.teacher,) if isinstance(objective, Distiller) else ()
        for model in (detector_of(objective), *teachers):
            use_engine(model, config.training.sparse_engine, find_device(device))
    if engine_of(objective, find_device(device)) == 'numpy':
        tell('sparse convolutions run in NumPy; Numba is faster: pip install numba')
    facts: dict[str, JsonValue] = {}
    if teacher is not None:
        facts['teacher_sha256'] = weights_checksum(teacher)
    if source is not None:
        start = start_from(source, detector_of(objective), config)
        facts[SOURCE_FACT] = start.sha256
        if not has_weights(run):
            tell(start.summary)
    elif resume:
        facts |= source_facts(run)
    bundle = fit(
        objective,
        labelled,
        config,
        run,
        unlabelled=joined,
        validation=validation,
        resume=resume,
        listener=listener,
        device=device,
        stop_at=stop_at,
        facts=facts,
    )
    if teacher and validation is not None and is_first_process():
        report_features(run, teacher, bundle, validation, device=device)
    return bundle


def refuse_bags(config: ExperimentConfig) -> None:
    """Refuse to train on bags, which are slow to read in random order.

    Raises:
        ConfigError: there is one; names the command that makes a dataset of it.
    """
    more = config.distillation.unlabelled if config.distillation else None
    for key, dataset in (('dataset', config.dataset), ('distillation.unlabelled', more)):
        if isinstance(dataset, BagConfig):
            raise ConfigError(
                f'{key} is a bag, {dataset.root}, which is read from its beginning for nearly '
                f'every frame of a training; make a dataset of it: pointdistiller bag convert '
                f'{dataset.root} FOLDER, and give that ({key}.name=folder, {key}.root=FOLDER)'
            )


def check_bare(
    config: ExperimentConfig,
    labelled: FrameDataset,
    bare: FrameDataset | None,
    unlabelled: FrameDataset | None,
) -> Iterator[str]:
    """What becomes of the frames without labels.

    Args:
        config: the whole experiment.
        labelled: frames of the dataset with labels.
        bare: those without; None if there can be none.
        unlabelled: of `distillation.unlabelled`.

    Raises:
        DatasetError: there are some where none are allowed, or no others to train on.
    """
    terms = [term.name for term in config.distillation.terms] if config.distillation else []
    if 'labels' in terms:
        use = 'their only labels are those of the teacher'
    elif terms:
        use = f'they take part in {", ".join(terms)}, not in the detection loss'
    else:
        use = 'left out'
    where = f'{config.dataset.root}, {config.dataset.split}'
    if bare is not None and len(bare):
        count = f'{where}: {len(bare)} of {len(labelled) + len(bare)} frames have no labels'
        if config.training.unlabelled == 'refuse':
            raise DatasetError(
                f'{count}, and training.unlabelled is `refuse`; label them, e.g. '
                f'{bare.frame_ids[0]}, or take them out of the split'
            )
        if not terms and not len(labelled):
            raise DatasetError(f'{count}; label some of them, or distil from a teacher')
        yield f'{count}: {use}'
    if unlabelled is not None and config.distillation and config.distillation.unlabelled:
        more = config.distillation.unlabelled
        yield f'{more.root}, {more.split}: {len(unlabelled)} frames without labels: {use}'


def check_labels(
    config: ExperimentConfig, dataset: FrameDataset, validation: FrameDataset | None
) -> None:
    """Refuse a training that has nothing to learn; warn of what it or its metric lacks.

    Raises:
        DatasetError: no label in range, or labels or a calibration are missing or malformed.
    """
    asked = (config.model.class_names, config.model.point_cloud_range)
    first = is_first_process()
    where = f'{config.dataset.root}, {config.dataset.split}'
    if len(dataset):  # otherwise all is learned from a teacher
        check_training_labels(survey_labels(dataset, *asked), where=where, warn=first)
    if first:
        tally = tally_labels(dataset)
        for note in tally.unmet() if len(dataset) else ():
            logger.warning('%s: %s', where, note)
        if others := tally.others(config.model.class_names):
            logger.warning(
                '%s: labels of other classes are ignored: %s; class_map makes them count',
                *(where, count_names(others)),
            )
    if config.validation and validation is not None and first:
        for gap in survey_labels(validation, *asked).gaps:
            where = f'{config.validation.root}, {config.validation.split}'
            logger.warning('%s: %s; its average precision will tell little', where, gap)


def check_views(
    configs: Sequence[DatasetConfig | None], datasets: Sequence[FrameDataset | None]
) -> None:
    """Refuse datasets of which the camera sees nothing; say what it does not see.

    Raises:
        DatasetError: as `check_camera_view`.
    """
    for config, dataset in zip(configs, datasets, strict=True):
        if config is not None and dataset is not None:
            where = f'{config.root}, {config.split}'
            check_camera_view(dataset, where=where, warn=is_first_process())


def report_features(
    run: Path, teacher: Path, student: Path, dataset: FrameDataset, *, device: str
) -> None:
    """Write how alike the features of teacher and student are, unless it has been done.

    A distillation loss may fall although the student learns nothing; these measures cannot be
    fooled like that. See `pointdistiller_core.distill.feature_similarity`.
    """
    file = run / FEATURES_FILE
    if file.exists():
        return
    place = find_device(device)
    networks = [load_detector_model(path, device=str(place)) for path in (teacher, student)]
    students = {'student': networks[1], 'untrained': untrained_twin(networks[1])}
    clouds = spread_clouds(
        dataset,
        min(REPORTED_FRAMES, len(dataset)),
        place,
        info=read_info(find_bundle(student)),
    )
    try:
        similarities = compare_features(networks[0], students, clouds)
    except DatasetError as error:  # too few or too small frames to measure on
        logger.warning('%s: features are not compared: %s', run, error)
        return
    values = {
        name: {tap: asdict(by_student[name]) for tap, by_student in similarities.items()}
        for name in students
    }
    write_text(file, json.dumps(values, indent=2) + '\n')


def weights_checksum(bundle: Path) -> str:
    """SHA-256 of the weights of a bundle or run, as the bundle says it."""
    return read_info(find_bundle(bundle)).sha256[WEIGHTS_FILE]


def build_objective(config: ExperimentConfig, teacher: Path | None) -> nn.Module:
    """The objective that `fit` minimises; its first weights depend only on the seed.

    Raises:
        ConfigError: a teacher without distillation terms, or terms without a teacher; or a teacher
            with other pillars or classes than the student, or one that the student cannot be cut
            out of.
        CheckpointError: the teacher's bundle is missing or damaged.
    """
    if config.distillation is None and teacher is not None:
        raise ConfigError(f'teacher {teacher}: the configuration has no distillation terms')
    if config.distillation is not None and teacher is None:
        raise ConfigError('distillation: needs a teacher; give its bundle or run folder')
    torch.manual_seed(torch_seed(config.training.seed, epoch=0))
    student = build_detector(config.model)
    if config.distillation is None or teacher is None:
        return DetectionObjective(student)
    warn_of_height(teacher, read_info(find_bundle(teacher)), config)
    distiller = Distiller(load_detector_model(teacher), student, config.distillation)
    if (method := config.distillation.initialization) != 'random':
        student.load_state_dict(slice_weights(distiller.teacher, student, method))
    return distiller
