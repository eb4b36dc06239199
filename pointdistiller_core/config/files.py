# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration as YAML files: read, changed by overrides, written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
import yaml

from pointdistiller_core.config.base import Choice, Config
from pointdistiller_core.config.detector import DetectorConfig
from pointdistiller_core.config.experiment import ExperimentConfig
from pointdistiller_core.config.moved import move_keys, moved_keys
from pointdistiller_core.config.shipped import ConfigKind, shipped_configs
from pointdistiller_core.config.yaml_text import parse_yaml
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.files import read_text

ConfigT = TypeVar('ConfigT', bound=Config)


def parse_config(
    cls: type[ConfigT], values: Any, *, where: str, overrides: Sequence[str] = ()
) -> ConfigT:
    """Validate plain values (as YAML or JSON give them) against a configuration class.

    Args:
        cls: of the configuration.
        values: with the overrides.
        where: where the others come from, for messages.
        overrides: texts `key.sub=value` of the command line, which are blamed for their own keys.

    Raises:
        ConfigError: lists every problem with its key and value, and the keys that exist.
    """
    values = values if values is not None else {}
    above = 'model.' if issubclass(cls, DetectorConfig) else ''
    if moved := moved_keys({'model': values} if above else values):
        pairs = ((old.removeprefix(above), new.removeprefix(above)) for old, new in moved.items())
        problems = [(old, f'{old}: is now {new}') for old, new in pairs]
        raise _blame(problems, where, overrides)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        found = [
            ('.'.join(map(str, problem['loc'])), _describe(problem, cls, values))
            for problem in error.errors()
        ]
        raise _blame(found, where, overrides) from error


def load_config(cls: type[ConfigT], path: Path, overrides: tuple[str, ...] = ()) -> ConfigT:
    """Read a YAML file and apply `key.sub=value` overrides (values are YAML, too).

    Raises:
        ConfigError: no such file, not YAML, or the problems that `parse_config` lists.
    """
    values = apply_overrides(read_yaml(path), overrides)
    return parse_config(cls, values, where=str(path), overrides=overrides)


def load_experiment(path: Path, overrides: tuple[str, ...] = ()) -> ExperimentConfig:
    """Read an experiment, whose `model` may also be the name of a shipped model or a YAML file.

    Relative paths of datasets stay relative to the working folder, as on the command line.

    Raises:
        ConfigError: as `load_config`; an unknown model name lists the shipped ones.
    """
    whole, parts = (
        tuple(item for item in overrides if item.startswith('model=') is chosen)
        for chosen in (True, False)
    )
    values = read_model(apply_overrides(read_yaml(path), whole), path.parent)
    values = apply_overrides(values, parts)
    return parse_config(ExperimentConfig, values, where=str(path), overrides=overrides)


def load_stored_experiment(path: Path) -> ExperimentConfig:
    """Read the complete experiment that this or an earlier version wrote beside a run.

    Raises:
        ConfigError: as `load_config`.
    """
    return parse_config(ExperimentConfig, move_keys(read_yaml(path)), where=str(path))


