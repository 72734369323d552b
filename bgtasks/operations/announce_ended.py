"""Counts and announces what people end, in the admin or by a command, as processes do with what they end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import transaction

from ..api import get_config
from ..journal.announcer import announce_verdict
from ..journal.tally import Tally
from ..maintenance.rollup_writer import write_apart
from ..status import FINISHED
from ..transitions import Verdict


@contextmanager
def telling(using: str) -> Iterator[list[Verdict]]:
    """Give a list for what is ended in transactions of the block, and tell of these at its end, however it ends."""
    ended: list[Verdict] = []
    try:
        yield ended
    finally:
        tell_ended(using, ended)


def tell_ended(using: str, verdicts: Sequence[Verdict]) -> None:
    """
    Count these in the rollups, and send their signals, once the open transaction is committed; at once without one.

    A journal that runs in this process does both on its thread. Else it is done here; an error is logged by Django.
    """
    if ended := [verdict for verdict in verdicts if verdict.status in FINISHED]:
        # No `partial`, which Django cannot name in its log.
        transaction.on_commit(lambda: _tell(using, ended), using=using, robust=True)


def _tell(using: str, ended: Sequence[Verdict]) -> None:
    runner = get_config().find_runner()
    if runner is not None and runner.journal.is_running:
        runner.journal.tell_soon(ended)
        return
    tally = Tally()
    for verdict in ended:
        tally.count_verdict(verdict)
        announce_verdict(verdict, None)
    write_apart(using, tally.take())
