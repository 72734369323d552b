"""A paginator for tables of a million rows: it counts no further than it must, and does not walk for a few rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator

if TYPE_CHECKING:
    BasePaginator = Paginator[Any]
else:
    BasePaginator = Paginator

MAX_COUNT = 10_000
FEW = 500


class CappedPaginator(BasePaginator):
    """
    Counts, and so shows, the first MAX_COUNT rows. What lies further back is found by a filter or a search.

    Asked for the newest of the rows that match, a database walks the primary key backwards, past a million rows that
    match not, rather than using the index of the filter and sorting. So the ids are asked for without an order, and
    sorted here when they are few.
    """

    @cached_property
    def count(self) -> int:
        return len(self._few) if self._few is not None else min(self._counted, MAX_COUNT)

    @property
    def is_capped(self) -> bool:
        return self._few is None and self._counted > MAX_COUNT

    def rows_of(self, number: int) -> list[Any]:
        """Return the rows of a page that there is."""
        page = slice((number - 1) * self.per_page, min(number * self.per_page, self.count))
        if self._few is None:
            return list(self.object_list[page])
        found = self._rows.order_by().in_bulk(self._few[page])
        return [found[pk] for pk in self._few[page] if pk in found]

    @property
    def _rows(self) -> Any:
        return self.object_list

    @cached_property
    def _few(self) -> list[Any] | None:
        ids = list(self._rows.order_by().values_list("pk", flat=True)[: FEW + 1])
        is_newest_first = self._rows.query.order_by[:1] != ("id",)
        return sorted(ids, reverse=is_newest_first) if len(ids) <= FEW else None

    @cached_property
    def _counted(self) -> int:
        return count_up_to(MAX_COUNT + 1, self.object_list)


def count_up_to(most: int, rows: Any) -> int:
    """Count the rows of a queryset, of which the database looks at no more than `most`."""
    return int(rows.order_by()[:most].count())
