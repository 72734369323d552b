"""The books: counts that outlive deleted rows, and sums over time for the charts of the admin."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..uuid7 import uuid7


class Rollup(models.Model):
    """
    The counts and durations of the tasks that one process finished in one period. The admin draws its charts from them.

    Only the process itself writes its rollups, every two seconds, so the last two seconds before its death are missing.
    Tasks that are ended by hand, where no process runs tasks, are counted in rollups of no process. Exact sums are in
    the ledger.
    """

    class Resolution(models.IntegerChoices):
        """The length of the period, in seconds."""

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
    The counts of deleted rows: one row, with id 1.

    The number of tasks that all processes have fired equals the number of counted tasks (those with an `origin`): rows
    in the table plus deleted ones. `reports/audit.py` checks this sum.
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


def count_in_ledger(model: type[models.Model], using: str | None, **counts: int) -> None:
    """Add to the counts of the ledger, in the transaction that deletes the rows."""
    changes = {name: models.F(name) + count for name, count in counts.items() if count}
    if not changes:
        return
    ledger = model._meta.apps.get_model("bgtasks", "Ledger")  # Its module imports this one.
    rows = ledger._default_manager.using(using)
    if not rows.filter(pk=ledger.ID).update(**changes):
        rows.get_or_create(pk=ledger.ID)
        rows.filter(pk=ledger.ID).update(**changes)
