from django.contrib import admin
from django.urls import path

from . import pages, views

urlpatterns = [
    path("", pages.start, name="start"),
    path("live", pages.live, name="live"),
    path("press/<slug:button>", pages.press, name="press"),
    path("signup", views.signup, name="signup"),
    path("subscriptions", views.subscribe, name="subscriptions"),
    path("hooks/<slug:topic>", views.receive_hook, name="hook"),
    path("reports", views.request_report, name="reports"),
    path("notify-now", views.notify_now, name="notify-now"),
    path("admin/", admin.site.urls),
]
