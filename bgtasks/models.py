"""
The rows: background tasks, the processes that run them, the drains of those processes.

Rows announce nothing and know nobody. The journal writes them with plain SQL; `transitions.py` is the other writer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.text import capfirst, format_lazy
from django.utils.translation import gettext_lazy as _

from .definition import MAX_NAME_LENGTH
from .querysets import BackgroundTaskQuerySet, ProcessQuerySet, count_in_ledger
from .status import Status
from .uuid7 import uuid7

PAGE_COUNT = 8


def page_name(place: int, name: Any) -> Any:
    """
    Name a page such that the admin, which sorts an app's pages by their names, shows it at this place.

    Browsers show no leading space. Pages without a place follow, by their names.
    """
    return format_lazy("{}{}", " " * (PAGE_COUNT + 1 - place), capfirst(name))


class BackgroundTask(models.Model):
    """One firing of a task function or a coroutine object."""

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
    live_key = models.CharField(_("live key"), max_length=200, null=True, editable=False)  # noqa: DJ001  # Several rows may have NULL, as one may have "".
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
        # All but those by status and name are partial: live rows are found without a look at the finished ones.
        # MariaDB has no partial indexes and gets full ones: there a claim needs the status in front, or it would go
        # through the finished rows in the order of their priority. The runtime writes the statuses into its SQL: SQLite
        # does not use a partial index for a status that is a parameter.
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
        # Not `unique=True`, which would give PostgreSQL a second index of it, for LIKE, that nothing uses.
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
        """How long it waited from being fired to the start of its last attempt."""
        return self.started_at - self.created_at if self.started_at else None

    @property
    def duration(self) -> timedelta | None:
        """How long its last attempt took, up to now while it runs; None before it started."""
        if self.started_at is None or self.status == Status.READY:
            return None
        return (self.finished_at or timezone.now()) - self.started_at


class Process(models.Model):
    """A server process, one row per boot."""

    class State(models.TextChoices):
        ALIVE = "ALIVE", _("Alive")
        DRAINING = "DRAINING", _("Draining")
        STOPPED = "STOPPED", _("Stopped")
        DEAD = "DEAD", _("Dead")

    UP = (State.ALIVE, State.DRAINING)  # As far as the rows know.

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("pid"))
    server = models.CharField(
        _("server"), max_length=50, default="", help_text=_("uvicorn, hypercorn, …, or a command.")
    )
    release = models.CharField(_("release"), max_length=100, default="")
    started_at = models.DateTimeField(_("started at"))
    stopped_at = models.DateTimeField(_("stopped at"), null=True)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.ALIVE)
    beat = models.PositiveBigIntegerField(_("beat"), default=0, help_text=_("Counted up while the process lives."))
    beat_at = models.DateTimeField(_("beat at"), null=True)
    loop_seen_at = models.DateTimeField(_("loop seen at"), null=True, help_text=_("When its event loop last answered."))
    loop_lag = models.FloatField(
        _("loop lag"), null=True, help_text=_("Seconds its loop took to answer the last beat.")
    )
    blocked_since = models.DateTimeField(
        _("blocked since"), null=True, help_text=_("Since when its event loop does not answer. Empty: it does.")
    )
    blocked_by = models.TextField(
        _("blocked by"), default="", help_text=_("What ran on its event loop when it was noticed: a task, the stack.")
    )
    memory = models.PositiveBigIntegerField(_("memory"), null=True, help_text=_("Resident bytes at the last beat."))
    connections = models.PositiveIntegerField(
        _("connections"),
        null=True,
        help_text=_(
            "To databases, open at the last beat: of its journal, of the lanes and threads of its tasks, and of a "
            "watch by hand. Those of its views are not known here."
        ),
    )
    running = models.PositiveIntegerField(_("running"), default=0, help_text=_("Tasks running at the last beat."))
    functions = models.JSONField(
        _("functions"), null=True, help_text=_("Names that it knows, aliases too. Empty: it has not told.")
    )
    has_lifespan = models.BooleanField(
        _("drain is active"),
        default=False,
        help_text=_("Whether it is told of its end, by lifespan or otherwise, and drains then."),
    )
    fired_count = models.PositiveBigIntegerField(_("fired"), default=0, help_text=_("Tasks it recorded first."))
    died_with = models.JSONField(
        _("died with"), default=dict, help_text=_("The tasks that ran in it when it died: {name: count}.")
    )
    drain_requested_at = models.DateTimeField(
        _("drain requested at"), null=True, help_text=_("It shall start nothing more. Empty: it may start tasks.")
    )
    drain_acknowledged_at = models.DateTimeField(
        _("drain acknowledged at"), null=True, help_text=_("The last task that it started is recorded by then.")
    )

    objects = ProcessQuerySet.as_manager()

    class Meta:
        verbose_name = _("process")
        verbose_name_plural = page_name(7, _("processes"))
        ordering = ["-id"]
        permissions = [("drain_process", "Can drain processes")]

    def __str__(self) -> str:
        return f"{self.server or 'process'} {self.host}:{self.pid}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        using = kwargs.pop("using", None) or self._state.db
        return Process.objects.using(using).filter(pk=self.pk).delete()


class RateLimit(models.Model):
    """What a rate has let start in its last period, over all processes."""

    name = models.CharField(_("name"), max_length=250, primary_key=True, help_text=_("The function, or the rate key."))
    starts = models.JSONField(
        _("starts"), default=list, help_text=_("[at, how many], in seconds since the epoch by the database's clock.")
    )
    used_at = models.FloatField(_("used at"), default=0.0, help_text=_("Seconds since the epoch."))

    class Meta:
        verbose_name = _("rate limit")
        verbose_name_plural = _("rate limits")

    def __str__(self) -> str:
        return self.name


class Pause(models.Model):
    """A function or a queue whose tasks wait: all processes heed it within POLL_INTERVAL."""

    class Kind(models.TextChoices):
        FUNCTION = "function", _("Task function")
        QUEUE = "queue", _("Queue")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.FUNCTION)
    name = models.CharField(_("name"), max_length=MAX_NAME_LENGTH)
    paused_at = models.DateTimeField(_("paused at"), default=timezone.now, editable=False)
    paused_by = models.CharField(_("paused by"), max_length=200, default="", editable=False)

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")
        constraints = [models.UniqueConstraint(fields=["kind", "name"], name="bgtasks_one_pause")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Rollup(models.Model):
    """
    What the finished tasks of one process came to in one stretch of time: the admin's pictures are drawn from these.

    Only that process writes it, every two seconds; so the last two seconds before a death are missing. What was ended
    by hand, where no process runs tasks, has rollups of no process. What must add up is in the ledger.
    """

    class Resolution(models.IntegerChoices):
        """Seconds of a stretch."""

        MINUTE = 60, _("1 minute")
        HALF_HOUR = 1800, _("30 minutes")
        TWO_HOURS = 7200, _("2 hours")

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    process = models.UUIDField(_("process"))
    resolution = models.PositiveSmallIntegerField(_("resolution"), choices=Resolution.choices)
    starts_at = models.DateTimeField(_("starts at"), help_text=_("In UTC a multiple of the resolution."))
    tasks = models.JSONField(
        _("tasks"),
        default=dict,
        help_text=_("{name: {statuses: {status: count}, took and waited: {bin: count}, failed: the id of the last}}."),
    )
    lag = models.FloatField(_("loop lag"), null=True, help_text=_("The longest, in seconds."))

    class Meta:
        verbose_name = _("rollup")
        verbose_name_plural = _("rollups")
        constraints = [
            models.UniqueConstraint(fields=["resolution", "starts_at", "process"], name="bgtasks_one_rollup")
        ]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.starts_at} {self.resolution} s"


class Ledger(models.Model):
    """
    What the other rows cannot tell any more: how much of them is gone. One row, with id 1.

    What all processes fired equals the counted tasks (those with an `origin`) that are in the table or are gone; see
    `maintenance/audit.py`.
    """

    ID = 1

    fired_count = models.PositiveBigIntegerField(
        _("fired"), default=0, help_text=_("By processes whose rows were deleted.")
    )
    gone_count = models.PositiveBigIntegerField(
        _("gone"), default=0, help_text=_("Counted tasks that were pruned or deleted.")
    )

    class Meta:
        verbose_name = _("ledger")
        verbose_name_plural = _("ledger")

    def __str__(self) -> str:
        return f"{self.fired_count} fired, {self.gone_count} gone"


class Drain(models.Model):
    """One shutdown of a process, as it went."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    process = models.UUIDField(_("process"))
    asked_by = models.CharField(
        _("asked by"), max_length=100, help_text=_("lifespan, a command, or the project's code.")
    )
    started_at = models.DateTimeField(_("started at"))
    seconds = models.FloatField(_("seconds"))
    running_at_start = models.PositiveIntegerField(_("running at start"))
    finished_count = models.PositiveIntegerField(_("finished in time"))
    cancelled_count = models.PositiveIntegerField(_("cancelled"), help_text=_("Cut short at the deadline."))
    left_count = models.PositiveIntegerField(_("left"), help_text=_("Did not end even when cancelled."))
    names = models.JSONField(_("names"), default=dict, help_text=_("Of what did not finish: {name: count}."))
    cut_short_after = models.FloatField(
        _("cut short after"), null=True, help_text=_("Seconds until what was left was cut short. Empty: nothing was.")
    )
    course = models.JSONField(
        _("course"), null=True, help_text=_("A list of [seconds, how many were left], up to some 200.")
    )

    class Meta:
        verbose_name = _("drain")
        verbose_name_plural = page_name(8, _("drains"))
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"drain of {self.process}"


class Overview(BackgroundTask):
    """The first page of the admin: a name for the address, without rows of its own. So are those below."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("overview")
        verbose_name_plural = page_name(1, _("overview"))


class LiveTask(BackgroundTask):
    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("live task")
        verbose_name_plural = page_name(2, _("live tasks"))


class FailedTask(BackgroundTask):
    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("failure")
        verbose_name_plural = page_name(3, _("failures"))


class StuckTask(BackgroundTask):
    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("stuck task")
        verbose_name_plural = page_name(4, _("stuck tasks"))


class TaskFunction(BackgroundTask):
    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("task function")
        verbose_name_plural = page_name(6, _("task functions"))
