# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The page of a job's stages is one file, and takes every text as text."""

from __future__ import annotations

from base64 import b64decode
import re

from pointdistiller_core.evaluation.stages_page import (
    Picture,
    Section,
    build_stages_page,
    plot_losses,
)


def test_every_part_of_a_section_is_there_as_text():
    section = Section(
        '1. <labels>',
        'a & b',
        tables=[[['class', 'boxes'], ['Car', '3']]],
        notes=['<i>no'],
        pictures=[Picture(b'png', 'png', 'a "sweep"')],
    )
    page = build_stages_page('own', 'of drive_1', {'frames': '7'}, [section])
    for part in (
        *('<title>own</title>', '<h1>own</h1>', '<b>7</b><span>frames</span>'),
        *('<h2>1. &lt;labels&gt;</h2>', '<p>a &amp; b</p>', '&lt;i&gt;no'),
        *('<td>Car</td><td>3</td>', 'alt="a &quot;sweep&quot;"', 'data:image/png;base64,cG5n'),
    ):
        assert part in page
    assert 'http' not in page


def test_losses_that_are_always_zero_are_left_out():
    losses = [{'box': 2.0, 'logits': 1.0, 'none': 0.0}, {'box': 1.0, 'logits': 0.5, 'none': 0.0}]
    picture = plot_losses(losses, 'Training of the student')
    assert picture.kind == 'svg+xml'
    comments = re.findall(r'<!-- (.*?) -->', picture.content.decode())
    assert {'box', 'logits', 'total'} & set(comments) == {'box', 'logits'}
    assert 'none' not in comments
    page = build_stages_page('x', '', {}, [Section('s', pictures=[picture])])
    (data,) = re.findall(r'base64,([^"]+)', page)
    assert b64decode(data) == picture.content
