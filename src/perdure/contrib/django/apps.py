"""The application as Django sees it, and its system checks."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from perdure.contrib.django.settings import perdure_settings


class PerdureConfig(AppConfig):
    """`perdure.contrib.django` in INSTALLED_APPS."""

    name = "perdure.contrib.django"
    label = "perdure"
    verbose_name = "Perdure"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Registers the checks of `manage.py check`."""
        register(check_settings)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Whether PERDURE can be used; a system check."""
    try:
        perdure_settings().converter()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="perdure.E001")]
    return []
