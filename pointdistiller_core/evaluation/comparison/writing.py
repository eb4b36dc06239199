# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a comparison while it runs, and the folder that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
import logging
from threading import Lock
from typing import Any

from pointdistiller_core.errors import WriteError, describe
from pointdistiller_core.evaluation.comparison.report import (
    JSON_FILE,
    PAGE_FILE,
    ReportFolder,
    summarize,
    to_json,
)
from pointdistiller_core.evaluation.comparison.session import OnlineComparison

logger = logging.getLogger(__name__)


class ComparisonReport:
    """Writes the report of a comparison.

    Args:
        comparison: the comparison so far.
        folder: to write to; None writes nothing.
        facts: makes further facts; its argument says whether no more clouds will come.
        log: has the methods `info` and `warning`.

    Attributes:
        lock: of the comparison; take it to use the comparison.
        broke_off: why the run has ended early.
        fatal: why nothing more can be written.
    """

    def __init__(
        self,
        comparison: OnlineComparison,
        folder: ReportFolder | None,
        facts: Callable[[bool], Mapping[str, Any]],
        log: Any = logger,
    ) -> None:
        self._comparison, self._folder, self._facts = comparison, folder, facts
        self._started = datetime.now(timezone.utc).isoformat(timespec='seconds')
        self._log = log
        self.lock = Lock()
        self.broke_off: BaseException | None = None
        self.fatal: WriteError | None = None

    def note(self, error: Exception) -> None:
        """Remember an error with a message; an error of writing is fatal."""
        if isinstance(error, WriteError):
            self.fatal = error

    def summarize(self, *, ended: bool = False) -> dict[str, Any]:
        """All numbers so far.

        Args:
            ended: no more clouds will come. The numbers are then complete, unless an error has
                ended the run.
        """
        error = self.broke_off or self.fatal
        facts = {
            'complete': ended and error is None,
            'error': None if error is None else describe(error),
            'started': self._started,
            **self._facts(ended),
        }
        with self.lock:
            return summarize(self._comparison, facts)

    def save(self) -> None:
        """Write the numbers so far, in case somebody looks or the process is killed."""
        assert self._folder is not None
        try:
            self._folder.replace(JSON_FILE, to_json(self.summarize()))
        except WriteError as error:
            self.note(error)

    def finish(self) -> None:
        """Write the numbers and the page.

        If nothing has come, there is nothing to report, and the folder may be used again.

        Raises:
            WriteError: the report cannot be written.
        """
        if self._folder is None:
            return
        summary = self.summarize(ended=True)
        self._folder.close()
        received = summary['clouds']['received']
        if not (received or self._comparison.num_truth or summary['unusable_ground_truths']):
            self._log.warning(
                f'no report in {self._folder.path}: neither clouds nor labels have come'
            )
            return
        # Whatever happens to the page, the numbers are written; they are complete only with it.
        error = summary['error'] or f'{PAGE_FILE} is not written'
        self._folder.replace(JSON_FILE, to_json(summary | {'complete': False, 'error': error}))
        from pointdistiller_core.evaluation.comparison.page import build_page  # slow: matplotlib

        self._folder.replace(PAGE_FILE, build_page(self._comparison, summary))
        self._folder.replace(JSON_FILE, to_json(summary))
        self._log.info(f'wrote {self._folder.path / PAGE_FILE}')
