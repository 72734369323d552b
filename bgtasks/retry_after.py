"""The header `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
import time
from operator import attrgetter
from typing import Any

from django.utils.http import parse_http_date


def parse_retry_after(text: str) -> float:
    """
    Return the seconds from now to the moment in a `Retry-After` header; 0 if it is past.

    Raises:
        ValueError: the text is neither a number of seconds nor an HTTP date.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_http_date(text) - time.time()
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a number of seconds.")
    return max(seconds, 0.0)


def find_retry_after(error: BaseException) -> float | None:
    """
    Return the seconds in the `Retry-After` of the server's answer to which an exception belongs; None if there is none.

    httpx, requests and aiohttp store the answer's headers in `error.response.headers` or `error.headers`.
    """
    for find in (attrgetter("response.headers"), attrgetter("headers")):
        try:
            headers: Any = find(error)
            text = headers.get("Retry-After") or headers.get("retry-after")
            if text is not None:
                return parse_retry_after(str(text))
        except Exception:  # noqa: BLE001, S112, RUF100  # The attributes are missing, of another kind, or code that raises.
            continue
    return None
