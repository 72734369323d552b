"""The models of the demo: subscribers to its mail, subscriptions to its webhooks, reports."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models


class Subscriber(models.Model):
    """A user who signed up and gets a welcome mail."""

    email = models.EmailField(unique=True, help_text="In lower case.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.email


class WebhookSubscription(models.Model):
    """A URL to which the webhooks of a topic are delivered."""

    topic = models.SlugField()
    url = models.CharField(max_length=500, verbose_name="URL", help_text="http or https.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["topic", "id"]
        constraints = [models.UniqueConstraint(fields=["topic", "url"], name="one_subscription_per_topic_and_url")]

    def __str__(self) -> str:
        return f"{self.topic} → {self.url}"


class Report(models.Model):
    """A requested report, and its outcome."""

    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, editable=False, help_text="Empty until its file is there.")
    row_count = models.PositiveIntegerField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"report {self.pk}"

    @property
    def path(self) -> Path:
        return Path(settings.DEMO_REPORT_DIR) / f"report-{self.pk}.csv"
