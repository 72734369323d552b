"""
The fields of the form "Fire now": one for each parameter, of the type that its annotation names.

JSON has no dates, Decimals or UUIDs: a task receives them as texts, as from `fire`.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import Parameter
from typing import Any, Literal, NamedTuple, Union
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Choices
from django.utils.translation import gettext as _

from ...definition import Task
from ..shared.formats import printable
from .declaration import MAX_HINT, write_default

MAX_INITIAL = 2000  # Characters of the initial value of a field.
MAX_CHOICES = 500  # Members of an enum. A larger enum gets a text field.

BLANK = object()  # The value of an empty field, in contrast to None.


class Kind(NamedTuple):
    """The meaning of an annotation."""

    type: Any  # Any: a type without a field of its own.
    is_optional: bool  # Whether None is among its values.


def read_annotation(annotation: Any) -> Kind:
    """
    Return the kind of value that an annotation allows.

    >>> read_annotation(int | None), read_annotation(Literal["a", "b"]).is_optional
    (Kind(type=<class 'int'>, is_optional=True), False)
    """
    while isinstance(annotation, typing.NewType):
        annotation = annotation.__supertype__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        is_optional = len(parts) < len(typing.get_args(annotation))
        return Kind(read_annotation(parts[0]).type if len(parts) == 1 else Any, is_optional)
    if typing.get_origin(annotation) is Literal:
        return Kind(annotation, None in typing.get_args(annotation))
    return Kind(annotation, annotation is type(None))


def find_annotations(task: Task[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters as types, without those that cannot be resolved."""
    found = {}
    function = inspect.unwrap(task.func)
    for parameter in task.signature.parameters.values():
        if parameter.annotation is not Parameter.empty:
            probe = types.FunctionType((lambda: None).__code__, getattr(function, "__globals__", {}))
            probe.__annotations__ = {"it": parameter.annotation}
            try:
                found[parameter.name] = typing.get_type_hints(probe)["it"]
            except Exception:  # noqa: BLE001, S112, RUF100  # Such as a name that only type checkers import.
                continue
    return found


