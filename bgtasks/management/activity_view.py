"""The view of `top_tasks`. Names, keys and notes of tasks are shown as text: no markup, no control characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..reports.activity import MAX_COUNT, Activity, FunctionHour, LiveTask
from .formats import cut_back, cut_front, format_length, format_moment, format_part, visible

# Widths in characters, those of columns with their frames.
BAR = 10
LEAST_NAME, MAX_NAME = 16, 60
MAX_KEY = 30
FOR, AGAINST, PROGRESS, PROCESS = 15, 38, 24, 28
COLUMN_WIDTHS = {"Against p95": AGAINST, "Progress": PROGRESS, "Process": PROCESS, "Awaits at": 3}
WIDE_ENOUGH = {"Against p95": 80, "Progress": 120, "Process": 160, "Awaits at": 200}  # Of the terminal, for a column.
FUNCTION_FIGURES = 60  # The columns of the functions after the name.
# Heights in lines.
TABLE_LINES = 5  # A title, a heading and a frame.
LEAST_ROWS = 3
MAX_FUNCTIONS = 8  # On a terminal, so that the tasks have the rest.


class ActivityView:
    """
    The header and the two tables, fitted to the terminal's width.

    Args:
        height: the lines of the terminal; tasks that do not fit are only counted. None: all tasks are shown.
        trouble: a sentence for the first line, such as that the database is away.
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
        functions = functions[: max(min(room // 3, MAX_FUNCTIONS), LEAST_ROWS)]
        return tasks[: max(room - len(functions), LEAST_ROWS)], functions


def _header(activity: Activity, trouble: str) -> Iterator[Text]:
    day, processes = activity.day, activity.processes
    at = format_moment(activity.at)
    if trouble:
        yield Text(f"{visible(trouble)} Below is the state of {at}.", "bold red")
    line = Text()
    _append(line, "Running", counted(activity.running_count), "bold green")
    _append(line, "Waiting", counted(activity.waiting_count), "bold")
    _append(line, "at", at, "dim")
    yield line
    line = Text()
    _append(line, "In 24 h: succeeded", f"{day.successful:,}", "bold")
    rate = f" ({format_part(day.failed_part, 1)})" if day.failed_part is not None else ""
    _append(line, "failed", f"{day.failed:,}{rate}", "bold red" if day.failed else "")
    _append(line, "lost", f"{day.lost:,}", "bold red" if day.lost else "")
    _append(line, "interrupted", f"{day.interrupted:,}", "bold yellow" if day.interrupted else "")
    _append(line, "cancelled", f"{day.cancelled:,}", "")
    yield line
    line = Text()
    _append(line, "Processes: alive", f"{processes.alive:,}", "bold green" if processes.alive else "bold red")
    _append(line, "blocked", f"{processes.blocked:,}", "bold red" if processes.blocked else "")
    _append(line, "draining", f"{processes.draining:,}", "bold yellow" if processes.draining else "")
    _append(line, "silent", f"{processes.silent:,}", "bold red" if processes.silent else "")
    _append(line, "died in 24 h", f"{processes.died:,}", "bold red" if processes.died else "")
    yield line


def _append(line: Text, label: str, value: str, style: str) -> None:
    line.append(f"{'   ' if line else ''}{label} ", "")
    line.append(value, style)


def _tasks_table(activity: Activity, tasks: Sequence[LiveTask], width: int, marks: tuple[str, str]) -> RenderableType:
    if not tasks:
        return Text("\nNothing runs.\n")
    left = activity.running_count - len(tasks)
    title = f"Running, oldest first{f'; {counted(left)} more' if left > 0 else ''}"
    table = _make_table(title)
    shown = [name for name, least in WIDE_ENOUGH.items() if width >= least]
    room = width - FOR - 4 - sum(COLUMN_WIDTHS[name] for name in shown)
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
        table.add_row(_name_cell(task, room), format_length(task.elapsed), *(cells[name](task) for name in shown))
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
            Text(cut_front(visible(one.name), min(max(width - FUNCTION_FIGURES, LEAST_NAME), MAX_NAME))),
            f"{one.ended:,}",
            f"{one.successful:,}",
            Text(f"{one.failed:,}", "red" if one.failed else ""),
            format_length(one.p50),
            format_length(one.p95),
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
    """Draw how long a task runs, against the p95 of its function in the last 24 hours."""
    part = task.part_of_p95
    if part is None:
        return Text("not measured yet", "dim")
    full, empty = marks
    filled = min(int(part * BAR + 0.5), BAR)
    style = "green" if part < 1 else "yellow" if part < 2 else "red"
    ratio = f"{format_part(part)} of" if part < 1 else f"{min(part, 9999):,.1f} ×"
    text = f" {ratio} {format_length(task.p95)}"
    return Text.assemble((full * filled, style), (empty * (BAR - filled), "dim"), text)


def _process_cell(task: LiveTask) -> Text:
    if task.loop_blocked is None:
        return Text(cut_back(visible(task.process_name or task.process or ""), PROCESS - 3))
    blocked = Text(f" blocked {format_length(task.loop_blocked)}", "bold red")
    name = cut_front(visible(task.process_name), PROCESS - 3 - blocked.cell_len)
    return Text.assemble(name, blocked)


def _progress_cell(task: LiveTask) -> Text:
    progress = task.progress
    if progress is None:
        return Text("")
    if progress.part is None:
        done = f"{progress.done:,.12g}"
    else:
        done = f"{format_part(progress.part)} of {progress.total:,.12g}"
    return Text(cut_back(f"{done} {visible(progress.note)}".rstrip(), PROGRESS - 3))


def _place_cell(task: LiveTask) -> Text:
    place = task.await_place
    if place is None:
        return Text("")
    file = "/".join(str(place.get("file")).replace("\\", "/").split("/")[-2:])
    length = f", {format_length(task.awaits_for)}" if task.awaits_for is not None else ""
    where = f"{cut_front(visible(file), 40)}:{visible(place.get('line'))} in {visible(place.get('function'))}"
    return Text(cut_back(where, 90) + length)


def counted(number: int) -> str:
    """
    >>> counted(1234), counted(MAX_COUNT)
    ('1,234', '10,000+')
    """
    return f"{number:,}+" if number >= MAX_COUNT else f"{number:,}"
