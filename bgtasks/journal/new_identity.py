"""The new identity of a process that others have declared dead, or whose row was deleted."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..log import log
from ..process.record import Record
from ..process.state import ProcessState
from ..status import Status
from .heartbeat import Heartbeat
from .statements import Statements


def go_on_under_next_id(
    statements: Statements, state: ProcessState, heartbeat: Heartbeat, records: Mapping[int, Record]
) -> list[tuple[Record, Status]]:
    """
    Register the process under its next id, and keep the tasks that no other process has rescued yet.

    Records that were never written are written under the new id.

    Args:
        statements: those of the next id.
        records: all records of this process that are live or have a change to write.

    Returns:
        The records of rescued tasks, which do not belong to this process any more, with the status in their rows.
    """
    old_id, new_id = state.id, state.find_next_id()
    with statements.transaction() as cursor:
        heartbeat.register(statements, new_id)
        statements.adopt(cursor, old_id)
        rows = statements.read_back(cursor, list(records))
    state.adopt_next_id()
    rescued = [
        (record, Status(status))
        for number, (status, _, process) in rows.items()
        if not statements.is_ours(process) and (record := records[number]).is_live and record.is_owned
    ]
    log(
        logging.ERROR,
        "This process was declared dead, or its row was deleted: it goes on as %s instead of %s. %s of its tasks were "
        "given their verdict meanwhile and are cancelled here.",
        new_id,
        old_id,
        len(rescued),
    )
    return rescued
