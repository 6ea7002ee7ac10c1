"""A logger provider whose loggers workflow code may use: a replay writes no record a second time."""

from __future__ import annotations

from typing import Any

# The API of log records has no other home yet; this is where OpenTelemetry's own documentation imports it from.
from opentelemetry._logs import Logger, LoggerProvider
from opentelemetry.util.types import Attributes

from perdure.contrib.opentelemetry._replay import is_replay, outside_guards


class _ReplaySafeLogger(Logger):
    """Hands records on, unless a replay makes them."""

    def __init__(self, logger: Logger, name: str, version: str | None, schema_url: str | None) -> None:
        super().__init__(name, version=version, schema_url=schema_url)
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    # Releases differ in what the two methods take: everything is handed on as it is.

    def emit(self, *args: Any, **kwargs: Any) -> None:
        if is_replay():
            return
        with outside_guards():
            self._logger.emit(*args, **kwargs)

    def enabled(self, *args: Any, **kwargs: Any) -> bool:
        if is_replay():
            return False
        ask = getattr(self._logger, "enabled", None)
        return True if ask is None else bool(ask(*args, **kwargs))


class ReplaySafeLoggerProvider(LoggerProvider):
    """Makes loggers whose records, when workflow code makes them, are written on its first execution only.

    What queries and update validators write is kept, whenever they run. Make it the process's provider
    (`opentelemetry._logs.set_logger_provider`) for libraries that write records from inside workflow code.
    """

    def __init__(self, logger_provider: LoggerProvider) -> None:
        """Wrap a provider.

        Args:
            logger_provider: Makes the loggers that do the writing.
        """
        self._logger_provider = logger_provider

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped provider has besides, such as `shutdown` and `force_flush`."""
        return getattr(self._logger_provider, name)

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Logger:
        """Return a logger for a module or library."""
        with outside_guards():
            logger = self._logger_provider.get_logger(name, version, schema_url, attributes)
        return _ReplaySafeLogger(logger, name, version, schema_url)
