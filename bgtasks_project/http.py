"""The common part of the JSON endpoints: they read a JSON body and answer every error as `{"error": …}`."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

import bgtasks

View = Callable[..., Coroutine[Any, Any, JsonResponse]]


class Refused(Exception):
    """A request that is answered with an error: `status` and `{"error": message, …}`."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"error": message, **more}


def json_endpoint(view: View) -> View:
    """Answer requests that the view refuses, and tasks that cannot be recorded now, as JSON."""

    # Exempt from the CSRF check: these endpoints are for programs and read neither cookie nor session, which a foreign
    # page could misuse. The buttons of the start page are forms with a token.
    @csrf_exempt
    @wraps(view)
    async def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        try:
            return await view(request, *args, **kwargs)
        except Refused as refused:
            return JsonResponse(refused.content, status=refused.status)
        except bgtasks.Overloaded as error:
            return _try_later(error, error.retry_after)
        except (bgtasks.Draining, bgtasks.NotRecorded) as error:
            return _try_later(error, 1)
        except bgtasks.RecordUnknown as error:
            return JsonResponse({"error": str(error), "task_id": str(error.id)}, status=503)

    return answer


def read_json(request: HttpRequest) -> Any:
    """
    Return the JSON value in the body of a request.

    Raises:
        Refused: 413 if the body is too long, 400 if it is not JSON.
    """
    most = settings.DEMO_MAX_BODY_BYTES
    try:
        body = request.body
    except RequestDataTooBig:
        body = None
    if body is None or len(body) > most:
        raise Refused(413, f"The body is longer than {most} bytes.")
    try:
        value = json.loads(body)
        # Python reads more than JSON allows: NaN, 1e999, halves of surrogate pairs. These cannot be written as JSON.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}.") from error
    return value


def validated(form_class: type[forms.Form], data: object) -> dict[str, Any]:
    """
    Return the data of a form that is valid.

    Raises:
        Refused: 400 if `data` is not an object, or a field is wrong; `fields` says which.
    """
    if not isinstance(data, dict):
        raise Refused(400, "The body is not a JSON object.")
    form = form_class(data)
    if form.is_valid():
        return form.cleaned_data
    fields = {name: [str(error) for error in errors] for name, errors in form.errors.items()}
    message = " ".join(f"{name}: {' '.join(errors)}" for name, errors in fields.items())
    raise Refused(400, message, fields=fields)


def _try_later(error: Exception, seconds: float) -> JsonResponse:
    headers = {"Retry-After": str(max(1, round(seconds)))}
    return JsonResponse({"error": str(error)}, status=503, headers=headers)
