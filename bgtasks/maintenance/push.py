"""
Push: messages between processes about the ends of tasks, so that no caller has to wait for the next poll of a row.

A process with a waiting caller asks the process that runs the task, which answers once the end is committed. A task
that is not awaited elsewhere costs nothing. A message carries no result: its receiver reads the row. The `EndWatcher`
goes on polling, so a lost message only costs time, and a forged one does no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from ..journal.journal import Journal
from ..process.record import Record
from ..process.state import ProcessState
from .mailbox import Mailbox, Message

ASK, ANSWER = "bgtasks.ask", "bgtasks.ended"
MAX_TASKS = 500  # In one message.
MAX_ASKERS = 100  # Processes that are notified of the end of one task. Others poll.


@dataclass
class _Question:
    """A question about a task that is awaited here."""

    process_id: UUID  # The process that was asked.
    is_answered: bool = False


class Push:
    """
    Asks other processes, and answers them: the `Peers` of the journal and the runner.

    Attributes:
        asked_about: by live task, the processes that wait for its end. Only the journal's thread uses it.
    """

    def __init__(self, state: ProcessState, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self.asked_about: dict[int, set[UUID]] = {}
        self.mailbox = Mailbox(state, self._receive)
        # Both are used from any thread: each operation on them is atomic.
        self._to_look_at: set[int] = set()
        self._questions: dict[int, _Question] = {}

    async def close(self) -> None:
        """Stop after the last messages, on the event loop."""
        await self.mailbox.close()

    def stop(self) -> None:
        """Stop at once, from any thread."""
        self.mailbox.stop()

    # Asking.

    @property
    def is_look_due(self) -> bool:
        """Whether the row of a task is to be read before the next poll."""
        return bool(self._to_look_at)

    def take_due(self, most: int) -> set[int]:
        """Return up to `most` tasks whose rows are to be read now."""
        taken: set[int] = set()
        while self._to_look_at and len(taken) < most:
            taken.add(self._to_look_at.pop())  # Only the journal's thread takes.
        return taken

    def ask(self, owners: Mapping[int, UUID], is_poll: bool) -> None:
        """
        Ask the processes that run these tasks to report their ends, each process once about each task.

        Args:
            is_poll: whether to ask a process again that has answered although its task still runs. That happens only
                in a poll; otherwise the two processes might ask and answer for ever.
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
        own_id = str(self._state.id)
        for process_id, numbers in by_process.items():
            message: Message = {"type": ASK, "by": own_id, "tasks": _to_texts(numbers)}
            self.mailbox.send(process_id, message, partial(self._forget, numbers))

    def forget_all_but(self, awaited: Collection[int]) -> None:
        """Forget the questions about tasks that are not awaited here any more."""
        self._forget([number for number in list(self._questions) if number not in awaited])

    def _forget(self, numbers: list[int]) -> None:
        for number in numbers:
            self._questions.pop(number, None)

    def awaited(self, record: Record) -> None:
        """Find out soon which process runs an awaited task, to ask it. From any thread."""
        if self.mailbox.is_open:
            self._to_look_at.add(record.number)

    # Messages that arrive, on the loop.

    def _receive(self, message: Any) -> None:
        """Act on a message, or ignore it: it may have any content, from any sender."""
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
        """Have these rows read soon, if this process has asked about them."""
        for number in numbers:
            question = self._questions.get(number)
            if question is not None and not question.is_answered:
                question.is_answered = True
                self._to_look_at.add(number)
        if self._to_look_at:
            self._journal.wake()

    # Answering, on the journal's thread.

    def _note(self, by: UUID, numbers: list[int], is_second_look: bool = False) -> None:
        """Note the process that asks about these tasks; answer at once about tasks that are not live here."""
        unknown: list[int] = []
        for number in numbers:
            if not self._journal.knows(number):
                unknown.append(number)
            elif len(askers := self.asked_about.setdefault(number, set())) < MAX_ASKERS:
                askers.add(by)
        if unknown and is_second_look:
            self._send(by, unknown)
        elif unknown:
            # The end of a task may be on its way to the journal. It is written before the second look.
            self._journal.submit(partial(self._note, by, unknown, True))

    def has_askers(self) -> bool:
        """Return whether other processes wait for the end of any task."""
        return bool(self.asked_about)

    def is_asked_about(self, number: int) -> bool:
        """Return whether other processes wait for the end of this task."""
        return number in self.asked_about

    def answer(self, numbers: list[int]) -> None:
        """Notify the processes that asked about these tasks of their ends, which are committed."""
        by_asker: dict[UUID, list[int]] = defaultdict(list)
        for number in numbers:
            for by in self.asked_about.pop(number, ()):
                by_asker[by].append(number)
        for by, ended in by_asker.items():
            self._send(by, ended)

    def _send(self, by: UUID, numbers: list[int]) -> None:
        for start in range(0, len(numbers), MAX_TASKS):
            self.mailbox.send(by, {"type": ANSWER, "tasks": _to_texts(numbers[start : start + MAX_TASKS])})

    def begin_anew(self) -> None:
        """Go on under the new id of this process. The processes that have asked about its tasks read the rows."""
        self.answer(list(self.asked_about))
        self._questions.clear()
        self.mailbox.open_anew()


def _to_texts(numbers: list[int]) -> list[str]:
    return [str(UUID(int=number)) for number in numbers]


def _to_numbers(texts: Any) -> list[int]:
    """Return the ids of a message; an empty list if `texts` is not a list of at most MAX_TASKS ids."""
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