def read_model(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values of an experiment with those of its model in place of the model's name or file.

    Raises:
        ConfigError: an unknown name lists the shipped models.
    """
    if not isinstance(model := values.get('model'), str):
        return values
    return {**values, 'model': read_yaml(find_config('models', model, folder))}


def find_config(kind: ConfigKind, name: str, folder: Path = Path()) -> Path:
    """The file of a configuration, given by the path of a YAML file or a shipped name.

    Args:
        kind: folder of the shipped files.
        name: a path may start at `folder` or at the working folder.
        folder: folder of the file that mentions the name.

    Raises:
        ConfigError: neither; lists the shipped names.
    """
    shipped = {path.stem: path for path in shipped_configs(kind)}
    for candidate in (folder / name, Path(name)):
        if candidate.suffix == '.yaml' and candidate.is_file():
            return candidate
    if name in shipped:
        return shipped[name]
    raise ConfigError(
        f'{kind}: no file and none shipped of the name {name!r}; choose from {sorted(shipped)}'
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        ConfigError: no such file, not YAML, or something else than keys and values.
    """
    try:
        values = parse_yaml(read_text(path, ConfigError)) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected keys and values, found a {type(values).__name__}')
    return values


def apply_overrides(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `values` in which each `key.sub=value` is set.

    Raises:
        ConfigError: an override is not of that form.
    """
    merged = dict(values)
    for override in overrides:
        path, separator, text = override.partition('=')
        if not separator or not path:
            raise ConfigError(f'{override!r}: write an override as key.sub=value')
        *parents, last = path.split('.')
        node = merged
        for name in parents:
            child = node.get(name)
            node[name] = dict(child) if isinstance(child, dict) else {}
            node = node[name]
        try:
            node[last] = parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f'{override!r}: the value is not valid YAML: {error}') from error
    return merged


def dump_config(config: Config) -> str:
    """The whole configuration as YAML, defaults included."""
    return yaml.safe_dump(
        config.model_dump(mode='json'), sort_keys=False, default_flow_style=None, width=99
    )


def _blame(
    problems: Sequence[tuple[str, str]], where: str, overrides: Sequence[str]
) -> ConfigError:
    """The error about some problems, each a key and a text; says which are those of overrides."""
    told, causes = [], set()
    for key, text in problems:
        own = [each for each in overrides if _concerns(each.partition('=')[0], key)]
        causes.add(bool(own))
        told.append(text + ''.join(f' (--set {each})' for each in own))
    if causes == {True}:  # the file is not to blame
        where = 'command line'
    return ConfigError('\n'.join([f'{where}:', *(f'  {text}' for text in told)]))


def _concerns(override: str, key: str) -> bool:
    """Whether a problem's key is that of an override, or above or below it."""
    places = iter(key.split('.'))  # among them may be names of models in a union
    wanted = override.split('.')
    below = all(part in places for part in wanted)
    return below or (key != '' and wanted[: key.count('.') + 1] == key.split('.'))


def _describe(problem: Any, cls: type[BaseModel], values: Any) -> str:
    path = f'{".".join(str(part) for part in problem["loc"]):.200}'
    if problem['type'] in ('union_tag_invalid', 'union_tag_not_found'):
        known = sorted(str(_tag(model)) for model in _models_at(cls, problem['loc'], values))
        given, key = problem['ctx'].get('tag'), problem['ctx']['discriminator'].strip("'")
        at = f'{path}.{key}'.removeprefix('.')
        return f'{at}: {f"no {given!r}" if given else "missing"}; choose from {known}'
    if problem['type'] != 'extra_forbidden':
        value = '' if problem['type'] == 'missing' else f' (got {problem["input"]!r:.80})'
        return f'{path or "(all)"}: {problem["msg"]}{value}'
    models = _models_at(cls, problem['loc'][:-1], values)
    known = sorted({name for model in models for name in model.model_fields})
    return f'{path}: unknown key; expected some of {known}'


def _models_at(
    cls: type[BaseModel], location: tuple[str | int, ...], values: Any
) -> list[type[BaseModel]]:
    """The (possibly nested) models that an error's location in plain values may mean."""
    models = _chosen(cls, values)
    for part in location:
        if isinstance(values, dict):  # otherwise the part is the name of a model in a union
            values = values.get(part, values)
        models = (
            [
                chosen
                for model in models
                if isinstance(part, str) and part in model.model_fields
                for nested in _models_in(model.model_fields[part].annotation)
                for chosen in _chosen(nested, values)
            ]
            or [model for model in models if _tag(model) == part]
            or models
        )
    return models


def _chosen(model: type[BaseModel], values: Any) -> list[type[BaseModel]]:
    """The class that values choose; all classes if they choose none."""
    if not issubclass(model, Choice) or 'choices' not in vars(model):
        return [model]
    chosen = model.chosen_by(values)
    return [chosen] if chosen else list(model.choices.values())


def _tag(model: type[BaseModel]) -> str | None:
    """The value that distinguishes a model from others of a union."""
    keys = [key for key in ('name', 'kind') if key in model.model_fields]
    return model.model_fields[keys[0]].default if keys else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, '__args__', ()) for model in _models_in(part)]
