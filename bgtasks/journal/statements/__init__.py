"""
The multi-row SQL of the journal and the claims: one method per statement, one class per database where it differs.

Plain SQL on tuples instead of model instances: the journal shares the interpreter with the server's event loop, and an
instance per task takes more time than everything else together. Statuses are part of the text, and not parameters,
where the database needs them to choose a partial index.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connections

from ...models.moments import to_datetime
from ..loop_turn import LoopTurn
from .base import Statements
from .claim import Wanted
from .errors import Disowned, is_missing_table
from .mariadb import MariaDBStatements
from .postgresql import MANY, PostgreSQLStatements
from .rows import FULL, PLAIN, Row, Shape, fired_by, shape_of
from .sqlite import SQLiteStatements

__all__ = [
    "FULL",
    "MANY",
    "PLAIN",
    "SUPPORTED_VENDORS",
    "Disowned",
    "PostgreSQLStatements",
    "Row",
    "Shape",
    "Statements",
    "Wanted",
    "bounded_transaction",
    "fired_by",
    "is_missing_table",
    "shape_of",
    "statements_for",
    "to_datetime",
]

_BY_VENDOR: dict[str, type[Statements]] = {
    "sqlite": SQLiteStatements,
    "postgresql": PostgreSQLStatements,
    "mysql": MariaDBStatements,
}
SUPPORTED_VENDORS = tuple(_BY_VENDOR)


def statements_for(
    alias: str, process_id: UUID, release: str, origin: UUID | None = None, loop_turn: LoopTurn | None = None
) -> Statements:
    """
    Return the statements for a database, bound to the calling thread's connection.

    Args:
        process_id: the process whose rows they write.
        origin: the process that counts the inserted rows as fired. None: the same one.
        loop_turn: that of the calling thread, if it has one.

    Raises:
        NotImplementedError: for a database that bgtasks cannot use yet.
    """
    vendor = connections[alias].vendor
    try:
        kind = _BY_VENDOR[vendor]
    except KeyError:
        raise NotImplementedError(f"bgtasks cannot use {vendor} yet. It can use: {', '.join(_BY_VENDOR)}.") from None
    return kind(alias, process_id, release, origin, loop_turn or LoopTurn())


@contextmanager
def bounded_transaction(using: str) -> Iterator[None]:
    """
    Open a transaction whose waits for locks are bounded, for statements of the ORM on the journal's thread.

    A long wait for a lock would keep the thread from beating, and other processes would declare this one dead.
    """
    with statements_for(using, UUID(int=0), "").transaction():
        yield
