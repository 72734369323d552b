"""The new identity of a process that others have declared dead, or whose row was deleted."""

from __future__ import annotations

import logging

from ..log import log
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import Status
from .heartbeat import Heartbeat
from .statements import Statements


def go_on_under_next_id(
    statements: Statements,
    state: ProcessState,
    heartbeat: Heartbeat,
    registry: Registry,
    pending: dict[int, Record],
) -> list[tuple[Record, Status]]:
    """
    Register the process under its next id, and keep the tasks that no other process has rescued yet.

    Records that were never written are written under the new id.

    Args:
        statements: those of the next id.
        pending: the records with a change to write; those of rescued tasks leave it.

    Returns:
        The rescued tasks, which are not its own any more, with the statuses of their rows.
    """
    old_id, new_id = state.id, state.find_next_id()
    records = {**registry.live, **pending}
    with statements.transaction() as cursor:
        heartbeat.register(statements, new_id)
        statements.adopt(cursor, old_id)
        rows = statements.read_back(cursor, list(records))
    state.adopt_next_id()
    taken = []
    for number, (status, _, process) in rows.items():
        record = records[number]
        if not statements.is_ours(process) and record.is_live and record.is_owned:
            pending.pop(number, None)
            taken.append((record, Status(status)))
    log(
        logging.ERROR,
        "This process was declared dead, or its row was deleted: it goes on as %s instead of %s. %s of its tasks were "
        "given their verdict meanwhile and are cancelled here.",
        new_id,
        old_id,
        len(taken),
    )
    return taken
