# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The stages from recordings to a student, each made of what a verb of its own does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pointdistiller_core.cli.bags import (
    DRIVE_COLUMNS,
    describe_drive,
    drive_rows,
    print_drives,
    tell_progress,
)
from pointdistiller_core.cli.detection_run import Source
from pointdistiller_core.cli.export import (
    Target,
    add_verified,
    check_clouds,
    export_files,
    open_calibration,
)
from pointdistiller_core.cli.label import (
    LABEL_COLUMNS,
    QUALITY_COLUMNS,
    label_folder,
    label_rows,
    print_labels,
    quality_rows,
    quality_title,
)
from pointdistiller_core.cli.output import print_lines, print_note, progress_bar
from pointdistiller_core.cli.training import print_lessons, run_with_progress, settle_experiment
from pointdistiller_core.config import (
    Config,
    ConversionConfig,
    DetectorConfig,
    ExperimentConfig,
    FolderConfig,
    FromBagConfig,
    LabellingConfig,
    parse_config,
)
from pointdistiller_core.deploy.bundle_format import find_bundle, read_info
from pointdistiller_core.errors import BackendError, DatasetError
from pointdistiller_core.files import remove_folder
from pointdistiller_core.formats.folder import (
    LABELS,
    count_unsplit,
    labels_path,
    read_label_source,
)
from pointdistiller_core.pipelines.bag_conversion.truth import label_makers
from pointdistiller_core.pipelines.stages import Changes, Facts, Stage

if TYPE_CHECKING:
    from pointdistiller_core.config import AugmentationConfig, TrainingConfig

WEIGHTS = 'model.safetensors'
ConfigT = TypeVar('ConfigT', bound=Config)
TRAIN, HELD_OUT = 'train', 'val'
# Settings of a training that change nothing but its speed.
INDIFFERENT = {'num_workers', 'checkpoint_every'}


