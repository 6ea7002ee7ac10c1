"""Log lines: one per record in each format, nothing below the level."""

from __future__ import annotations

import json
import logging

import pytest

from perdure.cli import logs


def _log_error() -> None:
    try:
        raise ValueError("bad value")
    except ValueError:
        logging.getLogger("perdure.test").exception('it "failed"')


def test_text_lines_are_key_value_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warn", "text")
    logging.getLogger("perdure.test").warning('say "hi"\nagain')
    (line,) = capsys.readouterr().err.splitlines()
    assert " level=WARN " in line
    assert r'msg="say \"hi\"\nagain"' in line
    assert line.endswith("logger=perdure.test")


def test_json_lines_are_objects_with_the_traceback_inside(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    _log_error()
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["msg"], entry["logger"]) == ("ERROR", 'it "failed"', "perdure.test")
    assert "ValueError: bad value" in entry["stack"]


@pytest.mark.parametrize("log_format", ["text", "pretty"])
def test_formats_for_people_show_the_traceback_below(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", log_format)
    _log_error()
    lines = capsys.readouterr().err.splitlines()
    assert "failed" in lines[0]
    assert lines[-1] == "ValueError: bad value"


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("fatal", 1), ("never", 0)],
)
def test_nothing_below_the_level_is_shown(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(level, "pretty")
    logger = logging.getLogger("perdure.test")
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(number, "x")
    assert len(capsys.readouterr().err.splitlines()) == shown
