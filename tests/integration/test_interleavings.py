"""
Random interleavings of all events in the life of tasks, by hypothesis, on the real components.

Each node is a process without its threads: a real runner on a loop of its own and a real journal with its services,
stepped by hand, so that a failure can be repeated step by step. A killed node takes no further step.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connections, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import bgtasks
from bgtasks import transitions
from bgtasks.conf import Settings
from bgtasks.journal import selection
from bgtasks.journal.journal import Journal
from bgtasks.journal.statements import PostgreSQLStatements, Statements, statements_for
from bgtasks.journal.statements import base as statements_base
from bgtasks.maintenance.claimer import Claimer
from bgtasks.maintenance.requests import Requests
from bgtasks.maintenance.rescue import Rescuer, declare_dead
from bgtasks.maintenance.services import make_services
from bgtasks.models import BackgroundTask, Ledger, Process
from bgtasks.process.registry import Registry
from bgtasks.process.state import ProcessState
from bgtasks.reports.audit import Auditor
from bgtasks.runtime.context import attempt_variable
from bgtasks.runtime.handle import TaskHandle
from bgtasks.runtime.lanes import Lanes
from bgtasks.runtime.loops import Loops
from bgtasks.runtime.runner import Runner
from bgtasks.status import FINISHED, LIVE
from tests.chaos.table import read_rows
from tests.chaos.verifier import find_illegal

USING = "default"
SETTINGS = Settings(max_running=2, heartbeat=5, dead_after=20)
# Of the next transaction: refused at its begin, aborted at its commit, committed without an answer.
FAULTS = ("none", "none", "none", "refused", "aborted", "answer lost", "answer lost")
EXAMPLES = int(os.environ.get("TESTS_EXAMPLES", "8"))
STEPS = 80
LONGEST_END = 60  # Steps until all tasks must have ended.

world: World


class Faulty:
    """`transaction.atomic`, with the current fault of the world."""

    def __init__(self, using: str) -> None:
        self._inner = transaction.atomic(using=using)
        self._is_outermost = not connections[using].in_atomic_block

    def __enter__(self) -> None:
        if self._is_outermost and world.fault == "refused":
            world.fail()
        self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        if not self._is_outermost or world.fault == "none" or error[0] is not None:
            self._inner.__exit__(*error)
        elif world.fault == "aborted":
            self._inner.__exit__(OperationalError, OperationalError("aborted"), None)
            world.fail()
        else:
            self._inner.__exit__(None, None, None)
            world.fail()


def begin_together(self: Statements, *rows: Any, begin: Any = PostgreSQLStatements.begin_together) -> bool:
    """Apply the fault to PostgreSQL's faster way to write a batch."""
    if world.fault == "refused":
        world.fail()
    return bool(begin(self, *rows))


def commit(self: Statements, commit: Any = Statements.commit) -> None:
    if world.fault == "aborted":
        self.connection.connection.rollback()
        world.fail()
    commit(self)
    if world.fault == "answer lost":
        world.fail()


