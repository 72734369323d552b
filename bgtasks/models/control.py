"""Rows that control all processes: shared rates, and pauses."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..definition import MAX_NAME_LENGTH


class RateLimit(models.Model):
    """The starts of tasks with one rate in its last period, over all processes."""

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
    """The pause of a function or a queue. All processes stop starting its tasks within POLL_INTERVAL."""

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


def find_paused(using: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the paused functions, and those of the paused queues."""
    names: dict[str, set[str]] = {kind: set() for kind in Pause.Kind.values}
    for kind, name in Pause.objects.using(using).values_list("kind", "name"):
        names.setdefault(kind, set()).add(name)
    return frozenset(names[Pause.Kind.FUNCTION]), frozenset(names[Pause.Kind.QUEUE])
