"""The logger for workflow code: says which workflow a line is from, and is silent during replay."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from perdure.workflow._info import Info, current_update_info
from perdure.workflow._runtime import _Runtime
from perdure.workflow._unsafe import unsafe


def _build_log_context(
    workflow_details: Mapping[str, Any] | None,
    update_details: Mapping[str, Any] | None = None,
    *,
    workflow_info_on_message: bool = True,
    workflow_info_on_extra: bool = True,
    full_workflow_info: Info | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to append to a message, and what to merge into the extra values of its record."""
    details = {**(workflow_details or {}), **(update_details or {})}
    extra: dict[str, Any] = {}
    if workflow_info_on_extra and workflow_details is not None:
        extra["temporal_workflow"] = dict(workflow_details)
    if workflow_info_on_extra and update_details is not None:
        extra.setdefault("temporal_workflow", {}).update(update_details)
    if full_workflow_info is not None:
        extra["workflow_info"] = full_workflow_info
    return details if workflow_info_on_message else {}, extra


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds the running workflow to every line.

    Attributes:
        workflow_info_on_message: Append some of it to the message. True by default.
        workflow_info_on_extra: Put some of it into the record as `temporal_workflow`. True by default.
        full_workflow_info_on_extra: Put all of it into the record as `workflow_info`. False by default.
        log_during_replay: Log while history is replayed too. False by default.
        disable_sandbox: Lift the guards of workflow code while a handler works.

    Extra values of a logging call win over these.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None) -> None:
        """Wraps a logger."""
        super().__init__(logger, extra or {})
        self.workflow_info_on_message = True
        self.workflow_info_on_extra = True
        self.full_workflow_info_on_extra = False
        self.log_during_replay = False
        self.disable_sandbox = False

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Adds the details to the message and to the extra values."""
        if not (
            self.workflow_info_on_message or self.workflow_info_on_extra or self.full_workflow_info_on_extra
        ):
            return msg, kwargs
        runtime = _Runtime.maybe_current()
        update = current_update_info()
        details, extra = _build_log_context(
            runtime.logger_details if runtime else None,
            update._logger_details if update else None,
            workflow_info_on_message=self.workflow_info_on_message,
            workflow_info_on_extra=self.workflow_info_on_extra,
            full_workflow_info=runtime.info() if runtime and self.full_workflow_info_on_extra else None,
        )
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return (f"{msg} ({details})" if details else msg), kwargs

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Logs, with the guards lifted if so set."""
        # One frame more than the standard adapter has, so that the line is the caller's.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        if self.disable_sandbox:
            with unsafe.sandbox_unrestricted():
                super().log(level, msg, *args, **kwargs)
        else:
            super().log(level, msg, *args, **kwargs)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """False during replay unless `log_during_replay`."""
        if not self.log_during_replay and unsafe.is_replaying_history_events():
            return False
        return super().isEnabledFor(level)

    @property
    def base_logger(self) -> logging.Logger:
        """The wrapped logger, to add handlers and formatters to."""
        return self.logger

    def unsafe_disable_sandbox(self, value: bool = True) -> None:
        """Lifts the guards of workflow code while a handler works, or puts them back."""
        self.disable_sandbox = value


logger = LoggerAdapter(logging.getLogger("perdure.workflow"), None)
"""Says which workflow a line is from, and is silent during replay."""
