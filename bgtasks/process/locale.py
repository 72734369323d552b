"""The language and time zone of who fires, for a task that runs on another thread's loop."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.utils import timezone, translation


@dataclass(frozen=True, slots=True)
class Locale:
    """
    What Django keeps per thread or context.

    A copied context carries it along on one thread only: in another one asgiref (from 3.12 on) hides it.
    """

    language: str | None
    zone: datetime.tzinfo

    @classmethod
    def of_caller(cls) -> Locale:
        return cls(translation.get_language(), timezone.get_current_timezone())

    def activate(self) -> None:
        if self.language is None:
            translation.deactivate_all()
        else:
            translation.activate(self.language)
        timezone.activate(self.zone)
