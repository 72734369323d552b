"""Values as the admin formats them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bgtasks.admin.shared.formats import MAX_SHOWN, duration, pretty_json, split_name


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.9999, "1 s"),
        (9.999, "10 s"),
        (59.97, "1 min"),
        (timedelta(hours=1, minutes=4), "1 h 4 min"),
        (timedelta(days=3, hours=2), "3 d 2 h"),
        (-2, "−2 s"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_duration(length, text):
    assert duration(length) == text


def test_json_on_one_line_when_it_fits():
    assert pretty_json([1, "ä"]).text == '[1, "ä"]'
    assert pretty_json({"a": "x" * 80}).text.count("\n") == 2


def test_large_json_is_cut():
    shown = pretty_json(["x" * 50] * 10_000)

    assert len(shown.text) == MAX_SHOWN
    assert shown.whole_length > MAX_SHOWN


def test_half_of_a_surrogate_pair_can_be_sent():
    assert pretty_json("\ud800").text.encode()


def test_deeply_nested_json_is_no_error():
    value: list = []
    for _ in range(100_000):
        value = [value]

    assert pretty_json(value).text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.b.c", ("a.b", "c")),
        ("c", ("", "c")),
        ("a.", ("", "a.")),
        ("notify:a.b@c.d", ("", "notify:a.b@c.d")),
        ("a.f.<locals>.g", ("a.f.<locals>", "g")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts
