from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpResponse, JsonResponse

import bgtasks

from .tasks import greet, pack, send_receipt


def order(request):
    with transaction.atomic():
        made = Group.objects.create(name=request.GET["name"])
        bgtasks.fire(send_receipt, made.pk)
    bgtasks.fire(pack, made.pk)
    return JsonResponse({"id": made.pk})


async def aorder(request):
    made = await Group.objects.acreate(name=request.GET["name"])
    bgtasks.fire(send_receipt, made.pk)
    await bgtasks.afire(greet(request.GET["name"]), name="greet")
    return JsonResponse({"id": made.pk})


def refuse(request):
    try:
        with transaction.atomic():
            bgtasks.fire(send_receipt, Group.objects.create(name="refused").pk)
            raise ValueError("no")
    except ValueError:
        return HttpResponse(status=400)
