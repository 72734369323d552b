"""The declaration of a task function in words: its signature, its options and its fate when a process dies."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from datetime import timedelta
from inspect import Parameter
from typing import Any

from django.utils.translation import gettext as _

from ...definition import DEFAULTS, Task
from ...definition.sensitive import HIDDEN
from ..shared.base import Fact
from ..shared.formats import MAX_ON_ONE_LINE, cut, duration, printable, split_name

MAX_HINT = 80  # Characters of an annotation or a default.
MAX_OPTION = 100  # Characters of an option's value.
MAX_DOC_LINE = 160


def describe_facts(task: Task[..., Any]) -> Iterator[Fact]:
    yield Fact(_("Kind"), _("async def") if task.is_async else _("def, on a thread"))
    yield Fact(_("Written in"), task.place)
    yield Fact(_("Verdict"), describe_verdict(task))
    yield Fact(_("Attempts"), task.max_attempts)
    yield Fact(_("Queue"), task.options.queue)
    yield Fact(_("Options"), ", ".join(describe_options(task)) or _("as by default"))
    if task.options.aliases:
        yield Fact(
            _("Earlier names"), ", ".join(task.options.aliases), _("tasks fired under these names run this function")
        )
    steps = ", ".join(map(str, sorted(task.steps)))
    note = _("takes those of version %(versions)s too") % {"versions": steps} if steps else ""
    yield Fact(_("Version of its arguments"), task.options.version, note)


def describe_verdict(task: Task[..., Any] | None) -> str:
    if task is None:
        return ""
    if task.on_lost == "rerun":
        return _("runs again when its process dies, up to %(count)s attempts") % {"count": task.max_attempts}
    return _("is lost when its process dies")


def describe_options(task: Task[..., Any]) -> Iterator[str]:
    """Yield the options that differ from the defaults, as they are written in a declaration."""
    for field in dataclasses.fields(task.options):
        value = getattr(task.options, field.name)
        if field.name not in ("aliases", "on_lost") and value != getattr(DEFAULTS, field.name):
            yield f"{field.name}={cut(_write_option(value), MAX_OPTION).text}"


def _write_option(value: object) -> str:
    """
    >>> _write_option((ValueError, OSError)), _write_option(timedelta(minutes=5)), _write_option("slow")
    ('ValueError, OSError', '5 min', '"slow"')
    >>> _write_option(_write_option)
    '_write_option'
    """
    if isinstance(value, tuple):
        return ", ".join(_write_option(each).strip('"') for each in value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, str):
        return f'"{printable(value)}"'
    return printable(getattr(value, "__qualname__", None) or repr(value))


def first_doc_line(task: Task[..., Any] | None) -> str:
    doc = inspect.cleandoc(task.__doc__ or "") if task is not None else ""
    return cut(printable(doc.partition("\n")[0]), MAX_DOC_LINE).text


def describe_definition(task: Task[..., Any]) -> str:
    function = split_name(task.name)[1]
    return f"{'async ' if task.is_async else ''}def {function}{describe_signature(task)}"


def describe_signature(task: Task[..., Any]) -> str:
    """Return the parameters as declared, on a line each if they are long, without the defaults of sensitive ones."""
    texts = []
    for parameter in task.signature.parameters.values():
        hint = annotation_of(parameter)
        text = f"{label_of_parameter(parameter)}: {hint}" if hint else label_of_parameter(parameter)
        if parameter.default is not Parameter.empty:
            default = HIDDEN if parameter.name in task.sensitive else write_default(parameter.default)
            text += f" = {default}" if hint else f"={default}"
        texts.append(text)
    line = f"({', '.join(texts)})"
    return line if len(line) <= MAX_ON_ONE_LINE else "\n".join(["(", *(f"    {text}," for text in texts), ")"])


def label_of_parameter(parameter: Parameter) -> str:
    stars = {Parameter.VAR_POSITIONAL.name: "*", Parameter.VAR_KEYWORD.name: "**"}
    return f"{stars.get(parameter.kind.name, '')}{parameter.name}"


def annotation_of(parameter: Parameter) -> str:
    """Return the annotation of a parameter as the source code has it, or an empty text."""
    annotation = parameter.annotation
    if annotation is Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return cut(printable(text), MAX_HINT).text


def write_default(value: object) -> str:
    """Return the `repr` of a default, which is foreign code and may raise any exception."""
    try:
        return cut(printable(repr(value)), MAX_HINT).text
    except Exception:  # noqa: BLE001, RUF100  # See above.
        return "…"
