"""`Retry-After`, as a server says when to come back: seconds, or a date of HTTP (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
import time
from operator import attrgetter
from typing import Any

from django.utils.http import parse_http_date


def parse_retry_after(text: str) -> float:
    """
    Return the seconds from now that a `Retry-After` header asks for, at least 0.

    Raises:
        ValueError: it is neither a number of seconds nor a date of HTTP.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_http_date(text) - time.time()
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is no number of seconds.")
    return max(seconds, 0.0)


def find_retry_after(error: BaseException) -> float | None:
    """
    Return the seconds that a server asked for in the answer that an exception carries.

    As httpx, requests and aiohttp have it, on `error.response.headers` or `error.headers`.
    """
    for find in (attrgetter("response.headers"), attrgetter("headers")):
        try:
            headers: Any = find(error)
            text = headers.get("Retry-After") or headers.get("retry-after")
            if text is not None:
                return parse_retry_after(str(text))
        except Exception:  # noqa: BLE001, S112, RUF100  # Foreign code, or nothing of the kind.
            continue
    return None
