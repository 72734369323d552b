"""How `top_tasks` draws what goes on. What tasks are called is shown as text: no markup, no control characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from django.utils import timezone
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..reports.activity import MAX_COUNT, Activity, FunctionHour, LiveTask
from .base import show_length, visible

BAR = 10  # Characters.
LEAST_NAME, MAX_NAME = 16, 60
MAX_KEY = 30
# What columns of the tasks take, with their frames; and how wide a terminal has to be for it to be shown.
FOR, AGAINST, PROGRESS, PROCESS = 15, 38, 24, 28
WIDE_ENOUGH = {"Against p95": 80, "Progress": 120, "Process": 160, "Awaits at": 200}
TAKES = {"Against p95": AGAINST, "Progress": PROGRESS, "Process": PROCESS, "Awaits at": 3}
TABLE_LINES = 5  # Of a title, a heading and a frame.
OTHER_FIGURES = 60  # Of the functions, with their frames.
LEAST_ROWS = 3
MAX_FUNCTIONS_BELOW = 8  # On a terminal: what runs has the rest.


class ActivityView:
    """
    The header and the two tables, fitted to the terminal's width.

    Args:
        height: lines that there are; more tasks than fit are only counted. None: all are shown.
        trouble: what to say first, such as that the database is away.
    """

    def __init__(self, activity: Activity, height: int | None = None, trouble: str = "") -> None:
        self._activity = activity
        self._height = height
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        header = list(_header(self._activity, self._trouble))
        tasks, functions = self._choose(sum(-(-line.cell_len // width) for line in header))
        marks = ("#", "-") if options.ascii_only else ("█", "░")
        yield from header
        yield _tasks_table(self._activity, tasks, width, marks)
        yield _functions_table(functions, width)

    def _choose(self, header_lines: int) -> tuple[Sequence[LiveTask], Sequence[FunctionHour]]:
        tasks, functions = self._activity.tasks, self._activity.functions
        if self._height is None:
            return tasks, functions
        room = self._height - header_lines - 2 * TABLE_LINES
        functions = functions[: max(min(room // 3, MAX_FUNCTIONS_BELOW), LEAST_ROWS)]
        return tasks[: max(room - len(functions), LEAST_ROWS)], functions


def _header(activity: Activity, trouble: str) -> Iterator[Text]:
    day, processes = activity.day, activity.processes
    at = f"{timezone.localtime(activity.at) if timezone.is_aware(activity.at) else activity.at:%Y-%m-%d %H:%M:%S}"
    if trouble:
        yield Text(f"{visible(trouble)} This is how it was at {at}.", "bold red")
    line = Text()
    _tell(line, "Running", counted(activity.running_count), "bold green")
    _tell(line, "Waiting", counted(activity.waiting_count), "bold")
    _tell(line, "at", at, "dim")
    yield line
    line = Text()
    _tell(line, "In 24 h: succeeded", f"{day.successful:,}", "bold")
    rate = f" ({day.failed_part:.1%})".replace("%", " %") if day.failed_part is not None else ""
    _tell(line, "failed", f"{day.failed:,}{rate}", "bold red" if day.failed else "")
    _tell(line, "lost", f"{day.lost:,}", "bold red" if day.lost else "")
    _tell(line, "interrupted", f"{day.interrupted:,}", "bold yellow" if day.interrupted else "")
    _tell(line, "cancelled", f"{day.cancelled:,}", "")
    yield line
    line = Text()
    _tell(line, "Processes: alive", f"{processes.alive:,}", "bold green" if processes.alive else "bold red")
    _tell(line, "blocked", f"{processes.blocked:,}", "bold red" if processes.blocked else "")
    _tell(line, "draining", f"{processes.draining:,}", "bold yellow" if processes.draining else "")
    _tell(line, "silent", f"{processes.silent:,}", "bold red" if processes.silent else "")
    _tell(line, "died in 24 h", f"{processes.died:,}", "bold red" if processes.died else "")
    yield line


def _tell(line: Text, label: str, value: str, style: str) -> None:
    line.append(f"{'   ' if line else ''}{label} ", "")
    line.append(value, style)


def _tasks_table(activity: Activity, tasks: Sequence[LiveTask], width: int, marks: tuple[str, str]) -> RenderableType:
    if not tasks:
        return Text("\nNothing runs.\n")
    left = activity.running_count - len(tasks)
    title = f"Running, those fired first{f'; {counted(left)} more' if left > 0 else ''}"
    table = _make_table(title)
    shown = [name for name, least in WIDE_ENOUGH.items() if width >= least]
    room = width - FOR - 4 - sum(TAKES[name] for name in shown)
    room = room // 2 if "Awaits at" in shown else room
    table.add_column("Task", no_wrap=True)
    table.add_column("For", justify="right", no_wrap=True)
    for name in shown:
        table.add_column(name, no_wrap=True, max_width=room if name == "Awaits at" else None)
    cells: dict[str, Callable[[LiveTask], Text]] = {
        "Against p95": partial(_bar_cell, marks=marks),
        "Progress": _progress_cell,
        "Process": _process_cell,
        "Awaits at": _place_cell,
    }
    for task in tasks:
        table.add_row(_name_cell(task, room), write_length(task.elapsed), *(cells[name](task) for name in shown))
    return table


def _functions_table(functions: Sequence[FunctionHour], width: int) -> RenderableType:
    if not functions:
        return Text("\nNothing has ended in the last hour.")
    table = _make_table("Ended in the last hour")
    table.add_column("Function", no_wrap=True, overflow="ellipsis")
    for heading in ("ended", "ok", "failed", "p50", "p95", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in functions:
        table.add_row(
            Text(cut_front(visible(one.name), min(max(width - OTHER_FIGURES, LEAST_NAME), MAX_NAME))),
            f"{one.ended:,}",
            f"{one.successful:,}",
            Text(f"{one.failed:,}", "red" if one.failed else ""),
            write_length(one.p50),
            write_length(one.p95),
            f"{one.measured:,}",
        )
    return table


def _make_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _name_cell(task: LiveTask, room: int) -> Text:
    more = Text()
    if task.is_cancel_requested:
        more.append(" cancel asked", "red")
    if task.attempt > 1:
        more.append(f" attempt {task.attempt}", "yellow")
    if task.key:
        more.append(f" {cut_back(visible(task.key), MAX_KEY)}", "cyan")
    more.truncate(max(room - LEAST_NAME, 0), overflow="ellipsis")
    text = Text(cut_front(visible(task.name), min(max(room - more.cell_len, LEAST_NAME), MAX_NAME)), "bold")
    return Text.assemble(text, more)


def _bar_cell(task: LiveTask, marks: tuple[str, str]) -> Text:
    """Draw how far it is on the way that 95 % of its function's attempts had gone in the last day."""
    part = task.part_of_p95
    if part is None:
        return Text("not measured yet", "dim")
    full, empty = marks
    filled = min(int(part * BAR + 0.5), BAR)
    style = "green" if part < 1 else "yellow" if part < 2 else "red"
    told = f"{part:.0%} of".replace("%", " %") if part < 1 else f"{min(part, 9999):,.1f} ×"
    text = f" {told} {write_length(task.p95)}"
    return Text.assemble((full * filled, style), (empty * (BAR - filled), "dim"), text)


