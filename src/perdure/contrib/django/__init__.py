"""Perdure for Django: workflows that begin with the transaction that needs them, activities that use the ORM.

Add `perdure.contrib.django` to INSTALLED_APPS and set PERDURE (see `settings`). Needs the extra `perdure[django]`.
What may live here: the names people import in views. Models, commands and the admin are in their own modules, because
Django loads them at its own time.
"""

from __future__ import annotations

try:
    import django as _django  # noqa: F401  # only asked for, so that the advice below comes first
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.django needs Django: pip install 'perdure[django]'", name=error.name
    ) from error

from perdure.contrib.django.bridge import connected_client, run
from perdure.contrib.django.calls import signal_workflow_on_commit, start_workflow_on_commit

__all__ = ["connected_client", "run", "signal_workflow_on_commit", "start_workflow_on_commit"]
