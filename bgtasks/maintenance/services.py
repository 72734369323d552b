"""The services of a runner, in the order in which they get their turn on the journal's thread."""

from __future__ import annotations

from dataclasses import dataclass

from ..journal.listeners import Service
from ..runtime.runner import Runner
from .block_watcher import BlockWatcher
from .claimer import Claimer
from .end_watcher import EndWatcher
from .limit_watcher import LimitWatcher
from .pruner import Pruner
from .push import Push
from .requests import Requests
from .rescue import Rescuer
from .rollup_writer import RollupWriter
from .sampler import Sampler
from .spool_reader import SpoolReader


@dataclass(frozen=True)
class Services:
    """The services, and those objects that have duties beside the turns."""

    all: tuple[Service, ...]
    push: Push  # It has no turns: it sends messages to other processes.
    rollup_writer: RollupWriter  # It writes once more at the end of the process.


def make_services(runner: Runner) -> Services:
    """Make the services of a runner, each from the parts that it uses."""
    settings, state, registry, journal = runner.settings, runner.state, runner.registry, runner.journal
    slots, limits, backlog, loops = runner.slots, runner.limits, runner.backlog, runner.loops
    push = Push(state, journal)
    rollup_writer = RollupWriter(state, journal)
    services = (
        Requests(settings, state, registry, backlog, runner.executor, runner.canceller),
        Rescuer(settings, state, registry, backlog, journal),
        LimitWatcher(settings, limits, backlog),
        Claimer(settings, state, registry, slots, limits, backlog, loops, runner.commits),
        EndWatcher(settings, state, registry, push),
        BlockWatcher(settings, state, registry, loops),
        Sampler(settings, state, registry, journal),
        SpoolReader(settings, state, registry, backlog, journal),
        Pruner(settings, state),
        rollup_writer,
    )
    return Services(services, push, rollup_writer)
