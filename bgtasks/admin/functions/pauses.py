"""The admin of pauses: adding one pauses a function or a queue in all processes, deleting it resumes."""

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
    """A text field that suggests the names known to this process. Other processes may know more."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        known = sorted({*declared, *(task.options.queue for task in declared.values()), *get_settings().queues})
        field = super().render(name, value, {**(attrs or {}), "list": "bgtasks-names"}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((each,) for each in known))
        return format_html('{}<datalist id="bgtasks-names">{}</datalist>', field, options)


class PauseForm(ModelForm):
    class Meta:
        model = Pause
        fields = ["kind", "name"]
        help_texts = {"name": gettext_lazy("Running tasks go on. Waiting and new tasks wait until it is resumed.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "name" in self.fields:  # A user who may only view has no such field.
            # Not in `Meta.widgets`, since the admin sets the widget of each field.
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
    add_form_template = change_form_template = "admin/change_form.html"  # Not ours, which is read-only.
    list_display = ["name", "kind", "since", "paused_by"]
    ordering = ["kind", "name"]
    actions = ["delete_selected"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        note = _("Nothing is paused. Paused tasks wait until they are resumed; running tasks go on.")
        context = {"title": title_of(self.opts), "empty_note": note}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(router.db_for_write(BackgroundTask))

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False  # A pause exists or not.

    def save_model(self, request: HttpRequest, obj: Pause, form: Any, change: bool) -> None:
        obj.paused_by = str(request.user)[:200]
        obj.save(using=router.db_for_write(BackgroundTask))

    @admin.display(description=gettext_lazy("since"), ordering="paused_at")
    def since(self, pause: Pause) -> str:
        return write_moment(pause.paused_at)

    # In place of Django's action of this name, which asks for confirmation in terms of deletion.
    @admin.action(permissions=["delete"], description=gettext_lazy("Resume selected"))
    def delete_selected(self, request: HttpRequest, pauses: QuerySet[Pause]) -> None:
        self.log_deletions(request, pauses)
        count = pauses.delete()[0]
        text = ngettext("%(count)s pause is over.", "%(count)s pauses are over.", count) % {"count": count}
        self.message_user(request, text, messages.SUCCESS)