class JSONText(forms.CharField):
    """A field for JSON. Its value is BLANK for an empty input, since None stands for `null`."""

    widget = forms.Textarea
    default_error_messages = {"invalid": forms.JSONField.default_error_messages["invalid"]}

    def __init__(self, *, kind: type | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.kind = kind

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return BLANK
        try:
            decoded = json.loads(text)
        except (ValueError, RecursionError):  # ValueError also for a number of thousands of digits.
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        if self.kind is not None and not isinstance(decoded, self.kind):
            text = _("This is a JSON object: {…}.") if self.kind is dict else _("This is a JSON list: […].")
            raise ValidationError(text, code="kind")
        return decoded


class Choice(forms.TypedChoiceField):
    """One of some values, of any type. The form refers to them by their number."""

    def __init__(self, values: list[tuple[Any, str]], *, required: bool, initial: Any = None, **more: Any) -> None:
        self.values = [value for value, _label in values]
        choices = [(str(number), label) for number, (_value, label) in enumerate(values)]
        if not required or initial is None:
            choices.insert(0, ("", "–" if not required else _("Choose …")))
        super().__init__(choices=choices, coerce=self._find, empty_value=None, required=required, **more)
        self.initial = initial

    def _find(self, number: str) -> Any:
        return self.values[int(number)]


def make_field(parameter: Parameter, kind: Kind, *, is_sensitive: bool) -> forms.Field:
    """Return the field of a parameter, with its default as the initial value."""
    has_default = parameter.default is not Parameter.empty
    options: dict[str, Any] = {"required": not has_default and not kind.is_optional}
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        is_list = parameter.kind is Parameter.VAR_POSITIONAL
        field: forms.Field = JSONText(required=False, kind=list if is_list else dict)
        field.help_text = _("More arguments, as a JSON list.") if is_list else _("More by name, as a JSON object.")
    else:
        field = _make_typed(kind, parameter.default if has_default else None, options)
        if field.initial is None and has_default and parameter.default is not None and not is_sensitive:
            field.help_text = _("Left empty: %(default)s") % {"default": write_default(parameter.default)}
        elif field.initial is None and (has_default or kind.is_optional):
            field.help_text = _("May be left empty.")
    if is_sensitive:
        if isinstance(field, Choice | forms.BooleanField):  # Their value would be visible on the screen.
            field = JSONText(**options)
        field.initial = None  # It is never sent to the browser.
        field.widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
        field.help_text = _("Sensitive: it is encrypted, and shown nowhere.")
    if isinstance(field.widget, forms.Textarea):
        field.widget.attrs |= {"rows": 2, "cols": 40, "spellcheck": "false"}
    return field


def _make_typed(kind: Kind, default: Any, options: dict[str, Any]) -> forms.Field:
    found = kind.type
    if found is bool:
        return _make_bool(kind, default, options)
    if typing.get_origin(found) is Literal:
        values = [(value, printable(value)) for value in typing.get_args(found) if value is not None]
        return _make_choice(values, default, options)
    if isinstance(found, type) and issubclass(found, Enum) and 0 < len(found) <= MAX_CHOICES:
        return _make_choice([(member, _name_of(member)) for member in found], default, options)
    if found is str:
        is_long = isinstance(default, str) and ("\n" in default or len(default) > MAX_HINT)
        widget = forms.Textarea if is_long else forms.TextInput
        text = forms.CharField(**options, strip=False, empty_value=None if kind.is_optional else "", widget=widget)
        text.initial = default if isinstance(default, str) and len(default) <= MAX_INITIAL else None
        return text
    make = _TYPED.get(found) if isinstance(found, type) else None
    if make is None:
        return _make_json(default, options)
    field = make(**options)
    is_of_it = type(default) is found or (found is float and type(default) is int)
    field.initial = default if is_of_it else None
    return field


def _make_bool(kind: Kind, default: Any, options: dict[str, Any]) -> forms.Field:
    if kind.is_optional:
        return _make_choice([(True, _("Yes")), (False, _("No"))], default, options)
    return forms.BooleanField(required=False, initial=default is True)


def _make_choice(values: list[tuple[Any, str]], default: Any, options: dict[str, Any]) -> Choice:
    same = (str(number) for number, (value, _label) in enumerate(values) if _is_same(value, default))
    return Choice(values, **options, initial=next(same, None))


def _is_same(value: Any, default: Any) -> bool:
    """Compare values and types: `Literal` distinguishes 1 and True. The default of an enum may be a member's value."""
    if isinstance(value, Enum) and not isinstance(default, Enum):
        value = value.value
    return type(value) is type(default) and bool(value == default)


def _make_json(default: Any, options: dict[str, Any]) -> JSONText:
    field = JSONText(**options)
    if default is not None:
        try:
            text = json.dumps(default, cls=DjangoJSONEncoder, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            text = ""
        field.initial = text if text and len(text) <= MAX_INITIAL else None
    return field


_TYPED: dict[type, Callable[..., forms.Field]] = {
    int: forms.IntegerField,
    float: forms.FloatField,
    Decimal: forms.DecimalField,
    # In the formats of the browser's own fields.
    datetime: partial(
        forms.DateTimeField,
        widget=forms.DateTimeInput({"type": "datetime-local", "step": "1"}, "%Y-%m-%dT%H:%M:%S"),
    ),
    date: partial(forms.DateField, widget=forms.DateInput({"type": "date"}, "%Y-%m-%d")),
    time: partial(forms.TimeField, widget=forms.TimeInput({"type": "time", "step": "1"}, "%H:%M:%S")),
    timedelta: forms.DurationField,
    UUID: forms.UUIDField,
}


def _name_of(member: Enum) -> str:
    return printable(member.label if isinstance(member, Choices) else member.name)