def _process_cell(task: LiveTask) -> Text:
    if task.loop_blocked is None:
        return Text(cut_back(visible(task.process_name or task.process or ""), PROCESS - 3))
    blocked = Text(f" blocked {write_length(task.loop_blocked)}", "bold red")
    name = cut_front(visible(task.process_name), PROCESS - 3 - blocked.cell_len)
    return Text.assemble(name, blocked)


def _progress_cell(task: LiveTask) -> Text:
    progress = task.progress
    if progress is None:
        return Text("")
    if progress.part is None:
        told = f"{progress.done:,.12g}"
    else:
        told = f"{progress.part:.0%}".replace("%", " %") + f" of {progress.total:,.12g}"
    return Text(cut_back(f"{told} {visible(progress.note)}".rstrip(), PROGRESS - 3))


def _place_cell(task: LiveTask) -> Text:
    place = task.await_place
    if place is None:
        return Text("")
    file = "/".join(str(place.get("file")).replace("\\", "/").split("/")[-2:])
    length = f", {write_length(task.awaits_for)}" if task.awaits_for is not None else ""
    where = f"{cut_front(visible(file), 40)}:{visible(place.get('line'))} in {visible(place.get('function'))}"
    return Text(cut_back(where, 90) + length)


def counted(number: int) -> str:
    """
    >>> counted(1234), counted(MAX_COUNT)
    ('1,234', '10,000+')
    """
    return f"{number:,}+" if number >= MAX_COUNT else f"{number:,}"


def write_length(seconds: float | None) -> str:
    """
    Return a length in seconds, in milliseconds where these say more.

    >>> write_length(None), write_length(0.0123), write_length(2.5), write_length(75)
    ('–', '12 ms', '2.5 s', '1 min 15 s')
    """
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else show_length(seconds)


def cut_front(text: str, most: int) -> str:
    """
    Keep the end of a text, which of a function's name says most.

    >>> cut_front("shop.orders.tasks.send", 12)
    '….tasks.send'
    """
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def cut_back(text: str, most: int) -> str:
    """
    >>> cut_back("welcome:1234", 8)
    'welcome…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
