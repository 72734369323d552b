"""
The process that `bgtasks.testing.killed` kills: it sets up the project, runs one task, and waits for the kill.

It is started as `python -c "from bgtasks.servers.victim import main; main()"`. It reads its order, a line of JSON, from
standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from importlib import import_module
from typing import Any


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, name="bgtasks-victim", daemon=True).start()
    with open(order["answer_to"], "w") as pipe:
        try:
            task = _prepare(order)
        except Exception as error:  # The test raises it.
            _answer(pipe, error=type(error).__name__, message=str(error))
            raise SystemExit(1) from error
        asyncio.run(_run(task, order, pipe))


def _end_with_parent() -> None:
    sys.stdin.read()  # Returns when the test's process ends.
    os._exit(1)


def _prepare(order: dict[str, Any]) -> Any:
    """Set up Django with the databases of the test; return the task."""
    sys.path[:], sys.argv[:] = order["path"], order["argv"]  # The project's settings may depend on them.
    import django
    from django.conf import settings

    for alias, name in order["databases"].items():
        settings.DATABASES[alias]["NAME"] = name
    settings.BGTASKS = order["settings"]
    django.setup()
    from ..definition import declared

    import_module(order["module"])
    task = declared.get(order["name"])
    if task is None:
        raise LookupError(
            f"{order['module']} declares no task {order['name']!r} when another process imports it: declare it at the "
            "top level of a module."
        )
    return task.using(on_lost=order["on_lost"], stuck_after=order["stuck_after"])


async def _run(task: Any, order: dict[str, Any], pipe: Any) -> None:
    from ..api import afire, get_runner
    from ..lifespan import Lifespan, make_scope
    from ..signals import lifespan_startup

    runner = get_runner()
    runner.loops.register_home(asyncio.get_running_loop())
    await lifespan_startup.asend(Lifespan, scope=make_scope())
    try:
        handle = await afire(task, *order["args"], **order["kwargs"])
    except Exception as error:  # As above.
        _answer(pipe, error=type(error).__name__, message=str(error))
        return
    _answer(pipe, id=str(handle.id), process=str(runner.state.id))
    await asyncio.Event().wait()


def _answer(pipe: Any, **values: str) -> None:
    json.dump(values, pipe)
    pipe.write("\n")
    pipe.flush()
