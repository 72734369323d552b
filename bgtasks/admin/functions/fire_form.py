"""
The form "Fire now", which gathers the arguments of a task function as `fire` takes them.

A field that is unchanged passes no argument, so that the function uses its own default.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from inspect import Parameter
from typing import Any

from django import forms

from ...definition import Task
from .declaration import annotation_of, label_of_parameter
from .form_fields import BLANK, JSONText, find_annotations, make_field, read_annotation


class FireForm(forms.Form):
    """The arguments of one task function."""

    def __init__(self, task: Task[..., Any], data: Mapping[str, Any] | None = None) -> None:
        # The prefix keeps the parameters apart from other names in the request.
        super().__init__(data, prefix="argument", use_required_attribute=False)
        self.task = task
        annotations = find_annotations(task)
        for parameter in task.signature.parameters.values():
            kind = read_annotation(annotations.get(parameter.name, Any))
            field = make_field(parameter, kind, is_sensitive=parameter.name in task.sensitive)
            field.label = label_of_parameter(parameter)
            field.hint = annotation_of(parameter)  # type: ignore[attr-defined]  # For our template.
            field.is_optional = kind.is_optional  # type: ignore[attr-defined]  # For `arguments`.
            self.fields[parameter.name] = field

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a valid form."""
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
            elif number < max(by_place, default=0):  # A later argument is passed by position.
                bound.arguments[parameter.name] = parameter.default
        return bound.args, bound.kwargs

    def _value(self, parameter: Parameter) -> Any:
        """Return the argument for a parameter; BLANK for none."""
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


def describe_errors(form: FireForm) -> Iterator[tuple[str, str]]:
    """Yield the errors of a form, each with the label of its parameter, or "" for an error of the whole form."""
    for name, errors in form.errors.items():
        label = "" if name == "__all__" else str(form.fields[name].label)
        for error in errors:
            yield label, str(error)
