"""The logger of activity code: each message says which activity wrote it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from perdure.activity._context import current_context

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class LoggerAdapter(_Adapter):
    """Adds details about the running activity to what it logs.

    Attributes:
        activity_info_on_message: Append a dictionary of details to each message. Default True.
        activity_info_on_extra: Put the same dictionary into `extra` as `temporal_activity`. Default True.
        full_activity_info_on_extra: Put the whole `Info` into `extra` as `activity_info`. Default False.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None) -> None:
        """Wrap a logger."""
        super().__init__(logger, extra or {})
        self.activity_info_on_message = True
        self.activity_info_on_extra = True
        self.full_activity_info_on_extra = False

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the details; outside an activity, nothing."""
        context = current_context.get(None)
        if context is None:
            return msg, kwargs
        if self.activity_info_on_message:
            msg = f"{msg} ({context.logger_details})"
        if self.activity_info_on_extra or self.full_activity_info_on_extra:
            # The caller's dictionary may be used again, so it is not changed.
            extra = dict(kwargs.get("extra") or {})
            if self.activity_info_on_extra:
                extra["temporal_activity"] = context.logger_details
            if self.full_activity_info_on_extra:
                extra["activity_info"] = context.info()
            kwargs["extra"] = extra
        return msg, kwargs

    @property
    def base_logger(self) -> logging.Logger:
        """The logger inside, for adding handlers and formatters."""
        return self.logger


logger = LoggerAdapter(logging.getLogger("perdure.activity"), None)
"""Logger for activity code; details of the running activity are added to each message."""
