"""Translates the reasons in the history of a task, which its row has in English."""

from __future__ import annotations

import re

from django.utils.translation import gettext, gettext_noop

# The reasons that the runtime and these pages write, more specific ones first. All other texts, such as the message of
# an exception, stay as they are.
REASONS = (
    gettext_noop("fired"),
    gettext_noop("fired in the admin"),
    gettext_noop("fired again in the admin"),
    gettext_noop("claimed"),
    gettext_noop("a slot became free"),
    gettext_noop("returned"),
    gettext_noop("raised %(error)s; again in %(time)s s, attempt %(number)s of %(most)s"),
    gettext_noop("raised %(error)s"),
    gettext_noop("cancelled on request"),
    gettext_noop("cancelled in the admin"),
    gettext_noop("cancelled in the admin: it was stuck"),
    gettext_noop("cut short by the drain"),
    gettext_noop("given back by a draining process"),
    gettext_noop("still running when the drain ended"),
    gettext_noop("not started before the drain ended"),
    gettext_noop("not recorded before the drain ended"),
    gettext_noop("its event loop was shut down"),
    gettext_noop("its %(process)s died; no attempts left"),
    gettext_noop("its %(process)s died; its cancellation was asked for"),
    gettext_noop("its %(process)s died"),
    gettext_noop("its %(process)s stopped before it ended"),
    gettext_noop("claimed, but its process never heard of it"),
)


def _pattern(reason: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"%\\\((\w+)\\\)s|%\((\w+)\)s", r"(?P<\1\2>.+?)", re.escape(reason)), re.DOTALL)


PATTERNS = [(reason, _pattern(reason)) for reason in REASONS]


def translate_reason(why: str) -> str:
    """
    Return a reason in the current language; a text that is not one of REASONS unchanged.

    >>> translate_reason("raised ValueError: no"), translate_reason("as the customer wished")
    ('raised ValueError: no', 'as the customer wished')
    """
    for reason, pattern in PATTERNS:
        if (found := pattern.fullmatch(why)) is not None:
            return gettext(reason) % found.groupdict() if found.groupdict() else gettext(reason)
    return why
