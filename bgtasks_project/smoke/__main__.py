"""The command: runs all steps, prints the ledger, exits with 0 if it balances, 1 if not, 2 if a step failed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .evidence import read_arrivals, read_drains, read_process_states, read_reports, read_rows
from .ledger import CUT_SHORT, LIVE, Ledger, Stop
from .load import Load
from .processes import GRACEFUL_SECONDS, ProcessFailed, Server, receiver

DRAIN_SECONDS = 4.0  # Some of the tasks that run at the end take less, the others more.
STOP_SECONDS = GRACEFUL_SECONDS + DRAIN_SECONDS + 5 + 3 + 3  # … + CANCEL_GRACE + FLUSH_TIMEOUT + a slow machine.
LEAST_REQUESTS = 20  # With fewer, some kinds of requests are missing.
SHOWN_PROBLEMS = 5


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make smoke", description="Prove on real input that no task gets lost.")
    parser.add_argument("--requests", type=int, default=700, help="requests to send before the stop (default: 700)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the random order and content of the requests (default: 1)"
    )
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave database, logs and reports in a new folder")
    options = parser.parse_args(arguments)
    if options.requests < LEAST_REQUESTS:
        parser.error(f"--requests is at least {LEAST_REQUESTS}.")
    if options.keep and options.keep.exists() and any(options.keep.iterdir()):
        parser.error(f"--keep: {options.keep} is not empty.")
    return options


async def run(folder: Path, requests: int, seed: int, progress: Progress) -> Ledger:
    """Send the load, stop the server while tasks run, and gather the evidence of all processes."""
    mail_log, webhook_log = folder / "mail.jsonl", folder / "webhooks.jsonl"
    with contextlib.ExitStack() as stack:
        mail_port = stack.enter_context(receiver("mail", mail_log))
        webhook_port = stack.enter_context(receiver("webhooks", webhook_log))
        server = Server(
            folder,
            DEMO_SMTP_HOST="127.0.0.1",
            DEMO_SMTP_PORT=str(mail_port),
            DEMO_DRAIN_TIMEOUT=str(DRAIN_SECONDS),
        )
        stack.callback(server.kill)
        server.manage("migrate", "--verbosity", "0")
        server.start()
        async with Load(server.address, f"http://127.0.0.1:{webhook_port}", seed) as load:
            shown = progress.add_task("requests", total=requests)
            await load.send(requests, lambda: progress.advance(shown))
            await load.send_tail()
            shown = progress.add_task("drain", total=None)
            load.expect_stop()
            more = asyncio.create_task(load.send_until_stopped())  # So that the stop comes during requests.
            began = time.monotonic()
            server.terminate()
            await asyncio.to_thread(server.wait, STOP_SECONDS)
            seconds = time.monotonic() - began
            await more
            progress.update(shown, total=1, completed=1)
    return Ledger(
        fired=load.fired,
        rows=read_rows(server.database),
        arrivals=[
            *read_arrivals("mail", mail_log),
            *read_arrivals("webhook", webhook_log),
            *read_reports(folder / "reports"),
        ],
        stop=Stop(
            seconds=seconds,
            allowed_seconds=STOP_SECONDS,
            process_states=read_process_states(server.database),
            drains=read_drains(server.database),
        ),
        answers=load.answers,
        surprises=load.surprises,
        unanswered_count=load.unanswered_count,
    )


def show(ledger: Ledger, console: Console) -> None:
    """Print the fired tasks by outcome, then each claim and whether it holds."""
    statuses = ["SUCCESSFUL", "FAILED", *sorted(CUT_SHORT), "LOST", *sorted(LIVE), "no row"]
    seen = [status for status in statuses if any(counts[status] for counts in ledger.counts.values())]
    table = Table(
        title=f"{sum(ledger.answers.values())} requests fired {len(ledger.fired)} tasks", title_justify="left"
    )
    table.add_column("kind")
    for heading in ["fired", *(status.lower() for status in seen), "arrived", "refused"]:
        table.add_column(heading, justify="right")
    for kind, counts in sorted(ledger.counts.items()):
        arrivals = [arrival for arrival in ledger.arrivals if arrival.kind == kind]
        refused_count = sum(arrival.is_refused for arrival in arrivals)
        outside = ["–", "–"] if kind == "other" else [str(len(arrivals) - refused_count), str(refused_count)]
        table.add_row(kind, str(counts.total()), *(str(counts[status]) for status in seen), *outside)
    console.print(table)
    drain = ledger.stop.drains[0] if ledger.stop.drains else {}
    numbers = ", ".join(f"{number} {name.removesuffix('_count').replace('_', ' ')}" for name, number in drain.items())
    console.print(f"Drain: {numbers or 'none recorded'}.", soft_wrap=True)
    console.print(
        f"SIGTERM to exit: {ledger.stop.seconds:.1f} s; {ledger.unanswered_count} requests then found no server.\n",
        soft_wrap=True,
    )
    for check in ledger.checks:
        mark = "[green]✓[/green]" if check.holds else "[red]✗[/red]"
        console.print(f"{mark} {check.claim} [dim]({check.compared} compared)[/dim]", highlight=False, soft_wrap=True)
        for problem in check.problems[:SHOWN_PROBLEMS]:
            console.print(f"    {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        if len(check.problems) > SHOWN_PROBLEMS:
            console.print(f"    and {len(check.problems) - SHOWN_PROBLEMS} more", style="red", soft_wrap=True)
    verdict = "[green]The ledger balances.[/green]" if ledger.balances else "[red]The ledger does not balance.[/red]"
    console.print(f"\n{verdict}")


def as_json(ledger: Ledger) -> str:
    return json.dumps(
        {
            "balances": ledger.balances,
            "requests": sum(ledger.answers.values()),
            "answers": ledger.answers,
            "unanswered": ledger.unanswered_count,
            "tasks": ledger.counts,
            "stop": dataclasses.asdict(ledger.stop),
            "checks": [{**dataclasses.asdict(check), "holds": check.holds} for check in ledger.checks],
        },
        indent=2,
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    console = Console()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with contextlib.ExitStack() as stack:
        if options.keep:
            folder = options.keep.resolve()
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bgtasks-smoke-")))
        try:
            with progress:
                ledger = asyncio.run(run(folder, options.requests, options.seed, progress))
        except ProcessFailed as error:
            print(error, file=sys.stderr)
            return 2
    if options.format == "json":
        print(as_json(ledger))
    else:
        show(ledger, console)
    return 0 if ledger.balances else 1


if __name__ == "__main__":
    sys.exit(main())
