"""JSON as in real webhooks: the shapes of GitHub, Stripe and Shopify, and values that break naive storage."""

from __future__ import annotations

from random import Random
from typing import Any

WORDS = [
    "Straße",
    "naïve",
    "Ελλάδα",
    "Привет",
    "日本語",
    "한국어",
    "שלום",
    "مرحبا",
    "e\u0301",
    "👩🏽‍💻",
    "\u2028",
    '"\\/\b\t',
]
EDGES: list[Any] = [
    None, True, 0, -1, "", [], {}, [[]], {"": None}, 2**53 + 1, 10**40, -(2**63), 0.1 + 0.2, 1e-7, -0.0,
    1.7976931348623157e308, "\x7f", "null", "'; DROP TABLE bgtasks_backgroundtask; --", "%s %(name)s {0} $1 ?",
]  # fmt: skip


def payload(random: Random) -> Any:
    return random.choice([push, charge, order, edges, nested, large])(random)


def text(random: Random, words: int = 5) -> str:
    return " ".join(random.choices(WORDS, k=words))


def push(random: Random) -> Any:
    """A push to GitHub."""
    commits = [
        {
            "id": f"{random.getrandbits(160):040x}",
            "message": f"{text(random)}\n\nCo-authored-by: {text(random, 2)} <ada@example.com>",
            "timestamp": "2026-03-01T09:30:00+01:00",
            "distinct": random.random() < 0.9,
            "author": {"name": text(random, 2), "email": "ada@example.com", "username": None},
            "added": [f"src/{text(random, 1)}.py"],
            "removed": [],
        }
        for _ in range(random.randint(0, 20))
    ]
    return {"ref": "refs/heads/main", "before": "0" * 40, "forced": False, "base_ref": None, "commits": commits}


def charge(random: Random) -> Any:
    """An event from Stripe."""
    return {
        "id": f"evt_{random.getrandbits(96):024x}",
        "object": "event",
        "created": random.randint(1_700_000_000, 1_800_000_000),
        "livemode": False,
        "type": random.choice(["charge.succeeded", "charge.refunded", "invoice.payment_failed"]),
        "data": {
            "object": {"amount": random.randint(0, 10**12), "currency": "eur", "metadata": {}, "description": None},
            "previous_attributes": {"fee": random.random() * 10},
        },
    }


def order(random: Random) -> Any:
    """An order from Shopify: identifiers beyond 2⁵³, prices as text."""
    lines = [
        {
            "id": random.randint(10**15, 10**19),
            "title": text(random),
            "price": f"{random.random() * 1000:.2f}",
            "grams": random.randint(0, 5000),
            "tax_lines": [{"rate": 0.19, "price": "3.80"}] * random.randint(0, 2),
        }
        for _ in range(random.randint(1, 12))
    ]
    return {"id": random.randint(10**15, 10**19), "note": None, "line_items": lines, "customer": {"name": text(random)}}


def edges(random: Random) -> Any:
    return random.choice([*EDGES, EDGES, {f"key {number}": value for number, value in enumerate(EDGES)}])


def nested(random: Random) -> Any:
    value: Any = text(random)
    for depth in range(random.randint(10, 28)):  # bgtasks takes 30 levels.
        value = [value] if depth % 2 else {text(random, 1): value}
    return value


def large(random: Random) -> Any:
    """About 100 kB."""
    return {"rows": [{"number": number, "text": "x" * 80, "value": random.random()} for number in range(760)]}
