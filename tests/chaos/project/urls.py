"""The addresses of the views."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("fire/<str:mode>", views.fire),
    path("transaction/<str:end>", views.fire_in_transaction),
    path("cancel/<uuid:task_id>", views.cancel),
    path("state", views.state),
    path("fill", views.fill_disk),
]
