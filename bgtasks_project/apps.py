from django.apps import AppConfig


class DemoConfig(AppConfig):
    name = "bgtasks_project"
    verbose_name = "Demo"
