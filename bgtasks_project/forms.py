"""The forms that validate requests to the endpoints."""

from __future__ import annotations

from django import forms
from django.core.validators import URLValidator


class SignupForm(forms.Form):
    email = forms.EmailField(max_length=254)

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class SubscriptionForm(forms.Form):
    topic = forms.SlugField()
    # The demo listens on this machine only. A public service would also refuse URLs that lead into its own network.
    url = forms.CharField(max_length=500, validators=[URLValidator(schemes=["http", "https"])])


class ReportForm(forms.Form):
    seconds = forms.FloatField(min_value=0, max_value=120, required=False)


class NotifyForm(forms.Form):
    topic = forms.SlugField(required=False)
    timeout = forms.FloatField(min_value=0.05, max_value=60, required=False)
