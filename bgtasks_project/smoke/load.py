"""The load: sends real requests to the running demo, and notes every task that they fired."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

import httpx

from .ledger import Fired, Kind
from .payloads import payload
from .receivers import digest

CONCURRENT = 16
TOPICS = {
    "orders": ["ok/a", "ok/b"],
    "payments": ["ok/c", "refuse/d"],
    "builds": ["slow/e"],
    "refusals": ["refuse/f"],
    "stalls": ["stall/g"],
}
IN_TIME_SECONDS, TOO_LONG_SECONDS = 2.0, 60.0  # A report that the drain waits for, and one that it cuts short.
TWICE = "twice@example.com"  # Signs up first, and then repeatedly.
TAIL_COUNT = 12  # Tasks of each kind that run when the server is stopped.

Send = Callable[["Load"], Awaitable[None]]


class Load:
    """
    Sends requests and notes the tasks that they fired.

    A request without an answer is a surprise, except after `expect_stop()`, when the server may be gone.
    """

    def __init__(self, address: str, webhooks: str, seed: int) -> None:
        self.fired: list[Fired] = []
        self.answers: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.unanswered_count = 0
        self.is_stopping = False
        self._random = Random(seed)
        self._webhooks = webhooks
        self._expected_by_subscription: dict[int, str] = {}
        self._address_count = 0
        self._http = httpx.AsyncClient(base_url=address, timeout=60)

    async def __aenter__(self) -> Load:
        for topic, paths in TOPICS.items():
            for path in paths:
                body = {"topic": topic, "url": f"{self._webhooks}/{path}"}
                answer = await self.request("POST", "/subscriptions", 201, json=body)
                self._expected_by_subscription[answer["id"]] = "FAILED" if "refuse" in path else "SUCCESSFUL"
        self.note(await self.request("POST", "/signup", 202, json={"email": TWICE}), "mail", TWICE)
        page = await self._http.get("/")
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert found, "The start page has no form."
        self._token = found[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def send(self, count: int, advance: Callable[[], object] = lambda: None) -> None:
        """Send `count` requests of all kinds, several at once; call `advance` after each."""
        # The kinds that a small run might miss come first.
        sends = [press_thousand, *KINDS, *self._random.choices(list(KINDS), weights=list(KINDS.values()), k=count)]
        await self._send_all(iter(sends[:count]), advance)

    async def send_tail(self) -> None:
        """Fire the tasks that run when the server is stopped: some can finish in time, some cannot."""
        for _ in range(TAIL_COUNT):
            await ask_for_report(self, IN_TIME_SECONDS)
            await ask_for_report(self, TOO_LONG_SECONDS)
            await self.hook("builds")
            await self.hook("stalls")  # Arrives before it is cut short.

    async def send_until_stopped(self) -> None:
        """Send requests until the server accepts none."""

        def endless() -> Iterator[Send]:
            while not self.unanswered_count:
                yield self._random.choice([sign_up, hook_orders, press_quick])

        await self._send_all(endless(), lambda: None)

    def expect_stop(self) -> None:
        self.is_stopping = True

    async def _send_all(self, sends: Iterator[Send], advance: Callable[[], object]) -> None:
        async def work() -> None:
            for send in sends:  # Shared: each worker takes the next.
                await send(self)
                advance()

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT):
                group.create_task(work())

    async def request(self, method: str, path: str, expected: int, **more: Any) -> dict[str, Any]:
        """Return the answer, with any status, since a task that it names was fired. {} if it is not JSON."""
        endpoint = f"{method} {'/'.join(path.split('?')[0].split('/')[:2])}"
        try:
            answer = await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            if not self.is_stopping:
                self.surprises.append(f"{endpoint}: {error!r}")
            self.unanswered_count += 1
            return {}
        self.answers[f"{endpoint} {answer.status_code}"] += 1
        if answer.status_code != expected:
            self.surprises.append(f"{endpoint}: {answer.status_code}, expected {expected}: {answer.text[:200]!r}")
        is_json = answer.headers.get("Content-Type") == "application/json"
        return dict(answer.json()) if is_json else {}

    def note(self, answer: dict[str, Any], kind: Kind, key: str = "", expected: str = "SUCCESSFUL") -> None:
        if "task_id" in answer:
            self.fired.append(Fired(answer["task_id"], kind, key, expected))

    async def sign_up(self, prefix: str, expected: str) -> None:
        self._address_count += 1
        address = f"{prefix}.{self._address_count}@example.com"
        answer = await self.request("POST", "/signup", 202, json={"email": address})
        self.note(answer, "mail", address, expected)

    async def hook(self, topic: str) -> None:
        value = payload(self._random)
        answer = await self.request("POST", f"/hooks/{topic}", 202, content=json.dumps(value))
        for delivery in answer.get("deliveries", []):
            expected = self._expected_by_subscription[delivery["subscription"]]
            self.note(delivery, "webhook", digest(value), expected)

    async def press(self, button: str, expected: str = "SUCCESSFUL") -> None:
        headers = {"Accept": "application/json", "X-CSRFToken": self._token}
        answer = await self.request("POST", f"/press/{button}", 202, headers=headers)
        for task_id in answer.get("task_ids", []):
            self.note({"task_id": task_id}, "other", "", expected)

    async def notify(self, query: str, answered: int, expected: str) -> None:
        answer = await self.request("GET", f"/notify-now?{query}", answered)
        self.note(answer, "webhook", digest({"notify": "now"}), expected)


async def sign_up(load: Load) -> None:
    await load.sign_up("ada", "SUCCESSFUL")


async def sign_up_bouncing(load: Load) -> None:
    await load.sign_up("bounce", "FAILED")


async def sign_up_spam(load: Load) -> None:
    await load.sign_up("spam", "FAILED")


async def sign_up_wrongly(load: Load) -> None:
    await load.request("POST", "/signup", 400, json={"email": "nobody@"})


async def sign_up_again(load: Load) -> None:
    await load.request("POST", "/signup", 409, json={"email": TWICE})


async def hook_orders(load: Load) -> None:
    await load.hook("orders")


async def hook_payments(load: Load) -> None:
    await load.hook("payments")


async def hook_builds(load: Load) -> None:
    await load.hook("builds")


async def hook_nobody(load: Load) -> None:
    await load.hook("nobody-listens")


async def hook_wrongly(load: Load) -> None:
    await load.request("POST", "/hooks/orders", 400, content=b'{"total": NaN}')


async def hook_too_deep(load: Load) -> None:
    await load.request("POST", "/hooks/orders", 400, content="[" * 60 + "]" * 60)


async def ask_for_report(load: Load, seconds: float = 0.5) -> None:
    answer = await load.request("POST", "/reports", 202, json={"seconds": seconds})
    load.note(answer, "report", str(answer.get("report")))


async def press_quick(load: Load) -> None:
    await load.press("quick")


async def press_failing(load: Load) -> None:
    await load.press("failing", "FAILED")


async def press_thousand(load: Load) -> None:
    await load.press("thousand")


async def notify_now(load: Load) -> None:
    await load.notify("topic=orders&timeout=30", 200, "SUCCESSFUL")


async def notify_refused(load: Load) -> None:
    await load.notify("topic=refusals", 502, "FAILED")


async def notify_impatiently(load: Load) -> None:
    await load.notify("topic=builds&timeout=0.1", 202, "SUCCESSFUL")


KINDS: dict[Send, int] = {
    sign_up: 36,
    sign_up_bouncing: 4,
    sign_up_spam: 3,
    sign_up_wrongly: 2,
    sign_up_again: 2,
    hook_orders: 22,
    hook_payments: 8,
    hook_builds: 3,
    hook_nobody: 2,
    hook_wrongly: 2,
    hook_too_deep: 1,
    ask_for_report: 5,
    press_quick: 4,
    press_failing: 4,
    notify_now: 2,
    notify_refused: 2,
    notify_impatiently: 1,
}
