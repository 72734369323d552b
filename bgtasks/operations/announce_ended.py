"""Counts and announces the tasks that are ended by hand, as a process does with the tasks that it ends itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from django.db import transaction

from ..api import get_config
from ..journal.announcer import announce_verdict
from ..journal.tally import Tally
from ..maintenance.rollup_writer import write_apart
from ..status import FINISHED
from ..transitions import Verdict


@contextmanager
def announcing(using: str) -> Iterator[list[Verdict]]:
    """
    Announce the tasks that the block ends in its transactions.

    Yields:
        The list to which the block adds their verdicts. They are announced even if the block raises.
    """
    ended: list[Verdict] = []
    try:
        yield ended
    finally:
        announce_ended(using, ended)


def announce_ended(using: str, verdicts: Sequence[Verdict]) -> None:
    """
    Count ended tasks in the rollups and send their signals, after the commit of the open transaction if there is one.

    A journal that runs in this process does both on its thread. Otherwise the calling thread does, and Django logs an
    error.
    """
    if ended := [verdict for verdict in verdicts if verdict.status in FINISHED]:
        # No `partial`: Django could not name it in its log.
        transaction.on_commit(lambda: _announce(using, ended), using=using, robust=True)


def _announce(using: str, ended: Sequence[Verdict]) -> None:
    runner = get_config().find_runner()
    if runner is not None and runner.journal.is_running:
        journal = runner.journal
        journal.submit(partial(journal.after_commit.announce_verdicts, ended))
        return
    tally = Tally()
    for verdict in ended:
        tally.count_verdict(verdict)
        announce_verdict(verdict, None)
    write_apart(using, tally.take())
