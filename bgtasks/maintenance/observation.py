"""Who is dead, as one observer sees it: no clock of another machine counts, only beats that do not come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

Beat = int | None  # None: the process has no row.


@dataclass(frozen=True)
class _Sighting:
    beat: Beat
    since: float


class Observation:
    """
    Watches the beats of processes on the observer's own monotonic clock.

    A process is dead when its beat has been the same for `dead_after` seconds, over successful looks at most two
    heartbeats apart. A look that fails or comes late starts the observation anew: during an outage nobody can beat, and
    nobody is to die of that.

    >>> from uuid import UUID
    >>> process = UUID(int=1)
    >>> observation = Observation(dead_after=20, heartbeat=5)
    >>> [observation.look(at, at, {process: 7}) for at in (0, 5, 10, 15)]
    [{}, {}, {}, {}]
    >>> observation.look(20, 20, {process: 7})
    {UUID('00000000-0000-0000-0000-000000000001'): 7}
    >>> observation.look(31, 31, {process: 7})  # Late: who knows what happened in between.
    {}
    """

    def __init__(self, dead_after: float, heartbeat: float) -> None:
        self._dead_after = dead_after
        self._longest_gap = 2 * heartbeat
        self._last_began: float | None = None
        self._sightings: dict[UUID, _Sighting] = {}

    def look(self, began: float, ended: float, beats: Mapping[UUID, Beat]) -> dict[UUID, Beat]:
        """
        Take in one successful look.

        Args:
            began: when it began, in seconds of the monotonic clock. A beat has surely not changed until then.
            ended: when it ended. A beat that is new is surely as old as that.
            beats: of all processes that are not known to have ended.

        Returns:
            Those that are dead, each with the beat that it stopped at.
        """
        if self._last_began is None or ended - self._last_began > self._longest_gap:
            self._sightings.clear()
        self._last_began = began
        seen: dict[UUID, _Sighting] = {}
        for process, beat in beats.items():
            before = self._sightings.get(process)
            seen[process] = before if before is not None and before.beat == beat else _Sighting(beat, ended)
        self._sightings = seen
        return {
            process: sighting.beat for process, sighting in seen.items() if began - sighting.since >= self._dead_after
        }

    def silence(self, process: UUID, now: float) -> float:
        """Return for how many seconds the beat of a process has been seen unchanged."""
        sighting = self._sightings.get(process)
        return 0.0 if sighting is None else max(now - sighting.since, 0.0)