class Node:
    """A process without threads: the test takes their steps."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.gates: dict[UUID, asyncio.Future[None]] = {}
        registry = Registry()
        state, loops = ProcessState(is_server=True), Loops()
        loops.register_home(self.loop)
        loops.find_main = lambda: self.loop  # type: ignore[method-assign]
        journal = self.journal = Journal(SETTINGS, registry, state, loops.find_main)
        self.runner = Runner(SETTINGS, state, registry, journal, loops, Lanes(1))
        services = make_services(self.runner).all
        self.claimer, self.rescuer, self.requests = (
            next(service for service in services if isinstance(service, kind)) for kind in (Claimer, Rescuer, Requests)
        )
        journal.attach(self.runner.commits)
        # As at the start of the journal's thread, whose place the test takes.
        journal._thread = SimpleNamespace()  # type: ignore[assignment]
        journal._alias, journal._connection = USING, connections[USING]
        journal._use(statements_for(USING, state.id, ""))

    def fire(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskHandle[Any]:
        record = self.runner.firing.make(task, args, kwargs)
        self.runner.admission.admit(record)
        return TaskHandle(self.runner, record)

    def call(self, function: Any, *args: Any) -> Any:
        """Call a function on the loop, and run the loop until it is idle."""

        async def call() -> Any:
            value = function(*args)
            for _ in range(10):
                await asyncio.sleep(0)
            return value

        return self.loop.run_until_complete(call())

    def rest(self) -> None:
        self.call(lambda: None)

    def write(self, with_beat: bool) -> None:
        """Run one round of the journal."""
        journal = self.journal
        if with_beat:
            journal.heartbeat.hasten()
        journal.outage._retry_at = 0.0
        journal.wake()  # So that `_gather` does not wait.
        journal._gather()
        journal._round()
        self.rest()

    def give_turn(self, service: Any, fault: str = "none") -> None:
        """Run a service once, after a round in which the journal has written its intake."""
        self.write(with_beat=False)
        if not self.journal.outage.is_away:
            world.fault = fault
            self.journal._guard(partial(service.run_once, 0.0))
            world.fault = "none"
        self.rest()

    def end(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.rest()
        for record in [*self.runner.registry.live.values(), *self.journal._selection.pending.values()]:
            record.forget_coroutine()
        self.loop.close()


class World(RuleBasedStateMachine):
    """Two nodes, their successors, and the rows."""

    def __init__(self) -> None:
        super().__init__()
        global world
        world = self
        self.fault = "none"
        self.numbers = itertools.count()
        self.starts: Counter[UUID] = Counter()
        self.ends: set[tuple[UUID, int]] = set()
        self.finals: dict[str, Any] = {}
        self.is_over = False
        BackgroundTask.objects.all().delete()
        for model in (Process, Ledger):
            model.objects.all().delete()
        self.nodes = [Node(), Node()]
        self.gone: list[Node] = []
        self.handles: list[tuple[Node, Any]] = []

    def fail(self) -> None:
        self.fault = "none"
        raise OperationalError("the connection was lost")

    def pick(self, number: int) -> Node:
        return self.nodes[number % len(self.nodes)]

    # Events.

    node_numbers = st.integers(0, 1)

    @initialize()
    def begin(self) -> None:
        for number, node in enumerate(self.nodes):
            self.fire(number, ["plain", "again", "again"])
            node.write(with_beat=True)

    @rule(
        number=node_numbers,
        kinds=st.lists(
            st.sampled_from(["plain", "again", "object", "keyed", "keyed again", "replaces"]), min_size=1, max_size=3
        ),
    )
    def fire(self, number: int, kinds: list[str]) -> None:
        for kind in kinds:
            self._fire(self.pick(number), kind)

    def _fire(self, node: Node, kind: str) -> None:
        try:
            if kind == "object":
                fired = node.call(lambda: node.fire(wait(), (), {"name": "object"}))
            else:
                fired = node.call(node.fire, TASKS[kind], (next(self.numbers),), {})
        except bgtasks.Overloaded:
            return
        self.handles.append((node, fired))

    @rule(number=node_numbers, which=st.integers(0, 9), fails=st.booleans())
    def finish(self, number: int, which: int, fails: bool) -> None:
        node = self.pick(number)
        if gates := list(node.gates.values()):
            gate = gates[which % len(gates)]
            node.call(gate.set_exception, ValueError("as asked")) if fails else node.call(gate.set_result, None)

    @rule(number=node_numbers, with_beat=st.booleans(), fault=st.sampled_from(FAULTS))
    def write(self, number: int, with_beat: bool, fault: str) -> None:
        self.fault = fault
        self.pick(number).write(with_beat)
        self.fault = "none"

    @rule(number=node_numbers, kinds=st.lists(st.sampled_from(["plain", "again", "keyed"]), min_size=1, max_size=2))
    def fire_again_after_a_lost_answer(self, number: int, kinds: list[str]) -> None:
        self.fire(number, kinds)
        self.write(number, False, "answer lost")
        self.fire(number, kinds)

    @rule(number=node_numbers, fault=st.sampled_from(FAULTS))
    def claim(self, number: int, fault: str) -> None:
        node = self.pick(number)
        node.give_turn(node.claimer, fault)

    @rule(number=node_numbers, fault=st.sampled_from(FAULTS))
    def rescue(self, number: int, fault: str) -> None:
        node = self.pick(number)
        node.give_turn(node.rescuer, fault)

    @rule(number=node_numbers)
    def heed_requests(self, number: int) -> None:
        node = self.pick(number)
        node.give_turn(node.requests)

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        """Cancel a task from another process."""
        transitions.cancel(USING, self.handles[which % len(self.handles)][1].id, "a user", "cancelled")

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 50))
    def cancel_by_handle(self, which: int) -> None:
        node, handle = self.handles[which % len(self.handles)]
        if node in self.nodes:
            node.call(handle.cancel)

    @rule(number=node_numbers, which=st.integers(0, 9))
    def cut_short(self, number: int, which: int) -> None:
        """Cut a task short, as a drain does."""
        node = self.pick(number)
        records = [node.runner.registry.live[id_.int] for id_ in node.gates if id_.int in node.runner.registry.live]
        if records:
            node.call(node.runner.interrupter.interrupt, records[which % len(records)], "drain")

    @rule(number=st.integers(0, 9))
    def declare_dead(self, number: int) -> None:
        """Declare a node dead, even a live one, which notices at its next beat."""
        rows = list(Process.objects.filter(state__in=Process.UP).values_list("id", "beat"))
        if rows:
            assert declare_dead(USING, *rows[number % len(rows)])

    @precondition(lambda self: len(self.gone) < 4)
    @rule(number=node_numbers)
    def kill(self, number: int) -> None:
        node = self.pick(number)
        self.nodes.remove(node)
        self.gone.append(node)
        self.nodes.append(Node())

    # Invariants.

    @invariant()
    def histories_are_legal(self) -> None:
        for id_, row in read_rows().items():
            assert not find_illegal(row), f"{row.name} {id_}: {find_illegal(row)}: {row.transitions}"
            assert row.attempt <= row.max_attempts
            if row.status in FINISHED:
                assert self.finals.setdefault(id_, row.final) == row.final
        assert self.finals.keys() <= {str(id_) for id_ in BackgroundTask.objects.values_list("pk", flat=True)}

    @invariant()
    def a_key_has_one_task(self) -> None:
        """Tasks that run in a node count too, whatever the status of their rows."""
        live = [row.key for row in BackgroundTask.objects.filter(status__in=LIVE).exclude(key="")]
        assert len(live) == len(set(live))
        held = dict(BackgroundTask.objects.exclude(live_key=None).values_list("live_key", "status"))
        assert set(held) == set(live)
        for node in self.nodes:
            for record in node.runner.registry.live.values():
                is_begun = record.number in {id_.int for id_ in node.gates}
                assert not (is_begun and record.refusal), f"{record.id} runs, and was not fired"

    @invariant()
    def the_ledger_balances(self) -> None:
        audit = Auditor(USING, SETTINGS).audit()
        assert audit.unaccounted == 0
        assert not [problem for problem in audit.problems if problem.kind in ("balance", "history", "state")]

    def teardown(self) -> None:
        try:
            self._come_to_an_end()
        finally:
            self.is_over = True
            for node in [*self.nodes, *self.gone]:
                node.end()
            for _, handle in self.handles:
                handle._record.forget_coroutine()

    def _come_to_an_end(self) -> None:
        """Let all tasks finish, and declare the killed nodes dead."""
        for _ in range(LONGEST_END):
            living = {node.runner.state.id for node in self.nodes}
            for process, beat in Process.objects.filter(state__in=Process.UP).values_list("id", "beat"):
                if process not in living:
                    declare_dead(USING, process, beat)
            for node in self.nodes:
                for gate in list(node.gates.values()):
                    node.call(gate.set_result, None)
                node.write(with_beat=True)
                for service in (node.rescuer, node.requests, node.claimer):
                    node.give_turn(service)
            unwritten = sum(node.journal.count_unwritten() for node in self.nodes)
            if not unwritten and not BackgroundTask.objects.filter(status__in=LIVE).exists():
                break
        self.histories_are_legal()
        self.the_ledger_balances()
        rows = read_rows()
        live = [row for row in rows.values() if row.status in LIVE]
        assert not live, f"these live for ever: {live}"
        for node, handle in self.handles:
            is_there = str(handle.id) in rows
            assert node in self.gone or is_there == (handle.conflict is None), f"{handle} is missing, or there"
        for id_, row in rows.items():
            assert row.status != "SUCCESSFUL" or (UUID(id_), row.attempt) in self.ends, f"{id_} has not ended"
            assert row.on_lost == "rerun" or self.starts[UUID(id_)] <= 1, f"{id_} started twice"


async def wait() -> None:
    """Wait until the state machine ends this attempt."""
    if world.is_over:
        return
    current = bgtasks.current()
    id_, attempt = current.id, current.attempt
    world.starts[id_] += 1
    executor, _ = attempt_variable.get()
    [node] = [node for node in [*world.nodes, *world.gone] if node.runner.executor is executor]
    gate = node.gates[id_] = node.loop.create_future()
    try:
        await gate
        world.ends.add((id_, attempt))
    finally:
        if node.gates.get(id_) is gate:
            del node.gates[id_]


async def plain(number: int) -> None:
    await wait()


async def again(number: int) -> None:
    await wait()


TASKS: dict[str, Any] = {}


@pytest.fixture
def may_fail(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transactions fail with the fault of the world."""
    TASKS["plain"] = bgtasks.task(name="plain")(plain)
    TASKS["keyed"] = TASKS["plain"].using(key="k")
    TASKS["replaces"] = TASKS["plain"].using(key="k", on_conflict="replace")
    TASKS["again"] = bgtasks.task(name="again", on_lost="rerun")(again)
    TASKS["keyed again"] = TASKS["again"].using(key="k")
    monkeypatch.setattr(selection, "PATIENCE", 0.0)  # The test decides when records are written.
    for module in (statements_base, transitions):
        monkeypatch.setattr(module, "transaction", SimpleNamespace(atomic=Faulty))
    monkeypatch.setattr(PostgreSQLStatements, "begin_together", begin_together)
    monkeypatch.setattr(Statements, "commit", commit)


@pytest.mark.timeout(300)
def test_whatever_happens_in_whichever_order(may_fail: None) -> None:
    """A failure prints its steps. Add Phase.shrink to reduce them, which takes minutes."""
    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )


def test_a_coroutine_object_whose_start_was_committed_without_an_answer(may_fail: None) -> None:
    """Found by the test above: its end counted as later than a verdict."""
    world = World()
    world.fire(0, ["plain", "plain", "object"])
    world.write(0, True, "none")  # The object waits as READY.
    world.finish(0, 0, False)  # The object starts.
    world.write(0, False, "answer lost")
    for _ in range(2):
        world.finish(0, 0, False)
    for _ in range(2):
        world.write(0, True, "none")
    statuses = [row.status for row in read_rows().values()]
    world.teardown()
    assert statuses == ["SUCCESSFUL"] * 3
