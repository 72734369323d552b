"""An invented shop for `benchmarks.seed_rows`: its task functions, their failures, and the requests that fire them."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

DAYS = 14  # The length of the past.


@dataclass(frozen=True)
class Function:
    """
    A task function.

    Args:
        weight: the number of its tasks, relative to those of the other functions.
        median: the median duration of an attempt, in seconds.
        spread: the sigma of the logarithm of the duration.
        parameter: the name of its keyword argument.
    """

    name: str
    weight: float
    median: float
    spread: float
    parameter: str
    queue: str = "default"
    max_attempts: int = 1
    is_keyed: bool = False
    stuck_after: float | None = None

    def take(self, rng: random.Random) -> float:
        """Return the random duration of an attempt, in seconds."""
        return rng.lognormvariate(math.log(self.median), self.spread)

    @property
    def is_long(self) -> bool:
        """Whether a task of it is likely to run when its process ends."""
        return self.median >= 4


FUNCTIONS = (
    Function("shop.orders.tasks.send_confirmation", 18, 0.18, 0.4, "order_id", "mails", 5),
    Function("shop.accounts.tasks.send_welcome", 5, 0.25, 0.4, "user_id", "mails", 5, is_keyed=True),
    Function("shop.webhooks.tasks.deliver", 9, 0.35, 0.8, "webhook_id", max_attempts=8),
    Function("shop.reports.tasks.export", 0.2, 45, 0.6, "report_id", "reports", stuck_after=600),
    Function("shop.stats.tasks.count_visit", 15, 0.004, 0.5, "page_id"),
    Function("shop.orders.tasks.charge_card", 10, 0.9, 0.5, "order_id", is_keyed=True),
    Function("shop.imports.tasks.import_prices", 0.2, 25, 0.5, "supplier_id", "reports", stuck_after=300),
    Function("shop.orders.tasks.reserve_stock", 12, 0.03, 0.5, "order_id", max_attempts=3),
    Function("shop.orders.tasks.release_stock", 3, 0.02, 0.5, "order_id", max_attempts=3),
    Function("shop.mails.tasks.send_newsletter", 9, 0.2, 0.3, "user_id", "mails", 3),
    Function("shop.mails.tasks.sync_bounces", 0.5, 12, 0.4, "day"),
    Function("shop.search.tasks.index_product", 16, 0.06, 0.6, "product_id", is_keyed=True),
    Function("shop.search.tasks.rebuild_index", 0.05, 180, 0.3, "shard", "reports", stuck_after=900),
    Function("shop.images.tasks.make_thumbnail", 8, 0.7, 0.5, "image_id"),
    Function("shop.images.tasks.scan_upload", 2, 2.5, 0.7, "image_id", max_attempts=3),
    Function("shop.webhooks.tasks.retry_failed", 0.5, 4, 0.6, "webhook_id"),
    Function("shop.reports.tasks.daily_sales", 0.05, 90, 0.3, "day", "reports", stuck_after=600),
    Function("shop.payments.tasks.refund", 0.7, 1.2, 0.5, "order_id", is_keyed=True),
    Function("shop.payments.tasks.reconcile", 0.1, 60, 0.4, "day", "reports"),
    Function("shop.accounts.tasks.delete_account", 0.2, 3, 0.5, "user_id", is_keyed=True),
)
MAX_DECLARED = 8  # Names of the project's own functions among them.


def name_after(declared: Sequence[str]) -> list[Function]:
    """Return the functions, the first of them under declared names of the project."""
    named = dict(zip(FUNCTIONS, declared[:MAX_DECLARED], strict=False))
    return [replace(function, name=named.get(function, function.name)) for function in FUNCTIONS]


@dataclass(frozen=True)
class Failure:
    """A failure of a function, which occurs from `since` to `until`, both as parts of all days."""

    function: Function
    type: str
    message: str  # With `{}` for a number.
    traceback: str
    fingerprint: str
    weight: float
    since: float
    until: float


_KINDS = (
    ("httpx.ConnectTimeout", "", "response = await client.post(url, json=payload)", "httpx/_transports/default.py"),
    (
        "httpx.HTTPStatusError",
        "Server error '503 Service Unavailable' for url 'https://api.example.com/v2/items/{}'",
        "response.raise_for_status()",
        "httpx/_models.py",
    ),
    ("KeyError", "'sku-{}'", "price = prices[sku]", ""),
    ("builtins.ValueError", "'n/a {}' is no number", "total += Decimal(text)", ""),
    ("TimeoutError", "", "async with asyncio.timeout(30):", ""),
    (
        "django.db.utils.IntegrityError",
        'duplicate key value violates unique constraint "shop_item_number"\nDETAIL:  Key (number)=({}) already exists.',
        "await item.asave()",
        "django/db/backends/utils.py",
    ),
    ("shop.payments.Declined", "The bank declines payment {}: insufficient funds.", "raise Declined(answer)", ""),
    (
        "smtplib.SMTPRecipientsRefused",
        "{{'customer{}@example.com': (550, b'No such user here')}}",
        "await sync_to_async(message.send)()",
        "smtplib.py",
    ),
)


def make_failures(functions: Sequence[Function], rng: random.Random, count: int = 30) -> list[Failure]:
    return [_make_failure(functions[number % len(functions)], number, rng) for number in range(count)]


def _make_failure(function: Function, number: int, rng: random.Random) -> Failure:
    kind, message, line, library = _KINDS[(number * 7 + number // len(_KINDS)) % len(_KINDS)]
    module, _, called = function.name.rpartition(".")
    place = called if number % 3 else f"_{called}_one"
    path = f"/srv/shop/{module.replace('.', '/')}.py"
    at = 20 + number * 3
    text = f'Traceback (most recent call last):\n  File "{path}", line {at}, in {called}\n    {line}\n'
    if place != called:
        text = text.replace(line, f"await {place}({function.parameter})")
        text += f'  File "{path}", line {at + 30}, in {place}\n    {line}\n'
    if library:
        path = f"/srv/shop/.venv/lib/python3.13/site-packages/{library}"
        text += f'  File "{path}", line {100 + number}, in send\n    raise error\n'
    kind = kind.removeprefix("builtins.")
    fingerprint = hashlib.sha256(f"{kind} {module}.{place}".encode()).hexdigest()[:16]
    begins = rng.choice([0.0, 0.0, rng.random() * 0.9])
    ends = 1.0 if rng.random() < 0.6 else min(begins + rng.uniform(0.1, 0.5), 1.0)
    return Failure(function, kind, message, text, fingerprint, rng.paretovariate(1.2), begins, ends)


PATHS = ("/checkout/", "/cart/", "/account/", "/api/v2/orders", "/api/v2/products/17", "/upload", "/signup")
MAX_USER = 5000


def fired_by(rng: random.Random) -> str | None:
    """Return a request as JSON; None for the tasks that no request fires."""
    if rng.random() < 0.2:
        return None
    request: dict[str, object] = {"method": "POST", "path": rng.choice(PATHS), "request_id": f"{rng.getrandbits(48):x}"}
    if rng.random() < 0.8:
        request["user_id"] = rng.randrange(1, MAX_USER)
    return json.dumps(request)
