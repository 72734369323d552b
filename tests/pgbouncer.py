"""A private PgBouncer for PostgreSQL, in transaction mode: one server connection serves many clients in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests import databases
from tests.servers import find_port
from tests.waiting import wait_for

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

POOL_SIZE = 3  # Fewer than the connections of one server process.

# Round robin: two successive transactions never get the same session.
_INI = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_round_robin = 1
default_pool_size = {size}
max_client_conn = 200
server_tls_sslmode = disable
"""


class PgBouncer:
    def __init__(self, port: int) -> None:
        self.port = port

    def settings_of_sessions(self, database: str) -> list[dict[str, Any]]:
        """
        Return the state of each of its server connections that outlives a transaction, as a client finds it.

        One transaction holds each of them at the same time, so none is read twice.
        """
        with ExitStack() as stack:
            connections = [
                stack.enter_context(closing(databases.connect(database, autocommit=False, port=self.port)))
                for _ in range(POOL_SIZE)
            ]
            return [connection.execute(_SESSION).fetchone() for connection in connections]


_SESSION = """
    SELECT pg_backend_pid() AS backend,
        current_setting('lock_timeout') AS lock_timeout,
        current_setting('statement_timeout') AS statement_timeout,
        current_setting('idle_in_transaction_session_timeout') AS idle_timeout,
        (SELECT count(*) FROM pg_prepared_statements) AS prepared,
        (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors,
        (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks,
        (SELECT count(*) FROM pg_listening_channels()) AS channels
"""


@contextmanager
def start_pgbouncer() -> Iterator[PgBouncer]:
    """Run a PgBouncer; for root as another user, since it refuses to run as root."""
    assert PROGRAM is not None
    as_nobody: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    port = find_port()
    with tempfile.TemporaryDirectory(prefix="bgtasks-pgbouncer-") as name:
        folder = Path(name)
        ini = folder / "pgbouncer.ini"
        ini.write_text(_INI.format(server=databases.libpq_settings(), port=port, size=POOL_SIZE))
        if as_nobody:
            for path in (folder, ini):
                shutil.chown(path, "nobody", "nogroup")
        log_path = folder / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen([PROGRAM, str(ini)], stdout=log, stderr=log, cwd="/", **as_nobody)
        try:
            wait_for(partial(_answers, process, port), "PgBouncer answers", 20, log_path.read_text)
            yield PgBouncer(port)
        finally:
            process.terminate()
            process.wait(20)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    import psycopg

    assert process.poll() is None, "PgBouncer has ended."
    try:
        databases.connect(databases.MAINTENANCE, port=port).close()
    except psycopg.OperationalError:
        return False
    return True
