"""Settings of the example's project with a second database, whose transactions may start workflows as well."""

from __future__ import annotations

from typing import Any

from examples.django_shop.settings import *  # noqa: F403 - settings are a module of names
from examples.django_shop.settings import DATA_FOLDER
from examples.django_shop.settings import DATABASES as ONE

_SECOND: dict[str, Any] = {
    **ONE["default"],
    "NAME": DATA_FOLDER / "second.sqlite3",
    "TEST": {"NAME": DATA_FOLDER / "test-second.sqlite3"},
}
DATABASES = {**ONE, "second": _SECOND}


class OutboxInSecond:
    """A router that keeps the tables of Perdure in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Where rows are read."""
        return "second" if model._meta.app_label == "perdure" else None

    db_for_write = db_for_read
