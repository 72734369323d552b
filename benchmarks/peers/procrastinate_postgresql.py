"""
Procrastinate: the row is committed when the call returns, each state is in the table. By default one task at a time.

Its table is filled and analysed first: with a plan for the empty table it is many times slower.
"""

from __future__ import annotations

import os
from contextlib import closing

from benchmarks.peers.protocol import Absent, Answer, Request, answer, measure_system, wait_until_works, worker

FINISHED = 5000
NAME = f"bgtasks_procrastinate_{os.getpid()}"
COUNT = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


async def measure(request: Request) -> Answer:
    import psycopg

    server = " ".join(
        f"{key}={os.environ.get(variable, default)}"
        for key, variable, default in [
            ("host", "TESTS_DB_HOST", "127.0.0.1"),
            ("port", "TESTS_DB_PORT", "5432"),
            ("user", "TESTS_DB_USER", "postgres"),
            ("password", "TESTS_DB_PASSWORD", "''"),
        ]
    )
    try:
        maintenance = psycopg.connect(f"{server} dbname=postgres", autocommit=True)
    except psycopg.OperationalError as error:
        raise Absent(f"no PostgreSQL: {error}") from None
    with closing(maintenance):
        maintenance.execute(f"CREATE DATABASE {NAME}")
        try:
            return await measure_on(request, f"{server} dbname={NAME}")
        finally:
            maintenance.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


async def measure_on(request: Request, place: str) -> Answer:
    import psycopg

    os.environ["BENCHMARKS_PROCRASTINATE"] = place
    from benchmarks.peers.procrastinate_app import app, body

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        with closing(psycopg.connect(place, autocommit=True)) as connection:

            def count() -> int:
                return int(connection.execute(COUNT).fetchone()[0])

            connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status) "
                "SELECT 'default', 'body', '{}', 'succeeded' FROM generate_series(1, %s)",
                [FINISHED],
            )
            connection.execute("ANALYZE")
            command = ["-m", "procrastinate", "--app", "benchmarks.peers.procrastinate_app.app", "worker"]
            if request.is_best:
                command += ["--concurrency", "100"]
            with worker(*command) as process:
                await body.defer_async(number=0, seconds=0)
                await wait_until_works(process, lambda: count() > FINISHED)

                async def fire(number: int) -> None:
                    await body.defer_async(number=number, seconds=request.body_seconds)

                return await measure_system(request, fire, lambda: count() - FINISHED - 1, pause=0.02)


if __name__ == "__main__":
    answer(measure)