class Road:
    """Everything that one configuration makes, in its output folder.

    Args:
        config: the settings of all stages.

    Raises:
        CheckpointError: the teacher is missing or damaged.
        ConfigError: it cannot teach such a student, or be exported.
        DatasetError: a recording is missing.
    """

    def __init__(self, config: FromBagConfig) -> None:
        from pointdistiller_core.pipelines.bag_conversion import drive_names

        self.config = config
        self.given = read_info(find_bundle(config.teacher.bundle))
        self.output = config.output.absolute()
        self.dataset = self.output / 'dataset'
        self.teacher = self.output / 'teacher' if config.teacher.train else config.teacher.bundle
        self.student = self.output / 'student'
        self.comparison = self.output / 'compare'
        self.drives = drive_names(config.bags)
        if missing := [str(bag) for bag in self.drives.values() if not bag.exists()]:
            raise DatasetError(f'bags: no such file or folder: {", ".join(missing)}')
        self._check_models()

    def _check_models(self) -> None:
        from pointdistiller_core.deploy.export.split import check_family
        from pointdistiller_core.distill import check_distillation

        if self.config.export.to:
            check_family(self.given.model.name)
        check_distillation(self.config.student.distillation, self.given.model, self.student_model)

    @property
    def student_model(self) -> DetectorConfig:
        """The teacher's, but narrower."""
        values = self._model.model_dump(mode='json')
        values['width'] *= self.config.student.width
        return parse_config(DetectorConfig, values, where='student')

    @property
    def _model(self) -> DetectorConfig:
        """The given teacher's; bounds of sizes are measured anew."""
        detection = self.given.model.detection.model_copy(update={'size_bounds': ()})
        return self.given.model.model_copy(update={'detection': detection})

    @property
    def sensor_height(self) -> float:
        """Of the dataset's sensor above the ground [m]."""
        return self.config.dataset.sensor_height or self.given.sensor_height

    @property
    def held_out(self) -> FolderConfig:
        """The frames that nobody learns from."""
        return self._folder(HELD_OUT)

    def stages(self) -> list[Stage]:
        """In their order, without the page."""
        stages = [*self._data_stages(), *self._model_stages()]
        sections = {stage.name: getattr(self.config, stage.name) for stage in stages}
        return [
            replace(stage, defaults=_section(stage.name, _untouched(sections[stage.name])))
            for stage in stages
        ]

    def _data_stages(self) -> list[Stage]:
        config = self.config
        return [
            Stage(
                'dataset',
                self.convert,
                lambda: {'bags': self._sizes(), **_section('dataset', config.dataset)},
                results=(self.dataset,),
                clear=self._clear_dataset,
                title='recordings become a dataset',
            ),
            Stage(
                'labels',
                self.label,
                lambda: {
                    **_section('labels', config.labels),
                    'teachers': self._label_teachers(),
                    'labels of people': _digest(self._label_files(by_people=True)),
                },
                results=(self.dataset / LABELS,),
                clear=lambda _changes, _before: None,  # they are replaced, frame by frame
                title='teachers label what people have not',
            ),
        ]

    def _model_stages(self) -> list[Stage]:
        config = self.config
        return [
            Stage(
                'teacher',
                self.train_teacher,
                lambda: {
                    'teacher.bundle': self.given.sha256[WEIGHTS],
                    **_section('teacher', config.teacher, without=('bundle',)),
                },
                results=(self.teacher,) if config.teacher.train else (),
                title='the teacher goes on learning, from the labels',
            ),
            Stage(
                'student',
                self.train_student,
                lambda: _section('student', config.student),
                results=(self.student,),
                title='a student is cut out of the teacher, and distilled',
            ),
            Stage(
                'export',
                self.export,
                lambda: _section('export', config.export),
                title='the student for other backends than torch',
            ),
            Stage(
                'compare',
                self.compare,
                lambda: _section('compare', config.compare),
                results=(self.comparison,),
                title='the student beside its teacher, on what neither has learned from',
            ),
        ]

    # --- dataset -------------------------------------------------------------------------

    def _sizes(self) -> dict[str, str]:
        return {name: _size(bag) for name, bag in self.drives.items()}

    def convert(self, _begun: bool) -> Facts:
        """Convert the recordings."""
        from pointdistiller_core.pipelines.bag_conversion import convert_bags

        section = self.config.dataset
        values = section.model_dump(exclude={'splits', 'strict'})
        values['sensor_height'] = self.sensor_height
        with progress_bar('convert', 's', when_stopped=None) as update:
            converted = convert_bags(
                self.drives,
                self.dataset,
                parse_config(ConversionConfig, values, where='dataset'),
                section.splits,
                strict=section.strict,
                on_progress=lambda name: tell_progress(update, name),
            )
        print_drives(converted, self.dataset, json_target=None)
        counts = {split: len(self._frames(split)) for split in (TRAIN, HELD_OUT)}
        rest = count_unsplit(self.dataset)
        return {
            'summary': f'{counts[TRAIN]} frames to train on, {counts[HELD_OUT]} held out'
            + (f', {rest} in the gap between them' if rest else ''),
            'tables': [[DRIVE_COLUMNS, *drive_rows(converted)]],
            'notes': [line for item in converted for line in describe_drive(item)],
            'frames': counts,
            'labels of people': _digest(self._label_files(by_people=True)),
        }

    def _frames(self, split: str) -> Any:
        from pointdistiller_core.datasets import build_dataset

        return build_dataset(self._folder(split), self.given.model.class_names, labelled=False)

    def _folder(self, split: str) -> FolderConfig:
        return FolderConfig(
            root=self.dataset,
            split=split,
            class_map=self.config.labels.class_map,
            sensor_height=self.sensor_height,
        )

    def _clear_dataset(self, changes: Changes, before: Facts) -> None:
        """Remove the dataset unless recordings were added alone; never what people have made."""
        if all(key.startswith('bags.') and old == '-' for key, (old, _) in changes.items()):
            return
        if not self.dataset.exists():
            return
        by_people = self._label_files(by_people=True)
        if before and _digest(by_people) != before.get('labels of people'):
            raise DatasetError(
                f'{self.dataset}: other settings ({", ".join(changes)}) would remove it, and '
                'people have labelled frames in it; restore the settings, or choose another output'
            )
        remove_folder(self.dataset)

    def _label_files(self, *, by_people: bool) -> list[Path]:
        """Files of labels, sorted; or those alone that no teacher has written."""
        names = sorted(path.stem for path in (self.dataset / LABELS).glob('*.json'))
        return [
            labels_path(self.dataset, name)
            for name in names
            if not by_people or read_label_source(self.dataset, name) is None
        ]

    # --- labels --------------------------------------------------------------------------

    @property
    def _labelling_bundles(self) -> tuple[str, ...]:
        section = self.config.labels
        if section.bundles or section.detections:
            return section.bundles
        return (str(self.config.teacher.bundle),)

    def _label_teachers(self) -> dict[str, str]:
        """What the labels depend on beside their settings."""
        from pointdistiller_core.pipelines.teachers import split_topic

        bundles = {
            text: read_info(find_bundle(text.partition('=')[0])).sha256[WEIGHTS]
            for text in self._labelling_bundles
        }
        recorded = {
            text: _size(split_topic(text.partition('=')[0])[0])
            for text in self.config.labels.detections
        }
        return {**bundles, **recorded, 'height': f'{self.sensor_height:g} m'}

    def label(self, _begun: bool) -> Facts:
        """Label what people have not."""
        section = self.config.labels
        further = {'bundles', 'detections', 'class_map', 'label_names'}
        config = parse_config(LabellingConfig, section.model_dump(exclude=further), where='labels')
        folder = FolderConfig(root=self.dataset, split='all', class_map=section.class_map)
        counts = label_folder(
            folder,
            config,
            bundles=self._labelling_bundles,
            detections=section.detections,
            label_names=section.label_names,
            device=self.config.device,
        )
        print_labels(counts, self.dataset, None)
        total = sum(each['labels'] for each in counts.labels.values())
        if not total and not counts.frames['kept']:
            raise DatasetError(
                f'{self.dataset}: nothing to learn: the teachers are sure of nothing in it; lower '
                'labels.trust.accept, give another teacher, or label some frames by hand'
            )
        kept, quality = counts.frames['kept'], quality_rows(counts)
        makers = label_makers(self.dataset)
        return {
            'summary': f'{total} boxes in {counts.frames["labelled"]} frames by teachers; '
            f'{kept} frames by {makers}',
            'tables': [
                [LABEL_COLUMNS, *label_rows(counts)],
                *([[QUALITY_COLUMNS, *quality]] if quality else []),
            ],
            'notes': [*counts.notes, *([quality_title(counts, makers)] if quality else [])],
            'frames': dict(counts.frames),
            'digest': _digest(self._label_files(by_people=False)),
        }

    # --- teacher and student -------------------------------------------------------------

    def _experiment(
        self,
        model: DetectorConfig,
        section: TrainingConfig,
        augmentation: AugmentationConfig,
        **further: Any,
    ) -> ExperimentConfig:
        return ExperimentConfig(
            model=model,
            dataset=self._folder(TRAIN),
            validation=self._folder(HELD_OUT),
            training=section,
            augmentation=augmentation,
            **further,
        )

    def train_teacher(self, _begun: bool) -> Facts:
        """Fine-tune the given bundle, or take it as it is."""
        section, source = self.config.teacher, self.config.teacher.bundle
        if not section.train:
            return {'summary': f'{source}, as it is', 'sha256': self.given.sha256[WEIGHTS]}
        experiment = self._experiment(self._model, section.training, section.augmentation)
        run_with_progress(
            settle_experiment(None, experiment, {'the teacher': source}),
            self.teacher,
            label='teacher',
            source=source,
            resume=(self.teacher / 'config.yaml').exists(),
            device=self.config.device,
            again='repeat the command',
        )
        return self._describe_run(self.teacher)

    def train_student(self, _begun: bool) -> Facts:
        """Cut a student out of the teacher, and distil it."""
        section = self.config.student
        experiment = self._experiment(
            self.student_model,
            section.training,
            section.augmentation,
            distillation=section.distillation,
        )
        run_with_progress(
            settle_experiment(None, experiment, {'the teacher': self.teacher}),
            self.student,
            label='student',
            teacher=self.teacher,
            resume=(self.student / 'config.yaml').exists(),
            device=self.config.device,
            again='repeat the command',
        )
        print_lessons(self.student)
        return self._describe_run(self.student)

    def _describe_run(self, run: Path) -> Facts:
        from pointdistiller_core.training.run import read_history, read_scores, read_sessions

        info = read_info(find_bundle(run))
        metric, scores = read_scores(run, info.model.class_names)
        history, sessions = read_history(run), read_sessions(run)
        first, last = history[0]['losses'], history[-1]['losses']
        rows = [['loss, weighted', 'first epoch', 'last epoch']] + [
            [name, f'{first[name]:.3f}', f'{last[name]:.3f}'] for name in first
        ]
        means = ', '.join(
            f'{name} {_number(value, ".1f")}' for name, value in scores.means.items()
        )
        marks = [
            ['beside the held-out labels', *scores.row],
            [f'{metric} metric', *(_number(value, '.1f') for value in scores.row.values())],
        ]
        training = info.training
        return {
            'summary': f'{len(history)} epochs over {training["frames"]} labelled and '
            f'{training["unlabelled_frames"]} other frames; {means}',
            'tables': [rows, marks],
            'notes': [self._word_about_labels()],
            'losses': [record['losses'] for record in history],
            'sha256': info.sha256[WEIGHTS],
            'started': sessions[0]['started'],
            'width': info.model.width,
        }

    def _word_about_labels(self) -> str:
        """Of whom the labels are that the held-out frames are scored by."""
        names, makers = self._frames(HELD_OUT).frame_ids, label_makers(self.dataset)
        by = Counter(read_label_source(self.dataset, name) or makers for name in names)
        listed = ', '.join(f'{count} by {source}' for source, count in by.most_common())
        word = f'labels of the {len(names)} held-out frames: {listed}'
        if by.keys() == {makers}:
            return word
        return f'{word}; beside labels of a teacher, scores tell how well it is repeated'

    # --- export and comparison -----------------------------------------------------------

    def export(self, _begun: bool) -> Facts:
        """Add the files of other backends, where they find what torch finds."""
        section, bundle = self.config.export, find_bundle(self.student)
        outcomes, notes = {}, []
        for target in section.to:
            try:
                self._export_to(target, bundle)
                outcomes[target] = 'added'
            except BackendError as error:
                outcomes[target] = 'left out'
                notes.append(str(error))
                print_note(f'warning: {error}')
        return {
            'summary': ', '.join(f'{name} {done}' for name, done in outcomes.items()) or 'nothing',
            'tables': [[['backend', ''], *([name, done] for name, done in outcomes.items())]],
            'notes': notes,
            'outcomes': outcomes,
        }

    def _export_to(self, target: str, bundle: Path) -> None:
        info = read_info(bundle)
        source = Source(self.dataset, TRAIN, usual_split=TRAIN, whole=True)
        num_learned = self.config.export.clouds if target == 'openvino-int8' else 0
        files = export_files(
            bundle, Target(target), open_calibration(source, info, num_learned=num_learned), info
        )
        real = check_clouds(Source(self.dataset, HELD_OUT), info)
        add_verified(bundle, target, files, real, json_file=None)

    def compare(self, _begun: bool) -> Facts:
        """Compare student and teacher on the held-out frames."""
        from pointdistiller_core.evaluation.comparison.report import (
            PAGE_FILE,
            backend_of,
            format_table,
            speed,
            table_rows,
        )
        from pointdistiller_core.pipelines.comparison import (
            ComparisonConfig,
            DatasetSelection,
            compare,
        )

        section = self.config.compare
        if self.comparison.exists():
            remove_folder(self.comparison)
        with progress_bar('compare', 'clouds', when_stopped=None) as update:
            summary = compare(
                ComparisonConfig(str(self.teacher), str(self.student), min_iou=section.min_iou),
                DatasetSelection(self._folder(HELD_OUT), section.stride),
                output=self.comparison,
                on_cloud=lambda done, total: update(done, total or done),
                warn=lambda text: print_note(f'warning: {text}'),
            )
        print_lines(format_table(summary).splitlines(), json_target=None)
        agreement, latency = summary['agreement'], summary['latency']
        times = ', '.join(
            f'{role} {_number(latency[role]["median_ms"], ".0f")} ms ({backend_of(summary, role)})'
            for role in ('teacher', 'student')
        )
        return {
            'summary': f'recall {_number(agreement["recall"])}, precision '
            f'{_number(agreement["precision"])}; {times}: '
            f'{" ".join(speed(latency["median_ratio"]))}',
            'tables': [table_rows(summary)],
            'notes': [f'all of it: {self.comparison.name}/{PAGE_FILE}', self._word_about_labels()],
            'recall': agreement['recall'],
            'precision': agreement['precision'],
            'student_boxes': agreement['num_found'],
            'times faster': latency['median_ratio'],
            'student_ms': latency['student']['median_ms'],
            'teacher_ms': latency['teacher']['median_ms'],
            'student_backend': backend_of(summary, 'student'),
        }


def _section(name: str, section: Config, without: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of a section under its name, less those that change only the speed."""
    values = section.model_dump(mode='json', exclude=set(without))
    training = values.get('training')
    if training is not None:
        values['training'] = {key: training[key] for key in training.keys() - INDIFFERENT}
    return {name: values}


def _untouched(section: ConfigT) -> ConfigT:
    """A section with its defaults, where it has some."""
    fields = type(section).model_fields
    needed = {name: getattr(section, name) for name in fields if fields[name].is_required()}
    return type(section)(**needed)


def _digest(files: Sequence[Path]) -> str:
    """A text that changes with the names and the content of some files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b'\0' + hashlib.sha256(path.read_bytes()).digest())
    return f'{len(files)} files, {digest.hexdigest()[:12]}'


def _size(bag: Path) -> str:
    files = [path for path in bag.rglob('*') if path.is_file()] if bag.is_dir() else [bag]
    return f'{sum(path.stat().st_size for path in files)} bytes'


def _number(value: float | None, form: str = '.2f') -> str:
    return '-' if value is None or math.isnan(value) else format(value, form)
