"""What the JSON endpoints share: reading a body, and answering every error as `{"error": …}`."""

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
    """Answer what the view refuses, and what cannot be recorded now, as JSON."""

    # Exempt: these endpoints are for programs and read neither cookie nor session, so that a foreign page has nothing
    # of a visitor's to misuse. The buttons of the start page are forms with a token.
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
    Return the request's body as what it means.

    Raises:
        Refused: 413 when it is too long, 400 when it is not JSON.
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
        # Python reads more than JSON allows: NaN, 1e999, halves of surrogate pairs. Those cannot be written again.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}.") from error
    return value


def validated(form_class: type[forms.Form], data: object) -> dict[str, Any]:
    """
    Return what `data` holds for the form.

    Raises:
        Refused: 400 when it is no object or a field is wrong; `fields` says which.
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
