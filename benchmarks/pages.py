"""
The time and the number of queries of the admin's pages at a thousand tasks and at a million.

    python -m benchmarks.pages [--database postgresql] [--rows 1000 1000000] [--quick]

Each size has its own database, filled as by `benchmarks.seed_rows`, and its own process. The sizes take turns in every
repeat. All have the same live tasks, processes and drains, and the same sample of finished tasks, in which rare cases
are frequent. So each list shows as many rows at every size, and the sizes differ only in the rows beside the sample.
The bar: the time at the last size is at most 2 × that at the first, 3 × on SQLite, and the number of queries is the
same. The ledger is exempt: it counts all rows on request.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from benchmarks import harness
from benchmarks.harness import Child, Report, reply, use_database
from benchmarks.seed_rows import Seeded, Seeder, beat, settle

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.test import Client  # Needs the settings.

SIZES = [1000, 1_000_000]
QUICK_SIZES = [1000, 20_000]
LIVE, SAMPLE = 200, 800
LOOKS = 3  # A repeat takes their median.
BARS = {"sqlite": 3.0, "postgresql": 2.0, "mariadb": 3.0}
FUNCTION = "shop.search.tasks.index_product"
MAX_SHOWN, PER_PAGE = 10_000, 50  # Of the list of all tasks.

Pages = dict[str, str]  # {name: address, or the reason why there is none}.


async def measure(report: Report, options: harness.Options) -> None:
    sizes = options.rows or (QUICK_SIZES if options.quick else SIZES)
    with ExitStack() as stack:
        # The largest first: it is slow to fill, and live tasks of the others would be stuck by then.
        filled = {size: stack.enter_context(Child("pages", "child", options.database, size)) for size in sizes[::-1]}
        shops = {size: filled[size] for size in sizes}
        for one in shops.values():
            one.ask("look")  # Warms up.
        for repeat in range(options.repeats):
            # In alternating order, so that no size always has the cold caches.
            for size, one in list(shops.items())[:: -1 if repeat % 2 else 1]:
                for page, micros in one.ask("look").items():
                    report.add(page, f"{size:,} tasks", "µs", [micros])
        for size, one in shops.items():
            for page, count in one.ask("count").items():
                report.add(f"{page}: queries", f"{size:,} tasks", "queries", [count])
            for page, number in one.ask("rows").items():
                report.add(f"{page}: rows shown", f"{size:,} tasks", "rows", [number])
        for size, one in shops.items():
            for page, why in one.ask("skipped").items():
                say(f"Not measured at {size:,} tasks: {page}: {why}.")
    say("The ledger is exempt: it counts all rows on request.")
    judge(report, BARS[options.database])


def judge(report: Report, bar: float) -> None:
    """Print the pages above the bar, with the numbers of their rows: a page of fifty takes longer than one of two."""
    shown: dict[str, list[str]] = {}
    for row in report.as_list():
        if row["unit"] == "rows":
            shown.setdefault(row["measure"].removesuffix(": rows shown"), []).append(f"{row['median']:.0f}")
    rows = [row for row in report.as_list() if row["ratio"] is not None]
    above = [row for row in rows if row["unit"] == "µs" and row["ratio"] > bar]
    grown = [row["measure"].removesuffix(": queries") for row in rows if row["unit"] == "queries" and row["ratio"] > 1]
    for row in above:
        numbers = f" (rows shown: {', '.join(shown[row['measure']])})" if row["measure"] in shown else ""
        say(f"Above {bar:g} ×: {row['measure']} {row['ratio']:.2f} ×{numbers}.")
    say(f"More queries than at the first size: {', '.join(grown) or 'none'}.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# In a process of its own.


def answer(rows: int) -> None:
    live = min(LIVE, rows // 5)
    seeded = Seeder("default").seed(rows, live, sample=min(SAMPLE, rows - live), failing=FUNCTION)
    settle()
    client = log_in()
    pages, skipped = find_pages(client, rows, seeded)
    reply({})
    for line in sys.stdin:
        beat("default", seeded.living)
        match line.strip():
            case "look":
                reply({page: clock(client, address) for page, address in pages.items()})
            case "count":
                reply({page: count(client, address) for page, address in pages.items()})
            case "rows":
                shown = {page: count_rows(client, address) for page, address in pages.items()}
                reply({page: number for page, number in shown.items() if number is not None})
            case "skipped":
                reply(skipped)


def log_in() -> Client:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("benchmark"))
    return client


def find_pages(client: Client, rows: int, seeded: Seeded) -> tuple[Pages, Pages]:
    """Return the addresses of the pages, and the reasons for those that are missing."""
    from django.urls import NoReverseMatch, reverse

    found: Pages = {}
    skipped: Pages = {}
    for name, (view, row, query) in choose_pages(rows, seeded).items():
        try:
            address = reverse(f"admin:bgtasks_{view}", args=row)
        except NoReverseMatch:
            skipped[name] = "there is no such page yet"
            continue
        address += f"?{urlencode(query)}" if query else ""
        status = client.get(address).status_code
        if status == 200:
            found[name] = address
        else:  # 302: Django's answer to an unknown filter.
            skipped[name] = f"{address} answers {status}"
    return found, skipped


def choose_pages(rows: int, seeded: Seeded) -> dict[str, tuple[str, list[Any], dict[str, object]]]:
    """Return the pages: {name: (view, arguments, query)}."""
    from bgtasks.models import BackgroundTask, Drain

    tasks = BackgroundTask.objects.order_by("-id")
    failed = tasks.filter(name=FUNCTION, status="FAILED")[0]
    key = find_single(tasks.filter(name=FUNCTION, status="SUCCESSFUL"), "key")
    keyed = tasks.filter(name=FUNCTION, key=key)[0]
    process = seeded.living[0]
    far = tasks.values_list("id", flat=True)[min(rows, MAX_SHOWN) - PER_PAGE - 1]
    function = {"name": FUNCTION}
    lists: dict[str, tuple[str, dict[str, object]]] = {
        "overview": ("overview", {}),
        "live": ("livetask", {}),
        "failures": ("failedtask", {}),
        "stuck": ("stucktask", {}),
        "all": ("backgroundtask", {}),
        "all, what failed": ("backgroundtask", {"show": "failed"}),
        "all, of a rare status": ("backgroundtask", {"status": "LOST"}),
        "all, of a function": ("backgroundtask", function),
        "all, of a day": ("backgroundtask", {"fired": "day"}),
        "all, by three filters": ("backgroundtask", {**function, "status": "FAILED", "fired": "week"}),
        "all, of a process": ("backgroundtask", {"process": process}),
        "all, of a queue": ("backgroundtask", {"queue": "reports"}),
        "all, of a user": ("backgroundtask", {"user": find_single(tasks, "fired_by__user_id")}),
        "all, of an error": ("backgroundtask", {"error": failed.error_type}),
        "all, of a group": ("backgroundtask", {**function, "fingerprint": failed.error_fingerprint}),
        "all, oldest first": ("backgroundtask", {"o": 3}),
        "all, far back": ("backgroundtask", {"before": far}),
        "search, an id": ("backgroundtask", {"q": failed.pk}),
        "search, a key": ("backgroundtask", {"q": key}),
        "search, a part of a name": ("backgroundtask", {"q": "bounces"}),
        "search, an argument": ("backgroundtask", {"q": f"args.user_id:{find_single(tasks, 'kwargs__user_id')}"}),
        "search, nothing is found": ("backgroundtask", {"q": "nothing-like-it"}),
        "task functions": ("taskfunction", {}),
        "processes": ("process", {}),
        "drains": ("drain", {}),
    }
    rows_of = {
        "a failed task": ("backgroundtask", failed.pk),
        "a task with a key": ("backgroundtask", keyed.pk),
        "a process": ("process", process),
        "a drain": ("drain", Drain.objects.order_by("-id")[0].pk),
    }
    return {
        **{name: (f"{model}_changelist", [], query) for name, (model, query) in lists.items()},
        "a task function": ("taskfunction_function", [], function),
        **{name: (f"{model}_change", [pk], {}) for name, (model, pk) in rows_of.items()},
    }


def find_single(tasks: QuerySet[Any], column: str) -> Any:
    """Return the newest value of a column that a single task has, among the tasks that a search covers."""
    from bgtasks.admin.shared.search_window import RECENT

    counts = Counter(tasks.values_list(column, flat=True)[:RECENT])
    return next(value for value, count in counts.items() if value and count == 1)


def clock(client: Client, address: str) -> float:
    """Return the microseconds for a page, the median of LOOKS."""
    micros = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        status = client.get(address).status_code
        micros.append((time.perf_counter() - began) * 1e6)
        assert status == 200, f"{address} answers {status}"
    return statistics.median(micros)


def count(client: Client, address: str) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    return len(queries)


def count_rows(client: Client, address: str) -> int | None:
    """Return the number of rows, or groups of rows, of a list; None for another page."""
    shown = getattr(client.get(address), "context_data", None) or {}
    if "groups" in shown:
        return len(shown["groups"])
    return len(shown["cl"].result_list) if "cl" in shown else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of tasks (default 10³, 10⁶; quick 10³, 2·10⁴)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        with use_database(sys.argv[2]):
            answer(int(sys.argv[3]))
    else:
        harness.main(__doc__, measure, repeats=7, add_arguments=add_arguments)
