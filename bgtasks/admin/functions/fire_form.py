"""
The form "Fire now": a field for each parameter of a task function, of the type that its annotation names.

It gathers the arguments as `fire` takes them. A field that is left as it was gives none: the function's own default
holds. What JSON cannot tell from a text (a date, a Decimal, a UUID) arrives in the task as a text, as ever.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
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
from ...definition.sensitive import HIDDEN
from ..shared.formats import MAX_ON_ONE_LINE, cut, printable

MAX_HINT = 80  # Characters of an annotation beside its field.
MAX_INITIAL = 2000  # Characters of a default that a field begins with.
MAX_CHOICES = 500  # Members of an enum; a longer list is typed in.
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

BLANK = object()  # Nothing was given, as opposed to None.


class Kind(NamedTuple):
    """What an annotation says."""

    type: Any  # Any: nothing, or nothing that has a field of its own.
    is_optional: bool  # Whether None is among its values.


def read_annotation(annotation: Any) -> Kind:
    """
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
    """Return the annotations of a function's parameters, as types. One that cannot be found is left out."""
    found = {}
    function = inspect.unwrap(task.func)
    for parameter in task.signature.parameters.values():
        if parameter.annotation is not Parameter.empty:
            probe = types.FunctionType((lambda: None).__code__, getattr(function, "__globals__", {}))
            probe.__annotations__ = {"it": parameter.annotation}
            try:
                found[parameter.name] = typing.get_type_hints(probe)["it"]
            except Exception:  # noqa: BLE001, S112, RUF100  # A name that only type checkers import, for one.
                continue
    return found


class JSONText(forms.CharField):
    """JSON as it is typed in. Its value is BLANK where nothing is, for `null` is something."""

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
        except (ValueError, RecursionError):  # Also a number of thousands of digits.
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        if self.kind is not None and not isinstance(decoded, self.kind):
            told = _("This is a JSON object: {…}.") if self.kind is dict else _("This is a JSON list: […].")
            raise ValidationError(told, code="kind")
        return decoded


class Choice(forms.TypedChoiceField):
    """One of some values, of whatever type. The form knows them by their number."""

    def __init__(self, values: list[tuple[Any, str]], *, required: bool, initial: Any = None, **more: Any) -> None:
        self.values = [value for value, _label in values]
        choices = [(str(number), label) for number, (_value, label) in enumerate(values)]
        if not required or initial is None:
            choices.insert(0, ("", "–" if not required else _("Choose …")))
        super().__init__(choices=choices, coerce=self._find, empty_value=None, required=required, **more)
        self.initial = initial

    def _find(self, number: str) -> Any:
        return self.values[int(number)]


class FireForm(forms.Form):
    """The arguments of one task function."""

    def __init__(self, task: Task[..., Any], data: Mapping[str, Any] | None = None) -> None:
        # A prefix, so that no parameter has the name of anything else that is sent.
        super().__init__(data, prefix="argument", use_required_attribute=False)
        self.task = task
        annotations = find_annotations(task)
        for parameter in task.signature.parameters.values():
            kind = read_annotation(annotations.get(parameter.name, Any))
            field = make_field(parameter, kind, is_sensitive=parameter.name in task.sensitive)
            field.label = _label(parameter)
            field.hint = _hint(parameter)  # type: ignore[attr-defined]  # For our template.
            field.is_optional = kind.is_optional  # type: ignore[attr-defined]  # For `arguments`.
            self.fields[parameter.name] = field

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what to fire with, once the form is valid."""
        signature = self.task.signature
        parameters = signature.parameters.values()
        given = {parameter.name: value for parameter in parameters if (value := self._value(parameter)) is not BLANK}
        by_place = [
            number
            for number, parameter in enumerate(parameters)
            if parameter.name in given and parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)
        ]
        bound = inspect.BoundArguments(signature, {})
        for number, parameter in enumerate(parameters):
            if parameter.name in given:
                bound.arguments[parameter.name] = given[parameter.name]
            elif number < max(by_place, default=0):  # It stands before one that goes by its place.
                bound.arguments[parameter.name] = parameter.default
        return bound.args, bound.kwargs

    def _value(self, parameter: Parameter) -> Any:
        """Return the argument for a parameter; BLANK if there is none."""
        field, value = self.fields[parameter.name], self.cleaned_data[parameter.name]
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            return value
        has_default = parameter.default is not Parameter.empty
        if value is BLANK or (value is None and not isinstance(field, JSONText)):
            is_cleared = field.initial is not None or not has_default
            return None if is_cleared and field.is_optional else BLANK  # type: ignore[attr-defined]
        if has_default and parameter.name not in self.changed_data:
            return BLANK
        return value.value if isinstance(value, Enum) else value


def make_field(parameter: Parameter, kind: Kind, *, is_sensitive: bool) -> forms.Field:
    """Return the field of a parameter, with its default as what it begins with."""
    has_default = parameter.default is not Parameter.empty
    options: dict[str, Any] = {"required": not has_default and not kind.is_optional}
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        is_list = parameter.kind is Parameter.VAR_POSITIONAL
        field: forms.Field = JSONText(required=False, kind=list if is_list else dict)
        field.help_text = _("More arguments, as a JSON list.") if is_list else _("More by name, as a JSON object.")
    else:
        field = _make_typed(kind, parameter.default if has_default else None, options)
        if field.initial is None and has_default and parameter.default is not None and not is_sensitive:
            field.help_text = _("Left empty: %(default)s") % {"default": cut(_write(parameter.default), MAX_HINT).text}
        elif field.initial is None and (has_default or kind.is_optional):
            field.help_text = _("May be left empty.")
    if is_sensitive:
        if isinstance(field, Choice | forms.BooleanField):  # Nobody shall read over a shoulder what is chosen.
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
    """Tell 1 from True, as `Literal` does. The default of an enum may be a member's value."""
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
    # As the browser's own fields for moments write them.
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


def _label(parameter: Parameter) -> str:
    stars = {Parameter.VAR_POSITIONAL.name: "*", Parameter.VAR_KEYWORD.name: "**"}
    return f"{stars.get(parameter.kind.name, '')}{parameter.name}"


def _hint(parameter: Parameter) -> str:
    """Return the annotation as it is written."""
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return cut(printable(text), MAX_HINT).text


def _write(value: object) -> str:
    """Return what Python writes for a default, which is foreign code and may do anything."""
    try:
        return printable(repr(value))
    except Exception:  # noqa: BLE001, RUF100  # See above.
        return "…"


def tell_errors(form: FireForm) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the form, each with the name of its parameter, or "" if it is about all."""
    for name, errors in form.errors.items():
        label = "" if name == "__all__" else str(form.fields[name].label)
        for error in errors:
            yield label, str(error)


def describe_signature(task: Task[..., Any]) -> str:
    """Return the parameters as they are declared, but for the defaults of sensitive ones. Many have a line each."""
    told = []
    for parameter in task.signature.parameters.values():
        hint = _hint(parameter)
        text = f"{_label(parameter)}: {hint}" if hint else _label(parameter)
        if parameter.default is not Parameter.empty:
            default = HIDDEN if parameter.name in task.sensitive else cut(_write(parameter.default), MAX_HINT).text
            text += f" = {default}" if hint else f"={default}"
        told.append(text)
    line = f"({', '.join(told)})"
    return line if len(line) <= MAX_ON_ONE_LINE else "\n".join(["(", *(f"    {each}," for each in told), ")"])
