"""
Proxy models for the pages of the admin that are not the list of a model.

They give each page a place in the admin's list and a URL name. They have no tables.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from .page_names import page_name
from .task import BackgroundTask


class Overview(BackgroundTask):
    """The first page of the admin."""

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
