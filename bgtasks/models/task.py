"""Background tasks, with one row for each firing."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, models, transaction
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..definition import MAX_NAME_LENGTH
from ..status import FINISHED, Status
from ..uuid7 import uuid7
from .books import count_in_ledger
from .page_names import page_name


class BackgroundTaskQuerySet(models.QuerySet["BackgroundTask"]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows, and add those with an origin to the ledger in the same transaction."""
        # A queryset with a LIMIT cannot be filtered; Django's own `delete` refuses it with a clear message.
        parts = [self] if self.query.is_sliced else [self.filter(origin=None), self.filter(origin__isnull=False)]
        deleted: Counter[str] = Counter()
        with transaction.atomic(using=self.db):
            for part in parts:
                number, kinds = super(BackgroundTaskQuerySet, part).delete()
                deleted.update(kinds)
            count_in_ledger(self.model, self.db, gone_count=number)
        return deleted.total(), dict(deleted)

    delete.alters_data = True  # type: ignore[attr-defined]  # Templates must not call it.
    delete.queryset_only = True  # type: ignore[attr-defined]  # It is not a method of managers.

    def ready(self, now: datetime) -> Any:
        """Return the tasks that any process may start at the moment `now`."""
        return self.waiting().filter(models.Q(run_after=None) | models.Q(run_after__lte=now), process=None)

    def waiting(self) -> Any:
        """Return all READY tasks, also those not yet due, and coroutine objects, which wait for their own process."""
        return self.filter(_has_status(Status.READY))

    def running(self) -> Any:
        """Return the RUNNING tasks of all processes, also of those whose death is not noticed yet."""
        return self.filter(_has_status(Status.RUNNING))

    def find_owners(self) -> set[UUID]:
        """Return the ids of the processes with live tasks, by two queries that use one partial index each."""
        live = self.order_by()
        running = live.running().exclude(process=None).values_list("process", flat=True).distinct()
        waiting = live.waiting().exclude(process=None).values_list("process", flat=True).distinct()
        return {*running, *waiting}

    def live_of(self, process: UUID) -> tuple[Any, Any]:
        """
        Return the tasks that run in a process, and those that wait for it alone.

        Two querysets, since each uses a partial index of its own.
        """
        rows = self.filter(process=process)
        return rows.running(), rows.waiting()

    def finished(self) -> Any:
        return self.filter(status__in=sorted(FINISHED))

    def find_names(self, most: int) -> list[str]:
        """
        Return up to `most` names of tasks, each once.

        Each step of the recursive query finds the next name in the index, so the time depends on the number of names,
        not of rows.
        """
        connection = connections[self.db]
        if connection.vendor == "mysql":  # MariaDB skips through the index by itself, and is slow with the query below.
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
        """  # noqa: S608  # The table name is ours.
        with connection.cursor() as cursor:
            cursor.execute(statement, [most])
            return [name for (name,) in cursor.fetchall()]

    def fired_again_from(self, task: BackgroundTask) -> Any:
        """Return the tasks that were fired again from this one."""
        rows = self.filter(fired_again_from=task.pk)
        if connections[self.db].features.supports_partial_indexes:
            return rows
        return rows.filter(name=task.name, pk__gt=task.pk)  # MariaDB uses the index by name.


class BackgroundTask(models.Model):
    """One firing of a task function, a coroutine function or a coroutine object."""

    id = models.UUIDField(
        _("id"), primary_key=True, default=uuid7, editable=False, help_text=_("UUIDv7: sorts by time.")
    )
    name = models.CharField(_("name"), max_length=MAX_NAME_LENGTH, help_text=_("The task function's stable name."))
    is_task_function = models.BooleanField(
        _("task function"),
        default=True,
        help_text=_("Whether a process finds its function by the name. A coroutine object has none."),
    )
    status = models.CharField(_("status"), max_length=12, choices=Status.choices, default=Status.READY)
    args = models.JSONField(_("arguments"), default=list, encoder=DjangoJSONEncoder, help_text=_("Positional ones."))
    kwargs = models.JSONField(_("keyword arguments"), default=dict, encoder=DjangoJSONEncoder)
    on_lost = models.CharField(
        _("on lost"),
        max_length=8,
        default="fail",
        choices=[("fail", _("Fail")), ("rerun", _("Run again"))],
        help_text=_("What becomes of it when its process dies while it runs."),
    )
    stuck_after = models.FloatField(
        _("stuck after"), null=True, help_text=_("Seconds of running. Empty: the setting STUCK_AFTER.")
    )
    attempt = models.PositiveIntegerField(_("attempt"), default=0, help_text=_("Counted when an attempt starts."))
    max_attempts = models.PositiveIntegerField(_("most attempts"), default=1)
    priority = models.SmallIntegerField(_("priority"), default=0, help_text=_("-100 to 100, higher first."))
    queue_name = models.CharField(_("queue"), max_length=100, default="default")
    options = models.JSONField(
        _("options"), null=True, help_text=_("Those that it was fired with and that have no column of their own.")
    )
    run_after = models.DateTimeField(_("run after"), null=True, help_text=_("Empty: as soon as there is a free slot."))
    created_at = models.DateTimeField(_("fired at"), help_text=_("When it was fired."))
    started_at = models.DateTimeField(_("started at"), null=True, help_text=_("When its last attempt started."))
    finished_at = models.DateTimeField(_("finished at"), null=True)
    process = models.UUIDField(
        _("process"), null=True, help_text=_("The process that runs or ran it. Empty while it waits for anyone.")
    )
    origin = models.UUIDField(
        _("origin"),
        null=True,
        help_text=_(
            "The process that counted it as fired: it recorded it first, or claimed what a transaction of the "
            "project's had recorded. Empty until then."
        ),
    )
    key = models.CharField(_("key"), max_length=200, default="", help_text=_("At most one live task has it."))
    unique_for = models.FloatField(
        _("unique for"), null=True, help_text=_("Seconds after its end for which its key stays taken.")
    )
    rate_key = models.CharField(
        _("rate key"), max_length=200, default="", help_text=_("What its rate is counted by. Empty: its function.")
    )
    live_key = models.CharField(_("live key"), max_length=200, null=True, editable=False)  # noqa: DJ001  # NULL, since a unique column accepts it in many rows, and "" in one only.
    progress = models.JSONField(_("progress"), null=True)
    await_place = models.JSONField(_("waits at"), null=True)
    error_type = models.CharField(_("error type"), max_length=200, default="")
    error_message = models.TextField(_("error message"), default="")
    traceback = models.TextField(_("traceback"), default="")
    error_fingerprint = models.CharField(
        _("error fingerprint"), max_length=16, default="", help_text=_("Equal for the same error at the same place.")
    )
    result = models.JSONField(_("result"), null=True, encoder=DjangoJSONEncoder)
    checkpoint = models.JSONField(_("checkpoint"), null=True)
    transitions = models.JSONField(
        _("history"), default=list, help_text=_("A list of {status, at, attempt, by, why}, oldest first.")
    )
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True)
    fired_by = models.JSONField(
        _("fired by"), null=True, help_text=_("The request: method, path, request_id, user_id.")
    )
    fired_again_from = models.UUIDField(
        _("fired again from"), null=True, help_text=_("The finished task that somebody fired again as this one.")
    )
    release = models.CharField(_("release"), max_length=100, default="")
    signature_fingerprint = models.CharField(_("signature fingerprint"), max_length=16, default="")

    objects = BackgroundTaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("background task")
        verbose_name_plural = page_name(5, _("all tasks"))
        ordering = ["-id"]
        # All but bgtasks_status and bgtasks_name are partial, so that live rows are found without the finished ones.
        # MariaDB has no partial indexes and gets full ones. There the index of a claim needs the status in front:
        # without it a claim would read finished rows in the order of their priority. The runtime writes the statuses
        # into its SQL as literals, since SQLite does not use a partial index for a status that is a parameter.
        indexes = [
            models.Index(fields=["status", "-priority", "id"], name="bgtasks_ready", condition=Q(status=Status.READY)),
            models.Index(fields=["process", "id"], name="bgtasks_running", condition=Q(status=Status.RUNNING)),
            models.Index(
                fields=["process"],
                name="bgtasks_held",
                condition=Q(status=Status.READY, process__isnull=False),
            ),
            models.Index(
                fields=["process"],
                name="bgtasks_cancel",
                condition=Q(status=Status.RUNNING, cancel_requested_at__isnull=False),
            ),
            models.Index(fields=["status", "id"], name="bgtasks_status"),
            models.Index(fields=["name", "id"], name="bgtasks_name"),
            models.Index(
                fields=["fired_again_from"], name="bgtasks_again", condition=Q(fired_again_from__isnull=False)
            ),
        ]
        # Not `unique=True`, with which Django creates a second, unused index on PostgreSQL, for LIKE.
        constraints = [models.UniqueConstraint(fields=["live_key"], name="bgtasks_live_key")]
        permissions = [
            ("cancel_task", "Can cancel background tasks"),
            ("fire_task", "Can fire background tasks, and fire them again"),
            ("view_task_args", "Can view the arguments of background tasks"),
            ("apply_verdict", "Can give stuck background tasks their verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.pk}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=kwargs.get("using") or self._state.db):
            deleted = super().delete(*args, **kwargs)
            if self.origin is not None:
                count_in_ledger(type(self), kwargs.get("using") or self._state.db, gone_count=1)
        return deleted

    @property
    def is_finished(self) -> bool:
        return Status(self.status).is_finished

    @property
    def waited(self) -> timedelta | None:
        """The time from the firing to the start of the last attempt; None before the first one."""
        return self.started_at - self.created_at if self.started_at else None

    @property
    def duration(self) -> timedelta | None:
        """The length of the last attempt, up to now while it runs; None while the task waits."""
        if self.started_at is None or self.status == Status.READY:
            return None
        return (self.finished_at or timezone.now()) - self.started_at


def _has_status(status: Status) -> models.Q:
    """Return a condition with the status as a literal: SQLite uses no partial index for a parameter."""
    return models.Q(status=RawSQL(f"'{status.value}'", ()))  # noqa: S611  # The text is ours.
