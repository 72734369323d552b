"""Pages of a list by id rather than by number: a page far back costs what the first one does, and nothing shifts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from . import paginator
from .paginator import CappedPaginator

BEFORE, AFTER = "before", "after"  # Of the address: the id that a page lies before or after. Neither: the first page.


@dataclass(frozen=True)
class Page:
    """A page of a list, in the order of the list."""

    rows: list[Any]
    has_previous: bool = False
    has_next: bool = False


class KeysetPaginator(CappedPaginator):
    def page_at(self, before: UUID | None, after: UUID | None) -> Page:
        """
        Return the page that lies next to an id: the first one if there is none.

        Who goes back and comes to a page that is not full gets the first page.
        """
        cursor = before or after
        goes_back = cursor is not None and (before is None) == self.is_newest_first
        found = self._find_next_to(before, after, goes_back)
        rows, has_more = found[: self.per_page], len(found) > self.per_page
        if not goes_back:
            return Page(rows, cursor is not None, has_more)
        if len(rows) < self.per_page:
            return self.page_at(None, None)
        return Page(rows[::-1], has_more, True)

    @property
    def is_newest_first(self) -> bool:
        return bool(self._rows.query.order_by[:1] != ("id",))

    def _find_next_to(self, before: UUID | None, after: UUID | None, goes_back: bool) -> list[Any]:
        """Return one row more than a page has, the nearest to the id first."""
        most = self.per_page + 1
        if self._few is not None:
            ids = [pk for pk in self._few if (before is None or pk < before) and (after is None or pk > after)]
            wanted = (ids[::-1] if goes_back else ids)[:most]
            found = self._rows.order_by().in_bulk(wanted)
            return [found[pk] for pk in wanted if pk in found]
        is_descending = self.is_newest_first != goes_back
        return list(_between(self._rows, before, after).order_by("-pk" if is_descending else "pk")[:most])


def read_id(query: Mapping[str, Any], name: str) -> UUID | None:
    """Return the id of a parameter of the address; None if there is none, or if it is none."""
    try:
        return UUID(query.get(name, ""))
    except (TypeError, ValueError):
        return None


def oldest_ids(rows: Any, most: int) -> list[UUID]:
    """Return the ids of the oldest rows of a queryset."""
    few = _find_few(rows)
    return sorted(few)[:most] if few is not None else list(_ids(rows).order_by("pk")[:most])


def walk(rows: Any, columns: Sequence[str], most: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """
    Yield these columns (the id among them) of up to `most` rows, newest first, in lists of up to `size`.

    Only one of the lists is in memory at a time, and no cursor of the database stays open between two of them.
    """
    rows = rows.values(*columns)
    few = _find_few(rows)
    if few is not None:
        few = sorted(few, reverse=True)[:most]
        for start in range(0, len(few), size):
            found = rows.order_by().filter(pk__in=few[start : start + size])
            yield sorted(found, key=lambda row: row["id"], reverse=True)
        return
    last = None
    while most > 0:
        wanted = min(size, most)
        found = list(_between(rows, last, None).order_by("-pk")[:wanted])
        if found:
            yield found
        if len(found) < wanted:
            return
        most, last = most - wanted, found[-1]["id"]


def _find_few(rows: Any) -> list[UUID] | None:
    """Return the ids of rows that are few: they are sorted here, for the paginator's reason. None: they are many."""
    ids = list(_ids(rows).order_by()[: paginator.FEW + 1])
    return ids if len(ids) <= paginator.FEW else None


def _ids(rows: Any) -> Any:
    return rows.values_list("pk", flat=True)


def _between(rows: Any, before: UUID | None, after: UUID | None) -> Any:
    rows = rows if before is None else rows.filter(pk__lt=before)
    return rows if after is None else rows.filter(pk__gt=after)
