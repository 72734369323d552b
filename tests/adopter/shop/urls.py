from django.urls import path

from . import views

urlpatterns = [
    path("order", views.order),
    path("aorder", views.aorder),
    path("refuse", views.refuse),
]
