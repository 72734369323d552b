"""`manage.py run_tasks`: a process with no HTTP that claims tasks and carries them out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.utils import timezone

from ...models import BackgroundTask
from ...servers.standalone import Standalone, leave_threads
from ..base import TaskCommand, at_least_one


class Command(TaskCommand):
    help = (
        "Claim waiting tasks and carry them out, in a process without HTTP. SIGTERM and Ctrl-C drain it, a second "
        "Ctrl-C ends it at once. Exits with 0 after a drain, 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--queue", action="append", default=[], metavar="NAME", help="Claim from this queue; may be given again."
        )
        parser.add_argument(
            "--max-running", type=at_least_one, metavar="N", help="Tasks at once; by default MAX_RUNNING."
        )
        parser.add_argument("--once", action="store_true", help="End when no task is left to claim, for cron and CI.")

    def handle(self, *args: Any, **options: Any) -> None:
        BackgroundTask.objects.using(self.alias).ready(timezone.now()).exists()  # Fails early without a database.
        process = Standalone(options["queue"], options["max_running"], options["once"])
        self._process = process
        report = process.run(self._say)
        self.say_progress(
            f"Drained in {report.seconds:.1f} s: {report.finished_count} finished, {report.cancelled_count} cut short, "
            f"{report.left_count} left."
        )
        # Under `call_command` the process belongs to another program, such as a test.
        if self._called_from_command_line:  # type: ignore[attr-defined]  # Missing in the stubs.
            leave_threads(0)

    def _say(self, event: str) -> None:
        runner = self._process.runner
        if event == "ready":
            queues = f"queues {', '.join(runner.state.queues)}" if runner.state.queues else "all queues"
            self.say_progress(f"Claiming tasks of {queues}, up to {runner.slots.count} at once. Ctrl-C drains.")
        else:
            running = runner.registry.count_running()
            self.say_progress(f"Draining: {running} running. Ctrl-C again ends the process at once.")
