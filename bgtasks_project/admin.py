"""The models of the demo in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from .models import Report, Subscriber, WebhookSubscription


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Takes no parameter when it runs.
    list_display = ["email", "created_at"]
    search_fields = ["email"]


@admin.register(WebhookSubscription)
class WebhookSubscriptionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Takes no parameter when it runs.
    list_display = ["topic", "url", "created_at"]
    list_filter = ["topic"]


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Takes no parameter when it runs.
    list_display = ["id", "created_at", "finished_at", "row_count"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # A report is made by its task, which POST /reports fires.
