"""The form "Fire now": a field for each parameter, and the arguments made from the typed values."""

from __future__ import annotations

import inspect
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Literal, NewType, Optional
from uuid import UUID

import pytest
from django import forms
from django.db.models import TextChoices
from django.http import QueryDict
from django.utils import timezone

from bgtasks.admin.functions.declaration import describe_signature
from bgtasks.admin.functions.fire_form import FireForm, describe_errors
from bgtasks.admin.functions.form_fields import Choice, JSONText
from bgtasks.definition import Task

if TYPE_CHECKING:
    from nowhere import Unknown

UserId = NewType("UserId", int)
HOSTILE = "<script>alert(1)</script>\"'"


class Color(TextChoices):
    RED = "r", "Bright red"
    BLUE = "b", "Blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Plain(Enum):
    LIST = ("a", 1)


def make_form(function: Any, sensitive: tuple[str, ...] = (), **typed: Any) -> FireForm:
    task: Task[..., Any] = Task(function)
    task.sensitive = sensitive
    if not typed:
        return FireForm(task)
    data = QueryDict(mutable=True)
    for name, value in typed.items():
        data[f"argument-{name}"] = value
    return FireForm(task, data)


def arguments(function: Any, **typed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments if all fields but these keep their initial values."""
    empty = make_form(function)
    begin = {name: empty[name].value() for name in empty.fields}
    form = make_form(function, **{**{name: "" if value is None else value for name, value in begin.items()}, **typed})
    assert form.is_valid(), form.errors
    return form.arguments()


def bound(function: Any, **typed: Any) -> dict[str, Any]:
    args, kwargs = arguments(function, **typed)
    return inspect.signature(function).bind(*args, **kwargs).arguments


def errors(function: Any, **typed: Any) -> dict[str, str]:
    form = make_form(function, **typed)
    assert not form.is_valid()
    return dict(describe_errors(form))


async def takes_all(
    number: int,
    part: float,
    price: Decimal,
    text: str,
    at: datetime,
    day: date,
    clock: time,
    wait: timedelta,
    which: UUID,
    user: UserId,
    items: list[int],
    table: dict[str, Any],
    anything,
    flag: bool,
    color: Color,
    size: Size,
    plain: Plain,
    level: Literal["low", "high", 3],
): ...


def test_each_type_has_its_field():
    fields = make_form(takes_all).fields

    assert {name: type(field) for name, field in fields.items()} == {
        "number": forms.IntegerField,
        "part": forms.FloatField,
        "price": forms.DecimalField,
        "text": forms.CharField,
        "at": forms.DateTimeField,
        "day": forms.DateField,
        "clock": forms.TimeField,
        "wait": forms.DurationField,
        "which": forms.UUIDField,
        "user": forms.IntegerField,
        "items": JSONText,
        "table": JSONText,
        "anything": JSONText,
        "flag": forms.BooleanField,
        "color": Choice,
        "size": Choice,
        "plain": Choice,
        "level": Choice,
    }
    assert {name for name, field in fields.items() if not field.required} == {"flag"}


def test_what_is_typed_in_becomes_values():
    which = "0198c7e2-7d4a-7000-8000-000000000001"
    found = bound(
        takes_all,
        number=" 42 ",
        part="0.5",
        price="12.50",
        text=" as it is ",
        at="2026-01-31T13:45",
        day="2026-01-31",
        clock="13:45",
        wait="1 00:00:30",
        which=which,
        user="7",
        items="[1, 2]",
        table='{"a": {"b": null}}',
        anything="null",
        flag="on",
        color="1",
        size="1",
        plain="0",
        level="2",
    )

    assert found == {
        "number": 42,
        "part": 0.5,
        "price": Decimal("12.50"),
        "text": " as it is ",
        "at": timezone.make_aware(datetime(2026, 1, 31, 13, 45)),
        "day": date(2026, 1, 31),
        "clock": time(13, 45),
        "wait": timedelta(days=1, seconds=30),
        "which": UUID(which),
        "user": 7,
        "items": [1, 2],
        "table": {"a": {"b": None}},
        "anything": None,
        "flag": True,
        "color": "b",
        "size": 2,
        "plain": ("a", 1),
        "level": 3,
    }
    assert type(found["color"]) is str
    assert type(found["size"]) is int


def test_choices_are_shown_by_their_labels():
    html = str(make_form(takes_all))

    for label in ("Bright red", "SMALL", "high"):
        assert label in html


def test_errors_name_their_parameters():
    wrong = errors(
        takes_all,
        number="x",
        part="nan",
        price="1,5,0",
        at="yesterday",
        day="2026-02-30",
        which="7",
        items="[1",
        color="9",
        level="",
        text="",
        anything="",
    )

    assert set(wrong) == {*(inspect.signature(takes_all).parameters)} - {"flag"}
    assert wrong["number"] == "Enter a whole number."
    assert wrong["items"] == "Enter a valid JSON."


def with_defaults(
    count: int = 3,
    name: str = "ann",
    note: Optional[str] = None,  # noqa: UP045  # In the style of older code.
    limit: int | None = 10,
    ratio: float = 0.5,
    ok: bool = True,
    maybe: bool | None = None,
    color: Color = Color.BLUE,
    level: Literal["low", "high"] = "low",
    items: list[int] | None = None,
    table: dict[str, int] = {"a": 1},  # noqa: B006
    at: datetime | None = None,
    odd: object = object(),
): ...


def test_defaults_are_what_the_fields_begin_with():
    form = make_form(with_defaults)

    assert {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")} == {
        "count": 3,
        "name": "ann",
        "limit": 10,
        "ratio": 0.5,
        "ok": True,
        "color": "1",
        "level": "0",
        "table": '{"a": 1}',
    }
    assert not any(field.required for field in form.fields.values())


def test_what_is_left_as_it_was_is_not_given():
    assert arguments(with_defaults) == ((), {})


def test_what_is_changed_is_given():
    assert bound(with_defaults, count="4") == {"count": 4}
    assert bound(with_defaults, note="hi", color="0", items="[]") == {"note": "hi", "color": "r", "items": []}
    assert bound(with_defaults, maybe="1") == {"maybe": False}
    assert bound(with_defaults, odd='"text"') == {"odd": "text"}


def test_what_is_cleared_is_none_where_none_may_be():
    assert bound(with_defaults, limit="") == {"limit": None}
    assert bound(with_defaults, name="") == {"name": ""}
    assert bound(with_defaults, count="", ratio="", table="") == {}


def test_a_box_that_is_not_ticked_is_false():
    form = make_form(with_defaults, count="3")
    assert form.is_valid()
    assert form.arguments()[1]["ok"] is False


def needs_optional(to: str | None, ids: list[int] | None): ...


def test_a_parameter_without_a_default_gets_none_when_it_is_left_empty():
    assert bound(needs_optional) == {"to": None, "ids": None}


def by_place(first, second=2, /, third=3, *more, only=4, **options): ...


def test_what_goes_by_its_place_has_the_defaults_before_it():
    assert arguments(by_place, first="1") == ((1,), {})
    assert arguments(by_place, first="1", third="9") == ((1,), {"third": 9})
    assert arguments(by_place, first="1", more="[7, 8]") == ((1, 2, 3, 7, 8), {})
    assert arguments(by_place, first="1", only="5", options='{"a": 1}') == ((1,), {"only": 5, "a": 1})


def test_more_arguments_are_a_list_and_an_object():
    assert set(errors(by_place, first="1", more="{}", options="[]")) == {"*more", "**options"}


def resists(known: int, unknown: Unknown, both: Unknown | None = None): ...


def test_a_name_that_cannot_be_found_leaves_the_others_their_types():
    fields = make_form(resists).fields

    assert type(fields["known"]) is forms.IntegerField
    assert type(fields["unknown"]) is JSONText


class Foul:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def foul(it: object = Foul(), text: str = HOSTILE, other: object = {HOSTILE}): ...


def test_defaults_may_be_anything_and_stay_text():
    form = make_form(foul)

    assert form.fields["it"].help_text == "Left empty: …"
    assert "<script>" in form.fields["other"].help_text  # The template escapes this value and the next.
    assert "<script>" not in "".join(str(bound) for bound in form)
    assert "<script>" in describe_signature(form.task)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "NaN,", "\x00", "{'a': 1}", '"'])
def test_hostile_json_is_an_error_of_the_form(text):
    form = make_form(by_place, first=text)

    assert not form.is_valid()
    assert "argument-first" in str(form)


def secret(user: str, password: str = "default-secret", pin: Literal[1, 2] = 1, keys: list[str] | None = None): ...


def test_sensitive_parameters_are_never_sent_back():
    form = make_form(secret, sensitive=("password", "pin", "keys"), user="ann", password="typed-secret", keys='["k"]')
    empty = str(make_form(secret, sensitive=("password", "pin", "keys")))

    assert form.is_valid()
    assert form.arguments() == (("ann", "typed-secret"), {"keys": ["k"]})
    assert "typed-secret" not in str(form)
    assert "default-secret" not in empty
    assert empty.count('type="password"') == 3
    assert "default-secret" not in describe_signature(form.task)
