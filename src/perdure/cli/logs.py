"""Log output of the command line: one line per record on stderr, as text, JSON or for people at a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

NEVER: Final = logging.CRITICAL + 10
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "never": NEVER,
}
_NAMES: Final = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}


def set_up(level: str, log_format: str) -> None:
    """Sends everything logged in this process to stderr.

    Args:
        level: least level, a key of `LEVELS`.
        log_format: `text`, `json` or `pretty`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
    return f"{whole}.{int(record.msecs):03d}"


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


class _Text(logging.Formatter):
    """`time=... level=... msg="..." logger=...`"""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        line = f"time={_time(record)} level={_level(record)} msg={json.dumps(record.getMessage())}"
        line += f" logger={record.name}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        fields = {
            "time": _time(record),
            "level": _level(record),
            "msg": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["stack"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Pretty(logging.Formatter):
    """`12:00:00.000 WARN  message`"""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        line = f"{_time(record)[11:]} {_level(record):5} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


_FORMATTERS: Final = {"text": _Text, "json": _Json, "pretty": _Pretty}
