from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("fire/<str:name>", views.fire),
    path("fire-sync/<str:name>", views.fire_sync),
    path("result/<str:task_id>", views.result),
    path("result-sync/<str:task_id>", views.result_sync),
    path("coroutine", views.fire_coroutine),
    path("eager", views.eager),
    path("state", views.state),
    path("await/<uuid:task_id>", views.wait),
    path("collect", views.collect),
]
