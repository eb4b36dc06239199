# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The pages: links lead somewhere, lines are short, verbs and options of commands exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any, get_args

import pytest
import typer

from docs.draw_rooms import PICTURE, arrows, rooms
from pointdistiller_core.cli import app
from pointdistiller_core.config import ExperimentConfig
from pointdistiller_core.config.base import Config
from pointdistiller_core.config.base import TermConfig as Term

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')])
LONGEST_LINE = 120
LINK = re.compile(r'\]\(([^)\s]+)\)')
COMMAND = re.compile(r'(?:^|[\s`])pointdistiller ([a-z][a-z-]*)((?: [^`|\n]*)?)')


def prose(page: Path) -> str:
    """The page without code, in which brackets are no links."""
    lines = page.read_text(encoding='utf-8').splitlines()
    text = '\n'.join(line for line in lines if not line.startswith('    '))
    return re.sub(r'`[^`\n]*`', '', text)


def anchors(page: Path) -> set[str]:
    """Names of the page's headings as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        if link.startswith('https://'):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def commands(page: Path) -> Iterator[tuple[str, set[str]]]:
    text = re.sub(r'\\\n\s*', '', page.read_text(encoding='utf-8'))
    for verb, rest in COMMAND.findall(text):
        if verb in {'bag', 'labels'}:  # their verbs have options of their own
            word, _, rest = rest.strip().partition(' ')
            verb = f'{verb} {word}'
        yield verb, set(re.findall(r'(?:^|\s)(--[a-z][a-z-]*)', rest.split(' # ')[0]))


def options_by_verb() -> dict[str, set[str]]:
    group = typer.main.get_command(app)
    verbs = {}
    subgroups = {
        f'{name} {verb}': command
        for name, subgroup in group.commands.items()
        for verb, command in getattr(subgroup, 'commands', {}).items()
    }
    for name, command in (group.commands | subgroups).items():
        names = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        verbs[name] = names | {'--help'}
    nodes = (ROOT / 'pointdistiller_ros').glob('run*.py')  # `run` hands its options on to these
    text = '\n'.join(file.read_text(encoding='utf-8') for file in nodes)
    words = re.findall(r"'(?:--)?([a-z_-]+)'", text)  # options, and parameters that have one
    return verbs | {'run': {f'--{word.replace("_", "-")}' for word in ['help', *words]}}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert list(broken_links(page)) == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_short(page):
    lines = page.read_text(encoding='utf-8').splitlines()
    long = [line for line in lines if len(line) > LONGEST_LINE]
    assert [line for line in long if not line.startswith(('|', '    ', '!['))] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page):
    known = options_by_verb()
    for verb, options in commands(page):
        assert verb in known, f'no verb {verb}'
        assert options <= known[verb], f'{verb} has no {sorted(options - known[verb])}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_exist(page):
    files = re.findall(r'`([\w/]+\.py)`', page.read_text(encoding='utf-8'))
    folders = ROOT, ROOT / 'pointdistiller_core'
    assert [file for file in files if not any((at / file).is_file() for at in folders)] == []


def test_git_ignores_what_the_commands_of_the_readme_write():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    written = re.findall(r'(?:simulate|--output|--record|--pictures|-o) ([\w/]+)', text)
    written += re.findall(r'make-bag \S+ (\w+)', text)
    ignored = (ROOT / '.gitignore').read_text(encoding='utf-8').splitlines()
    ignored = {line.strip('/') for line in ignored}
    assert {path.split('/')[0] for path in written} <= ignored


def test_every_page_is_linked():
    linked = {
        (page.parent / link.partition('#')[0]).resolve()
        for page in PAGES
        for link in LINK.findall(prose(page))
    }
    assert {page for page in PAGES if page.name != 'README.md'} <= linked


def test_picture_of_the_rooms_is_current():
    drawn = PICTURE.read_text(encoding='utf-8')
    edges = {f'{upper} imports {lower}' for upper, below in arrows().items() for lower in below}
    remedy = 'run `python docs/draw_rooms.py`'
    assert set(re.findall('<title>(.*)</title>', drawn)) == edges, remedy
    assert set(re.findall('class="name".*>(.*)</text>', drawn)) == rooms().keys(), remedy


def test_arrows_of_the_picture_lead_down():
    ends = re.findall(
        r'<path d="M\S+ (\d+) .* (\d+)"><title>', PICTURE.read_text(encoding='utf-8')
    )
    assert len(ends) == sum(map(len, arrows().values()))
    assert all(int(start) < int(end) for start, end in ends)


def keys_of(config: Any) -> Iterator[str]:
    """Keys of a configuration and of all parts and choices of it, but those of terms."""
    for part in get_args(config):
        yield from keys_of(part)
    if not isinstance(config, type) or not issubclass(config, Config) or issubclass(config, Term):
        return
    for name, field in config.model_fields.items():
        yield name
        yield from keys_of(field.annotation)
    for choice in vars(config).get('choices', {}).values():
        yield from keys_of(choice)


def test_pages_name_every_key_of_an_experiment():
    pages = [
        ROOT / f'docs/reference/{page}.md'
        for page in ('configuration', 'datasets', 'dataset_folder', 'augmentation')
    ]
    text = ' '.join(page.read_text(encoding='utf-8') for page in pages)
    named = set(re.findall(r'\w+', ' '.join(re.findall(r'`([^`\n]+)`', text))))
    assert set(keys_of(ExperimentConfig)) <= named
