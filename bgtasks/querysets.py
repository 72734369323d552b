"""The questions that the admin, the commands and the services ask of the rows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, models, transaction
from django.db.models.expressions import RawSQL

from .status import FINISHED, Status

if TYPE_CHECKING:
    from .models import BackgroundTask, Process  # noqa: F401  # For types only: models imports this module.


class BackgroundTaskQuerySet(models.QuerySet["BackgroundTask"]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows, and count in the same transaction what the ledger has to know of."""
        # Of a queryset with a LIMIT Django's own `delete` says what is wrong.
        parts = [self] if self.query.is_sliced else [self.filter(origin=None), self.filter(origin__isnull=False)]
        deleted: Counter[str] = Counter()
        with transaction.atomic(using=self.db):
            for part in parts:
                number, kinds = super(BackgroundTaskQuerySet, part).delete()
                deleted.update(kinds)
            count_in_ledger(self.model, self.db, gone_count=number)
        return deleted.total(), dict(deleted)

    delete.alters_data = True  # type: ignore[attr-defined]  # As Django marks it: no template may call it.
    delete.queryset_only = True  # type: ignore[attr-defined]  # Nor is it a manager's method.

    def ready(self, now: datetime) -> Any:
        """Return what any process may start."""
        return self.waiting().filter(models.Q(run_after=None) | models.Q(run_after__lte=now), process=None)

    def waiting(self) -> Any:
        """Return what is READY, due or not, and the coroutine objects too, which wait for their own process."""
        return self.filter(_has_status(Status.READY))

    def running(self) -> Any:
        """Return what runs in any process, or did when its process died."""
        return self.filter(_has_status(Status.RUNNING))

    def find_owners(self) -> set[UUID]:
        """Return the processes that have live tasks. Two queries, each by its index."""
        live = self.order_by()
        running = live.running().exclude(process=None).values_list("process", flat=True).distinct()
        waiting = live.waiting().exclude(process=None).values_list("process", flat=True).distinct()
        return {*running, *waiting}

    def live_of(self, process: UUID) -> tuple[Any, Any]:
        """Return what runs in a process and what waits for it alone: two querysets, as each has its own index."""
        rows = self.filter(process=process)
        return rows.running(), rows.waiting()

    def finished(self) -> Any:
        return self.filter(status__in=sorted(FINISHED))

    def find_names(self, most: int) -> list[str]:
        """Return the names that there are, up to so many of them. The index is asked for the next one each time."""
        connection = connections[self.db]
        if connection.vendor == "mysql":  # It does so by itself, and reads the index over and over for what is below.
            return list(self.order_by().values_list("name", flat=True).distinct()[:most])
        table = connection.ops.quote_name(self.model._meta.db_table)
        statement = f"""
            WITH RECURSIVE names (name, place) AS (
                SELECT min(name), 1 FROM {table}
                UNION ALL
                SELECT (SELECT min(name) FROM {table} WHERE name > names.name), place + 1
                FROM names WHERE name IS NOT NULL AND place < %s
            )
            SELECT name FROM names WHERE name IS NOT NULL
        """  # noqa: S608  # Our own name of a table.
        with connection.cursor() as cursor:
            cursor.execute(statement, [most])
            return [name for (name,) in cursor.fetchall()]

    def fired_again_from(self, task: BackgroundTask) -> Any:
        """Return the tasks that somebody fired again from this one."""
        rows = self.filter(fired_again_from=task.pk)
        if connections[self.db].features.supports_partial_indexes:
            return rows
        return rows.filter(name=task.name, pk__gt=task.pk)  # MariaDB has not the index of those fired again.


class ProcessQuerySet(models.QuerySet["Process"]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows, and keep in the ledger what these processes have fired."""
        with transaction.atomic(using=self.db):
            rows = self.select_for_update() if connections[self.db].features.has_select_for_update else self
            fired = dict(rows.order_by().values_list("pk", "fired_count"))
            deleted = models.QuerySet(self.model, using=self.db).filter(pk__in=list(fired)).delete()
            count_in_ledger(self.model, self.db, fired_count=sum(fired.values()))
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]  # As above.
    delete.queryset_only = True  # type: ignore[attr-defined]


def count_in_ledger(model: type[models.Model], using: str | None, **counts: int) -> None:
    """Add to the ledger, in the open transaction of what is counted."""
    changes = {name: models.F(name) + count for name, count in counts.items() if count}
    if not changes:
        return
    ledger = model._meta.apps.get_model("bgtasks", "Ledger")  # Its module imports this one.
    rows = ledger._default_manager.using(using)
    if not rows.filter(pk=ledger.ID).update(**changes):
        rows.get_or_create(pk=ledger.ID)
        rows.filter(pk=ledger.ID).update(**changes)


def _has_status(status: Status) -> models.Q:
    """Return the condition with the word itself: as a parameter SQLite would not find the partial index by it."""
    return models.Q(status=RawSQL(f"'{status.value}'", ()))  # noqa: S611  # Our own word.


# What needs a look.
UNSUCCESSFUL = sorted([Status.FAILED, Status.INTERRUPTED, Status.LOST])
