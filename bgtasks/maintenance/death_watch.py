"""The death watch: a process is dead if its beats stop. No clock of another machine is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

Beat = int | None  # None: the process has no row.


@dataclass(frozen=True)
class _Sighting:
    beat: Beat
    since: float  # On the monotonic clock.


class DeathWatch:
    """
    Watches the beats of processes, by the observer's own monotonic clock.

    A process is dead when its beat has been the same for `dead_after` seconds, over successful looks at most two
    heartbeats apart. A look that fails or comes late starts the observation anew: during an outage no process can beat,
    and that must not count as death.

    >>> from uuid import UUID
    >>> process = UUID(int=1)
    >>> watch = DeathWatch(dead_after=20, heartbeat=5)
    >>> [watch.look(at, at, {process: 7}) for at in (0, 5, 10, 15)]
    [{}, {}, {}, {}]
    >>> watch.look(20, 20, {process: 7})
    {UUID('00000000-0000-0000-0000-000000000001'): 7}
    >>> watch.look(31, 31, {process: 7})  # Late: the process may have beaten in between.
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
            began: the moment before the look, in seconds of the monotonic clock. Up to it the beats that were found
                unchanged did not change.
            ended: the moment after the look. The beats that were found new had changed by then.
            beats: the beats of all processes that are not known to have ended.

        Returns:
            The dead processes, each with its last beat.
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
        """Return the seconds since the beat of a process was last seen to change."""
        sighting = self._sightings.get(process)
        return 0.0 if sighting is None else max(now - sighting.since, 0.0)
