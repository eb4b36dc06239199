# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Studies: the same student trained in several ways, at one of several sizes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pointdistiller_core.config.base import Config, Count
from pointdistiller_core.config.files import parse_config
from pointdistiller_core.config.simulation import SimulationConfig
from pointdistiller_core.errors import ConfigError

TEACHER = 'teacher'

Name = Annotated[str, Field(pattern='^[a-z][a-z0-9_]*$')]
Seed = Annotated[int, Field(ge=0)]
Values = dict[str, Any]


def merge(*parts: Values) -> Values:
    """Merge nested values; later ones win, and lists are replaced as a whole."""
    merged: Values = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


class SimulatedDataConfig(Config):
    """The frames of every run: simulated once; equal seeds give equal frames."""

    seed: Seed
    format: Literal['kitti', 'nuscenes'] = Field(
        'kitti', description='kitti: independent frames; nuscenes: drives with past sweeps'
    )
    train: Count
    val: Count = Field(description='for choosing settings; no study looks at them')
    test: Count = Field(description='for the tables')
    simulation: SimulationConfig = SimulationConfig()


class StudySizeConfig(Config):
    """Data, networks and training of every study; the settings of an arm are added.

    `experiment`, `teacher` and `students` are parts of an experiment's file, without the places
    of the datasets.
    """

    data: SimulatedDataConfig
    models: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description='by family, the model of the teacher and of each student; the first family '
        'is taken unless another one is asked for',
    )
    experiment: Values = Field(default_factory=dict, description='of every network')
    teacher: Values = Field(description="on top of it; its training.seed is the teacher's")
    students: dict[str, Values] = Field(description='on top of it, by the name of the network')
    families: dict[str, Values] = Field(
        default_factory=dict,
        description='by family, what differs from the above: data, experiment, teacher, students, '
        'terms',
    )
    absent: tuple[str, ...] = Field(
        (), description='students that the family has no model of; their arms are left out'
    )
    terms: dict[str, Values] = Field(
        default_factory=dict,
        description='by name, what a term of distillation has where an arm does not say otherwise',
    )

    def of_family(self, name: str | None) -> StudySizeConfig:
        """The same with the models of one family; None is the first one.

        Raises:
            ConfigError: it has no such family, or no model of its teacher or any student.
        """
        if name is None and not self.models:
            return self
        family = next(iter(self.models)) if name is None else name
        if family not in self.models:
            raise ConfigError(f'no models of {family!r}; choose from {list(self.models)}')
        models, own = self.models[family], self._with_values_of(family)
        absent = tuple(each for each in own.students if each not in models)
        if TEACHER not in models or len(absent) == len(own.students):
            missing = [each for each in (TEACHER, *own.students) if each not in models]
            raise ConfigError(f'models.{family}: no model of {missing}')
        students = {
            student: {'model': models[student], **values}
            for student, values in own.students.items()
            if student in models
        }
        teacher = {'model': models[TEACHER], **own.teacher}
        return own.model_copy(update={'teacher': teacher, 'students': students, 'absent': absent})

    def _with_values_of(self, family: str) -> StudySizeConfig:
        """The same with what `families` says of one."""
        if unknown := sorted(self.families.keys() - self.models.keys()):
            raise ConfigError(f'families: no models of {unknown}; there are {list(self.models)}')
        values = merge(self.model_dump(exclude_unset=True), self.families.get(family, {}))
        return parse_config(StudySizeConfig, values, where=f'families.{family}')


class ArmConfig(Config):
    """One way to train a student."""

    name: Name = Field(description='the same in every study that has this arm')
    title: str = Field('', description='in tables and pictures; by default the name')
    student: str = Field('4x', description='a network of the size')
    experiment: Values = Field(default_factory=dict, description='what is special, distillation')
    size: str | None = Field(None, description='the only size that has this arm')


class StudyConfig(Config):
    """Arms to compare, each trained with every seed."""

    title: str
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1)
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    order: Literal['labels', 'arms'] = Field(
        'labels',
        description='of the runs; labels: all without distillation, then one seed of every arm '
        'after the other; arms: all seeds of an arm, in the order of the arms',
    )
    comparisons: tuple[tuple[Name, Name], ...] = Field(
        (), description='pairs of arms, of which the first is compared with the second'
    )
    curves: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='a setting of a distillation term, and the arms that are drawn over it',
    )

    @field_validator('seeds')
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) != len(set(seeds)):
            raise ValueError('each seed may appear once')
        return seeds

    @model_validator(mode='after')
    def _check_names(self) -> StudyConfig:
        names = [TEACHER, *(arm.name for arm in self.arms)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'arms {repeated}: each may appear once, and {TEACHER!r} is taken')
        groups = {'curves': self.curves.values(), 'comparisons': self.comparisons}
        for key, parts in groups.items():
            if unknown := sorted({name for arms in parts for name in arms} - set(names)):
                raise ValueError(f'{key}: there are no arms {unknown}; there are {names}')
        return self
