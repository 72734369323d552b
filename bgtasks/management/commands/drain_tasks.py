"""`manage.py drain_tasks`: ask processes to start no more tasks, and wait for their running tasks."""

from __future__ import annotations

import dataclasses
import time
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from ...conf import get_settings
from ...models import Process
from ...operations.drain_request import DrainRequest, DrainState, find_processes
from ..base import FOUND, TaskCommand, misuse, seconds
from ..formats import format_age, format_count, visible

LONGEST_PAUSE = 0.25  # Seconds between two looks.


class Command(TaskCommand):
    help = (
        "Ask running processes to start no more tasks, and wait until their running tasks have finished. Cancels "
        "nothing. Exits with 0 when nothing runs, 1 when something is left, 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--process", type=UUID, action="append", metavar="ID", help="Only this process; may be given again."
        )
        parser.add_argument("--host", metavar="NAME", help="Only the processes of this host.")
        parser.add_argument(
            "--timeout", type=seconds, metavar="SECONDS", help="Wait for at most this long; by default DRAIN_TIMEOUT."
        )
        parser.add_argument("--undo", action="store_true", help="Let the processes start tasks again.")
        parser.add_argument("--format", choices=["text", "json"], default="text", help="By default text.")

    def handle(self, *args: Any, **options: Any) -> None:
        settings = get_settings()
        ids = self._choose(options["process"], options["host"])
        request = DrainRequest(self.alias, ids, settings, is_undo=options["undo"])
        timeout = settings.drain_timeout if options["timeout"] is None else options["timeout"]
        began = time.monotonic()
        request.send()
        pause = min(settings.poll_interval / 2, LONGEST_PAUSE)
        try:
            state = self._wait(request, began + timeout, pause)
        except KeyboardInterrupt:
            self.say_progress("Stopped waiting. The request stands; `manage.py drain_tasks --undo` takes it back.")
            raise SystemExit(FOUND) from None
        took = time.monotonic() - began
        if options["format"] == "json":
            self._print_json(request, state, took)
        elif request.is_undo:
            self._print_undone(state)
        else:
            self._print(request, state, took)
        if not state.is_done:
            raise SystemExit(FOUND)

    def _choose(self, ids: list[UUID] | None, host: str | None) -> list[UUID]:
        processes = find_processes(self.alias)
        if host is not None:
            processes = processes.filter(host=host)
            if not Process.objects.using(self.alias).filter(host=host).exists():
                raise misuse(f"No process of a host {host!r} is known.")
        found = list(processes.order_by("id").values_list("pk", flat=True))
        if ids is None:
            return found
        if missing := [str(id_) for id_ in ids if id_ not in found]:
            raise misuse(f"No such process is running{f' on {host}' if host else ''}: {', '.join(missing)}.")
        return ids

    def _wait(self, request: DrainRequest, deadline: float, pause: float) -> DrainState:
        """Wait until the request is fulfilled or time is up; print each change of the state."""
        said = ""
        with self.make_progress() as progress:
            bar = progress.add_task("")
            most = 0
            while True:
                state = request.look()
                most = max(most, state.running_count)
                text = self._describe(request, state)
                progress.update(bar, description=text, total=most, completed=most - state.running_count)
                if progress.disable and text != said and not state.is_done:
                    self.say_progress(text)
                said = text
                left = deadline - time.monotonic()
                if state.is_done or left <= 0:
                    return state
                time.sleep(min(pause, left))

    @staticmethod
    def _describe(request: DrainRequest, state: DrainState) -> str:
        answered = f"{len(state.answers) - len(state.unanswered)} of {len(state.answers)} processes have answered"
        return answered if request.is_undo else f"{answered}, {state.running_count} running"

    def _print(self, request: DrainRequest, state: DrainState, took: float) -> None:
        ready = request.count_ready()
        if state.is_done:
            self.say(f"Drained: nothing runs, and nothing more is started, in {_count(state)} ({took:.1f} s).")
        else:
            self.say(f"Not drained after {took:.1f} s.")
        for answer in state.answers:
            if answer.is_silent:
                self.say(f"  Does not beat any more: {visible(answer)}")
            elif not answer.has_answered:
                self.say(f"  Has not answered: {visible(answer)}")
        running = request.find_running() if state.running_count else []
        for task in running:
            self.say(f"  Still running: {visible(task['name'])} {task['id']} for {format_age(task['started_at'])}")
        if state.running_count > len(running):
            self.say(f"  … and {state.running_count - len(running)} more.")
        self.say(f"{ready} ready: they wait in the table, for any process that may start them.")
        if not state.is_done:
            self.say(
                "The running tasks go on; nothing was cancelled. `manage.py drain_tasks --undo` takes the request back."
            )

    def _print_undone(self, state: DrainState) -> None:
        if state.is_done:
            self.say(f"{_count(state)} may start tasks again.")
        for answer in state.unanswered:
            self.say(f"  Has not answered: {visible(answer)}")

    def _print_json(self, request: DrainRequest, state: DrainState, took: float) -> None:
        document: dict[str, Any] = {
            "undone" if request.is_undo else "drained": state.is_done,
            "seconds": round(took, 3),
            "processes": [dataclasses.asdict(answer) for answer in state.answers],
        }
        if not request.is_undo:
            document |= {
                "running_count": state.running_count,
                "running": request.find_running(),
                "ready_count": request.count_ready(),
            }
        self.print_json(document)


def _count(state: DrainState) -> str:
    return format_count(len(state.answers), "process", "processes")
