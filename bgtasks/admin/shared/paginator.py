"""A paginator for tables of a million rows: it limits its counting, and finds few rows without a walk over many."""

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
    Counts and shows only the first MAX_COUNT rows. A filter or a search finds older ones.

    For the newest of the rows that match, a database may walk the primary key backwards, past a million other rows,
    instead of using the index of the filter. So this class queries ids without an order, and sorts them here if they
    are few.
    """

    @cached_property
    def count(self) -> int:
        return len(self._few) if self._few is not None else min(self._counted, MAX_COUNT)

    @property
    def is_capped(self) -> bool:
        return self._few is None and self._counted > MAX_COUNT

    def rows_of(self, number: int) -> list[Any]:
        """Return the rows of an existing page."""
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
    """Count the rows of a queryset, up to `most`."""
    return int(rows.order_by()[:most].count())
