"""Middleware: answers requests whose view fires a task when too many wait."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .exceptions import Overloaded


class OverloadedMiddleware:
    """
    Turns an `Overloaded` that a view raises into the answer 503, with `Retry-After` in seconds.

    It may stand anywhere in MIDDLEWARE. A view that raises nothing costs one more call.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        response: HttpResponseBase | Awaitable[HttpResponseBase] = self._get_response(request)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, Overloaded):
            return None
        seconds = max(math.ceil(exception.retry_after), 1)
        return HttpResponse(
            "Too much is waiting: try again later.",
            status=503,
            content_type="text/plain; charset=utf-8",
            headers={"Retry-After": str(seconds)},
        )
