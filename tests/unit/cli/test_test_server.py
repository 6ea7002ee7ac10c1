"""`perdure-test-server`: the command line that official SDKs use for their test server, turned into ours."""

from __future__ import annotations

import sys

import pytest

from perdure.cli import run_server, test_server
from perdure.cli.run_server import DevServer


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[DevServer]]:
    asked: list[DevServer] = []

    def instead(server: DevServer) -> int:
        asked.append(server)
        return 0

    monkeypatch.setattr(run_server, "run_dev_server", instead)
    monkeypatch.setattr(sys, "argv", ["perdure-test-server", *arguments])
    with pytest.raises(SystemExit) as caught:
        test_server.main()
    return int(caught.value.code or 0), asked


@pytest.mark.parametrize("more", [(), ("--enable-time-skipping",)])
def test_a_port_is_enough(monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]) -> None:
    """As the SDKs call it: it listens there, on loopback, and skips time."""
    code, (asked,) = _run(monkeypatch, "7999", *more)
    assert code == 0
    assert (asked.config.host, asked.config.port) == ("127.0.0.1", 7999)
    assert asked.config.time_skipping
    assert asked.ui is None


def test_extra_arguments_are_flags_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `test_server_extra_args` may hold."""
    _, (asked,) = _run(monkeypatch, "7999", "--search-attribute", "Shade=Keyword", "--log-level", "error")
    assert asked.config.search_attributes == {"Shade": 2}
    assert asked.log_level == "error"


@pytest.mark.parametrize("arguments", [(), ("seven",), ("--port", "7999")])
def test_without_a_port_the_usage_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """On stderr, with the exit code of wrong usage."""
    code, asked = _run(monkeypatch, *arguments)
    assert (code, asked) == (2, [])
    assert "perdure-test-server PORT" in capsys.readouterr().err


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, and no error."""
    code, _ = _run(monkeypatch, "--help")
    assert code == 0
    assert "perdure-test-server PORT" in capsys.readouterr().out
