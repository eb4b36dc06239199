# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""YAML of plain values only, without repeated keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


def parse_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        yaml.YAMLError: not YAML, a key twice in one mapping, or nested too deeply.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError('nested too deeply') from error


class _Loader(yaml.SafeLoader):
    """PyYAML silently lets the last of two equal keys win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # here and not where it is constructed, because there merged keys (<<) are among its own
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        counts = Counter((key.tag, key.value) for key in keys)
        for key in reversed(keys):
            if counts[key.tag, key.value] > 1:
                problem = f'the key {key.value!r} is there {counts[key.tag, key.value]} times'
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node
