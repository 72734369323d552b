"""The language and time zone of the caller, for a task that runs on the loop of another thread."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from django.utils import timezone, translation


@dataclass(frozen=True, slots=True)
class Locale:
    """
    The language and time zone that Django has for a thread or context.

    A copied context keeps them on the same thread only: on another thread asgiref (from 3.12 on) hides them.
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
