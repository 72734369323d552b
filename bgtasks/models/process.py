"""The processes that run tasks, and their drains."""

from __future__ import annotations

from typing import Any

from django.db import connections, models, transaction
from django.utils.translation import gettext_lazy as _

from ..uuid7 import uuid7
from .books import count_in_ledger
from .page_names import page_name


class ProcessQuerySet(models.QuerySet["Process"]):
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows, and add the number of tasks that these processes fired to the ledger."""
        with transaction.atomic(using=self.db):
            rows = self.select_for_update() if connections[self.db].features.has_select_for_update else self
            fired = dict(rows.order_by().values_list("pk", "fired_count"))
            deleted = models.QuerySet(self.model, using=self.db).filter(pk__in=list(fired)).delete()
            count_in_ledger(self.model, self.db, fired_count=sum(fired.values()))
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]  # Templates must not call it.
    delete.queryset_only = True  # type: ignore[attr-defined]


class Process(models.Model):
    """A server process, one row per boot."""

    class State(models.TextChoices):
        ALIVE = "ALIVE", _("Alive")
        DRAINING = "DRAINING", _("Draining")
        STOPPED = "STOPPED", _("Stopped")
        DEAD = "DEAD", _("Dead")

    UP = (State.ALIVE, State.DRAINING)  # A process that died has this state until others notice its death.

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


class Drain(models.Model):
    """The record of one drain: the shutdown of the tasks of a process."""

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
