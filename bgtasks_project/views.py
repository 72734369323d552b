"""The endpoints of the service. Each stores, fires and answers; only `notify_now` waits for its task."""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET, require_POST

import bgtasks

from .forms import NotifyForm, ReportForm, SignupForm, SubscriptionForm
from .http import Refused, json_endpoint, read_json, validated
from .models import Report, Subscriber, WebhookSubscription
from .tasks import deliver, make_report, send_welcome

NOTIFY_SECONDS = 5.0


@require_POST
@json_endpoint
async def signup(request: HttpRequest) -> JsonResponse:
    """`{"email": …}`: store a subscriber and mail a welcome."""
    email = validated(SignupForm, read_json(request))["email"]
    try:
        subscriber = await Subscriber.objects.acreate(email=email)
    except IntegrityError as error:
        raise Refused(409, f"{email} is signed up already.") from error
    try:
        # `afire` returns when the task is recorded, so that each 202 has its row even if the process dies at once.
        handle = await bgtasks.afire(send_welcome, subscriber.pk)
    except (bgtasks.Draining, bgtasks.NotRecorded, bgtasks.Overloaded):
        await subscriber.adelete()  # Else the next sign-up would be a 409, without a mail.
        raise
    return JsonResponse({"task_id": str(handle.id)}, status=202)


@require_POST
@json_endpoint
async def subscribe(request: HttpRequest) -> JsonResponse:
    """`{"topic": …, "url": …}`: register a URL for a topic. A repeated request changes nothing."""
    wanted = validated(SubscriptionForm, read_json(request))
    subscription, is_new = await WebhookSubscription.objects.aget_or_create(**wanted)
    return JsonResponse({"id": subscription.pk, **wanted}, status=201 if is_new else 200)


@require_POST
@json_endpoint
async def receive_hook(request: HttpRequest, topic: str) -> JsonResponse:
    """Any JSON: deliver it to each URL that is subscribed to the topic."""
    payload = read_json(request)
    subscriptions = [subscription async for subscription in WebhookSubscription.objects.filter(topic=topic)]
    try:
        handles = [bgtasks.fire(deliver, subscription.url, topic, payload) for subscription in subscriptions]
    except ValueError as error:  # Some databases cannot store it: more than 30 levels, a NUL character.
        raise Refused(400, f"This JSON cannot be delivered. {error}") from error
    deliveries = [
        {"subscription": subscription.pk, "task_id": str(handle.id)}
        for subscription, handle in zip(subscriptions, handles, strict=True)
    ]
    return JsonResponse({"deliveries": deliveries}, status=202)


@require_POST
@json_endpoint
async def request_report(request: HttpRequest) -> JsonResponse:
    """`{"seconds": …}` or nothing: fire a report that takes that long."""
    seconds = validated(ReportForm, read_json(request) if request.body else {})["seconds"]
    report = await Report.objects.acreate()
    handle = bgtasks.fire(make_report, report.pk, settings.DEMO_REPORT_SECONDS if seconds is None else seconds)
    return JsonResponse({"task_id": str(handle.id), "report": report.pk}, status=202)


@require_GET
@json_endpoint
async def notify_now(request: HttpRequest) -> JsonResponse:
    """
    Deliver one webhook and await its outcome, which the answer contains.

    `?topic=` chooses the topic of the subscription (by default the newest of all), `?timeout=` the seconds to wait.
    """
    wanted = validated(NotifyForm, request.GET.dict())
    subscriptions = WebhookSubscription.objects.filter(**({"topic": wanted["topic"]} if wanted["topic"] else {}))
    subscription = await subscriptions.order_by("-id").afirst()
    if subscription is None:
        raise Refused(
            404, "There is no subscription. Register a URL first: POST /subscriptions with a topic and a url."
        )
    handle = bgtasks.fire(deliver, subscription.url, subscription.topic, {"notify": "now"})
    answer = {"task_id": str(handle.id), "url": subscription.url}
    try:
        # If the client disconnects, the wait ends, not the task.
        status = await handle.wait(timeout=wanted["timeout"] or NOTIFY_SECONDS)
    except TimeoutError:
        return JsonResponse({**answer, "waiting": "The delivery takes longer; it goes on."}, status=202)
    except bgtasks.TaskFailed as error:
        raise Refused(502, str(error), **answer) from error
    except (bgtasks.TaskCancelled, bgtasks.TaskInterrupted) as error:
        raise Refused(503, str(error), **answer) from error
    return JsonResponse({**answer, "delivered": status})
