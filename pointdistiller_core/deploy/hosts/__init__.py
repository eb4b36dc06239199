# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The part before the dense network of each family, in NumPy.

A family without a host, or without a split (`deploy.export.split`), runs only in torch.
"""

from __future__ import annotations

from pointdistiller_core.deploy.hosts.host import Host
from pointdistiller_core.deploy.hosts.pillar_host import PillarHost
from pointdistiller_core.deploy.hosts.second_host import SecondHost

__all__ = ['HOSTS', 'Host']

HOSTS: dict[str, type[Host]] = {'pointpillars': PillarHost, 'second': SecondHost}
