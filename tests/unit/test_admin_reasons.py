"""Reasons in a history are shown in the language of the user."""

from __future__ import annotations

import pytest
from django.utils import translation

from bgtasks.admin.tasks.reasons import translate_reason
from bgtasks.runtime import attempt


@pytest.mark.parametrize(
    ("why", "translated"),
    [
        ("fired", "gestartet"),
        ("claimed", "übernommen"),
        ("raised ValueError", "Ausnahme ValueError"),
        ("raised ValueError: 5 %, \n no", "Ausnahme ValueError: 5 %, \n no"),
        ("raised E: no; again in 2 s, attempt 2 of 3", "Ausnahme E: no; noch einmal in 2 s, Versuch 2 von 3"),
        ("its uvicorn web-1:7 died", "sein uvicorn web-1:7 ist gestorben"),
        ("its uvicorn web-1:7 died; no attempts left", "sein uvicorn web-1:7 ist gestorben; kein Versuch übrig"),
        ("as the customer wished: %(x)s", "as the customer wished: %(x)s"),
        ("", ""),
    ],
)
def test_in_german(why: str, translated: str) -> None:
    with translation.override("de"):
        assert translate_reason(why) == translated


@pytest.mark.parametrize("why", [attempt.CUT_SHORT[1], attempt.ASKED_FOR[1], attempt.LOOP_ENDED[1]])
def test_the_runtimes_own_words_are_known(why: str) -> None:
    with translation.override("de"):
        assert translate_reason(why) != why


def test_in_english_nothing_changes() -> None:
    why = "raised shop.Declined: no; again in 2 s, attempt 2 of 3"

    assert translate_reason(why) == why
