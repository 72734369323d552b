"""
Push: processes tell each other of the end of tasks, so that nobody has to wait for the next look at a row.

The one that waits asks the one that runs the task, which answers once the end is committed. So a task that nobody
awaits elsewhere costs nothing. A message says no more than that a row is worth a look: one that gets lost is made up
for by the `Watcher`, which goes on polling, and a false one does no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from ..process.record import Record
from ..runtime.runner import Runner
from .mailbox import Mailbox, Message

ASK, ANSWER = "bgtasks.ask", "bgtasks.ended"
MAX_TASKS = 500  # In one message.
MAX_ASKERS = 100  # Processes that are told of the end of one task; others poll.


@dataclass
class _Question:
    """What this process wants to know of a task that it awaits."""

    process_id: UUID  # Who was asked.
    is_answered: bool = False


class Push:
    """Asks other processes, and answers them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._journal = runner.journal
        self.mailbox = Mailbox(lambda: self._journal.process_id, self._heed)
        self._to_look_at: set[int] = set()  # Each operation on it is atomic, from any thread.
        self._questions: dict[int, _Question] = {}  # So is each on this.
        runner.on_awaited = self._awaited
        runner.on_drained = self.mailbox.close
        runner.on_shut_down = self.mailbox.stop
        self._journal.on_let_go = self._answer
        self._journal.on_new_id = self._begin_anew

    # Asking.

    @property
    def is_look_due(self) -> bool:
        """Whether the row of a task is to be looked at before the next poll."""
        return bool(self._to_look_at)

    def take_due(self, most: int) -> set[int]:
        """Return up to so many tasks whose rows are to be looked at now."""
        taken: set[int] = set()
        while self._to_look_at and len(taken) < most:
            taken.add(self._to_look_at.pop())  # Only the journal's thread takes.
        return taken

    def ask(self, owners: Mapping[int, UUID], is_poll: bool) -> None:
        """
        Ask the processes that run these tasks to tell of their end, each process once about each task.

        Args:
            is_poll: whether those are asked again that have answered and run it all the same. Not at once, or the two
                might go on like that for ever.
        """
        if not self.mailbox.is_open:
            return
        by_process: dict[UUID, list[int]] = defaultdict(list)
        for number, process_id in owners.items():
            question = self._questions.get(number)
            is_asked = question is not None and question.process_id == process_id
            if not is_asked or (is_poll and question is not None and question.is_answered):
                self._questions[number] = _Question(process_id)
                by_process[process_id].append(number)
        own_id = str(self._journal.process_id)
        for process_id, numbers in by_process.items():
            message: Message = {"type": ASK, "by": own_id, "tasks": _to_texts(numbers)}
            self.mailbox.send(process_id, message, partial(self._forget, numbers))

    def forget_all_but(self, awaited: Collection[int]) -> None:
        """Forget what nobody here awaits any more."""
        self._forget([number for number in list(self._questions) if number not in awaited])

    def _forget(self, numbers: list[int]) -> None:
        for number in numbers:
            self._questions.pop(number, None)

    def _awaited(self, record: Record) -> None:
        """Somebody begins to wait: see soon whom to ask."""
        if self.mailbox.is_open:
            self._to_look_at.add(record.number)

    # What arrives, on the loop.

    def _heed(self, message: Any) -> None:
        """Heed a message, or ignore it: it may be anything, from anybody."""
        if not isinstance(message, dict):
            return
        numbers = _to_numbers(message.get("tasks"))
        if message.get("type") == ANSWER:
            self._look_at(numbers)
        elif message.get("type") == ASK and numbers:
            by = _to_number(message.get("by"))
            if by is not None:
                self._journal.submit(partial(self._note, UUID(int=by), numbers))

    def _look_at(self, numbers: list[int]) -> None:
        """Have these rows looked at, if this process has asked about them."""
        for number in numbers:
            question = self._questions.get(number)
            if question is not None and not question.is_answered:
                question.is_answered = True
                self._to_look_at.add(number)
        if self._to_look_at:
            self._journal.wake()

    # Answering, on the journal's thread.

    def _note(self, by: UUID, numbers: list[int], is_second_look: bool = False) -> None:
        """Note who is to be told of the end of these tasks; tell at once of those that are not here."""
        asked_about = self._journal.asked_about
        unknown: list[int] = []
        for number in numbers:
            if not self._journal.knows(number):
                unknown.append(number)
            elif len(askers := asked_about.setdefault(number, set())) < MAX_ASKERS:
                askers.add(by)
        if unknown and is_second_look:
            self._tell(by, unknown)
        elif unknown:  # It may have ended just now, and the end be on its way to the journal: then that comes first.
            self._journal.submit(partial(self._note, by, unknown, True))

    def _answer(self, numbers: list[int]) -> None:
        """These have ended, or were given back, and their rows say so."""
        by_asker: dict[UUID, list[int]] = defaultdict(list)
        for number in numbers:
            for by in self._journal.asked_about.pop(number, ()):
                by_asker[by].append(number)
        for by, ended in by_asker.items():
            self._tell(by, ended)

    def _tell(self, by: UUID, numbers: list[int]) -> None:
        for start in range(0, len(numbers), MAX_TASKS):
            self.mailbox.send(by, {"type": ANSWER, "tasks": _to_texts(numbers[start : start + MAX_TASKS])})

    def _begin_anew(self) -> None:
        """This process was taken for dead and has another id: whoever has asked looks where its tasks are now."""
        self._answer(list(self._journal.asked_about))
        self._questions.clear()
        self.mailbox.open_anew()


def _to_texts(numbers: list[int]) -> list[str]:
    return [str(UUID(int=number)) for number in numbers]


def _to_numbers(texts: Any) -> list[int]:
    """Return the ids of a message. Empty if it is not a list of at most MAX_TASKS texts, each an id."""
    if not isinstance(texts, list) or len(texts) > MAX_TASKS:
        return []
    numbers = [_to_number(text) for text in texts]
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(texts) else []


def _to_number(text: Any) -> int | None:
    if not isinstance(text, str) or len(text) != 36:
        return None
    try:
        return UUID(text).int
    except ValueError:
        return None
