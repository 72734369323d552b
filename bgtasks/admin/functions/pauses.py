"""Pauses: what waits because somebody wants it to. Adding one pauses on all processes, deleting it resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import models, router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...conf import get_settings
from ...definition import declared
from ...models import BackgroundTask, Pause
from ..shared.base import ModelAdmin, title_of
from ..shared.formats import write_moment

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Pause]
else:
    ModelForm = forms.ModelForm


class NameInput(forms.TextInput):
    """A field that offers the names that this process knows; another process may know more."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        known = sorted({*declared, *(task.options.queue for task in declared.values()), *get_settings().queues})
        field = super().render(name, value, {**(attrs or {}), "list": "bgtasks-names"}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((each,) for each in known))
        return format_html('{}<datalist id="bgtasks-names">{}</datalist>', field, options)


class PauseForm(ModelForm):
    class Meta:
        model = Pause
        fields = ["kind", "name"]
        help_texts = {"name": gettext_lazy("What runs goes on. What waits, or is fired, waits until it is resumed.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "name" in self.fields:  # Whoever may only view has none.
            # Here, since the admin gives each field of a form a widget of its own.
            self.fields["name"].widget = NameInput(attrs={"class": "vTextField", "autocomplete": "off"})

    def clean(self) -> dict[str, Any] | None:
        values = super().clean()
        name = self.cleaned_data.get("name", "")
        if self.cleaned_data.get("kind") == Pause.Kind.FUNCTION and name and name not in declared:
            self.add_error("name", _("No task function here is called so: choose one that is offered."))
        return values


@admin.register(Pause)
class PauseAdmin(ModelAdmin):
    form = PauseForm
    add_form_template = change_form_template = "admin/change_form.html"  # Not ours, of rows that nobody changes.
    list_display = ["name", "kind", "since", "paused_by"]
    ordering = ["kind", "name"]
    actions = ["delete_selected"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        note = _("Nothing is paused. What is paused waits until it is resumed; what runs goes on.")
        context = {"title": title_of(self.opts), "empty_note": note}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(router.db_for_write(BackgroundTask))

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False  # There is nothing to change: it is paused, or not.

    def save_model(self, request: HttpRequest, obj: Pause, form: Any, change: bool) -> None:
        obj.paused_by = str(request.user)[:200]
        obj.save(using=router.db_for_write(BackgroundTask))

    @admin.display(description=gettext_lazy("since"), ordering="paused_at")
    def since(self, pause: Pause) -> str:
        return write_moment(pause.paused_at)

    # In place of Django's own of that name, which asks first, and does not say what it means here.
    @admin.action(permissions=["delete"], description=gettext_lazy("Resume selected"))
    def delete_selected(self, request: HttpRequest, pauses: QuerySet[Pause]) -> None:
        self.log_deletions(request, pauses)
        count = pauses.delete()[0]
        told = ngettext("%(count)s pause is over.", "%(count)s pauses are over.", count) % {"count": count}
        self.message_user(request, told, messages.SUCCESS)
