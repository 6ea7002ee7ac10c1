"""The setting PERDURE: what may stand in it, and what it is by default. Nothing here opens a connection."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from perdure.converter import DataConverter


@dataclass(frozen=True)
class PerdureSettings:
    """The values of `settings.PERDURE`, each by its name in upper case.

    Attributes:
        address: Of the server, or a database that this process embeds the engine on (one process at a time).
        namespace: Of all workflows.
        task_queue: Of workflows and activities, where a call names no other.
        api_key: Sent as bearer token; empty for none.
        ui_url: Where the web UI is; the admin links to it. Empty for no links.
        data_converter: Dotted path of a `DataConverter`; empty for the default one.
        database: The file that `manage.py perdure_server` keeps everything in.
        threads: Activities that are `def` functions and run at the same time in one worker.
        deliver_timeout_s: For how long a commit may wait for the server, seconds; later, the sweep sends the request.
        sweep_interval_s: How often a worker looks for requests that were not sent, seconds.
        sweep_after_s: How old such a request must be, seconds: the process that wrote it sends it itself.
    """

    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    task_queue: str = "django"
    api_key: str = ""
    ui_url: str = ""
    data_converter: str = ""
    database: str = "perdure.db"
    threads: int = 10
    deliver_timeout_s: float = 2.0
    sweep_interval_s: float = 5.0
    sweep_after_s: float = 5.0

    def converter(self) -> DataConverter:
        """The data converter.

        Raises:
            ImproperlyConfigured: There is none under that name.
        """
        if not self.data_converter:
            return DataConverter.default
        try:
            found = import_string(self.data_converter)
        except ImportError as error:
            raise ImproperlyConfigured(f"PERDURE['DATA_CONVERTER']: {error}") from error
        if not isinstance(found, DataConverter):
            raise ImproperlyConfigured(
                f"PERDURE['DATA_CONVERTER'] names a {type(found).__name__}; name a perdure.converter.DataConverter."
            )
        return found


def perdure_settings() -> PerdureSettings:
    """Read the setting, as it is now.

    Raises:
        ImproperlyConfigured: It has a name or a value that it cannot have; the message says which.
    """
    given: Any = getattr(settings, "PERDURE", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured("PERDURE must be a dict, such as {'ADDRESS': '127.0.0.1:7233'}.")
    known = {field.name.upper(): field for field in fields(PerdureSettings)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        field = known.get(name)
        if field is None:
            raise ImproperlyConfigured(f"PERDURE has no {name!r}; it may have {', '.join(sorted(known))}.")
        kind = type(field.default)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ImproperlyConfigured(f"PERDURE[{name!r}] must be a {kind.__name__}, not {value!r}.")
        values[field.name] = value
    return PerdureSettings(**values)
