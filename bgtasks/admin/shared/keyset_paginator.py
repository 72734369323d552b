"""Pages of a list by id rather than by number: each costs the same, and new rows do not shift them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from . import paginator
from .formats import parse_uuid
from .paginator import CappedPaginator

BEFORE, AFTER = "before", "after"  # Parameters with the id next to a page. Without them the first page is shown.


@dataclass(frozen=True)
class Page:
    """A page of a list, in the order of the list."""

    rows: list[Any]
    has_previous: bool = False
    has_next: bool = False


class KeysetPaginator(CappedPaginator):
    def page_at(self, before: UUID | None, after: UUID | None) -> Page:
        """
        Return the page next to an id; without an id the first page.

        A page on the way back that is not full is replaced by the first page.
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
        """Return the rows of the page and one more, nearest to the id first."""
        most = self.per_page + 1
        if self._few is not None:
            ids = [pk for pk in self._few if (before is None or pk < before) and (after is None or pk > after)]
            wanted = (ids[::-1] if goes_back else ids)[:most]
            found = self._rows.order_by().in_bulk(wanted)
            return [found[pk] for pk in wanted if pk in found]
        is_descending = self.is_newest_first != goes_back
        return list(_between(self._rows, before, after).order_by("-pk" if is_descending else "pk")[:most])


def read_id(query: Mapping[str, Any], name: str) -> UUID | None:
    """Return the id that a parameter of the address holds, or None."""
    return parse_uuid(query.get(name))


def oldest_ids(rows: Any, most: int) -> list[UUID]:
    """Return the ids of the oldest rows of a queryset."""
    few = _find_few(rows)
    return sorted(few)[:most] if few is not None else list(_ids(rows).order_by("pk")[:most])


def walk(rows: Any, columns: Sequence[str], most: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """
    Yield these columns (the id among them) of up to `most` rows, newest first, in lists of up to `size`.

    Only one list is in memory at a time, and no database cursor stays open between two lists.
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
    """Return the ids of the rows, unsorted, if they are few; else None. `CappedPaginator` has the reason."""
    ids = list(_ids(rows).order_by()[: paginator.FEW + 1])
    return ids if len(ids) <= paginator.FEW else None


def _ids(rows: Any) -> Any:
    return rows.values_list("pk", flat=True)


def _between(rows: Any, before: UUID | None, after: UUID | None) -> Any:
    rows = rows if before is None else rows.filter(pk__lt=before)
    return rows if after is None else rows.filter(pk__gt=after)
