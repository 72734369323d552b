"""Firing: checks the arguments of `fire` and `afire`, and makes a record of them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from asgiref.sync import iscoroutinefunction

from ..definition import MAX_NAME_LENGTH, Task, arguments, check_name, name_of
from ..definition.sensitive import seal
from ..failure import storable
from ..process.caller_context import copy_context
from ..process.extras import Extras
from ..process.record import NO_LOOP, Record
from ..status import Status
from ..uuid7 import uuid7_int
from .attempt import call_later
from .context import scope_variable

READY = Status.READY  # On Python 3.11 a lookup on the enum takes 80 ns, a global 10.

Args = arguments.Args
Kwargs = arguments.Kwargs


class Firing:
    """Makes records in the caller's thread. It starts nothing: see `Admission`."""

    def __init__(self, max_args_bytes: int) -> None:
        self._max_args_bytes = max_args_bytes
        # In characters. The journal encodes strings up to this length later: as many of them as a call may have stay
        # below MAX_ARGS_BYTES together. Longer strings are encoded and measured at once.
        self._max_plain_length = min(1000, max_args_bytes // (8 * arguments.MAX_PLAIN_COUNT))

    def make(self, task: Any, args: Args, kwargs: Kwargs) -> Record:
        """
        Return the record of a task function, a coroutine function or a coroutine object. Part of the hot path.

        Raises:
            TypeError: `task` cannot be fired, its arguments do not fit, or JSON cannot hold them.
            ValueError: an argument or a name has content that databases cannot hold, or is too large.
        """
        if type(task) is not Task:
            if isinstance(task, Coroutine):
                return self._make_for_coroutine(task, args, kwargs)
            return self._make_for_function(_check_function(task), args, kwargs)
        encoded = None
        if not arguments.are_plain(args, kwargs, self._max_plain_length):
            encoded, args, kwargs = self._encode(task, args, kwargs)
        if task.sensitive:
            sealed_args, sealed_kwargs = seal(task.sensitive, task.signature, args, kwargs)
            encoded, _, _ = self._encode(task, tuple(sealed_args), sealed_kwargs)
        record = _new_record(task.name, task, args, kwargs)
        record.encoded = encoded
        if task.needs_extras:
            record.extras = Extras.of(task, record.history[0][1])
        try:
            record.bind()
        except TypeError as error:
            raise TypeError(f"Task {task.name!r} cannot take these arguments: {error}") from None
        return record

    def _make_for_function(self, function: Callable[..., Any], args: Args, kwargs: Kwargs) -> Record:
        task: Task[..., Any] = Task(function)
        record = self.make(task, args, kwargs)
        if record.coroutine is None:
            record.coroutine = call_later(function, record.args, record.kwargs)
        record.task, record.function = None, task  # It is recorded with its arguments, but cannot be run again.
        return record

    def _make_for_coroutine(self, coroutine: Coroutine[Any, Any, Any], args: Args, kwargs: Kwargs) -> Record:
        try:
            record = _new_record(_name_coroutine(coroutine, args, kwargs), None, (), {})
        except BaseException:
            if not _has_started(coroutine):
                coroutine.close()  # Otherwise Python warns that it was never awaited.
            raise
        record.coroutine = coroutine
        return record

    def _encode(self, task: Task[..., Any], args: Args, kwargs: Kwargs) -> tuple[tuple[str, str], Args, Kwargs]:
        def name_parameter(index: int) -> str:
            names = list(task.signature.parameters)
            return names[index] if index < len(names) else f"number {index + 1}"

        try:
            encoded = arguments.encode(args, kwargs, self._max_args_bytes, name_parameter)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Task {task.name!r}: {error}") from None
        return encoded, tuple(arguments.decode(encoded[0])), arguments.decode(encoded[1])


def _new_record(name: str, task: Task[..., Any] | None, args: Args, kwargs: Kwargs) -> Record:
    now = time.time_ns()
    entry = (READY, now / 1e9, 0, "fired")
    record = Record(uuid7_int(now), name, task, args, kwargs, NO_LOOP, copy_context(), entry)
    if (scope := scope_variable.get()) is not None:
        record.scope = scope
    return record


def _has_started(coroutine: Coroutine[Any, Any, Any]) -> bool:
    return inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED


def _name_coroutine(coroutine: Coroutine[Any, Any, Any], args: Args, kwargs: Kwargs) -> str:
    """
    Return the name of a coroutine object: the keyword `name`, or its own.

    Raises:
        TypeError: it has been started, or other arguments are given.
        ValueError: no database can hold the name.
    """
    if _has_started(coroutine):
        raise TypeError(f"{coroutine!r} has been started already: fire a coroutine that was not awaited.")
    name = kwargs.pop("name", None)
    if args or kwargs:
        raise TypeError(f"{coroutine!r} has its arguments already: only `name=` may be given with it.")
    if name is not None:
        return check_name(name)
    frame = getattr(coroutine, "cr_frame", None)
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    qualname = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    return storable(f"{module}.{qualname}".strip("."))[-MAX_NAME_LENGTH:]


def _check_function(function: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """
    Return the argument of `fire` if it is an `async def` function.

    Raises:
        TypeError: it is not. The message names the kinds of objects that can be fired.
    """
    if not isinstance(function, type) and iscoroutinefunction(function):
        return cast("Callable[..., Coroutine[Any, Any, Any]]", function)
    if inspect.isawaitable(function):
        fault = f"{function!r:.200} runs by itself already"
    elif inspect.isroutine(function):
        fault = f"{name_of(function)} is a plain function without @bgtasks.task"
    else:
        fault = f"{function!r:.200} is none of these"
    raise TypeError(
        f"bgtasks fires a function under @bgtasks.task, an `async def` function, or a coroutine object; {fault}."
    )
