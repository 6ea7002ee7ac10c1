"""Flags of `perdure server start-dev`: what each asks for, what is refused, and what is said about the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from perdure import __version__
from perdure.cli import run_server
from perdure.cli.root import root
from perdure.cli.run_server import DevServer

USAGE = 2


class Invocation:
    """One command line, with the server it would have run."""

    def __init__(self, result: Result, asked: list[DevServer]) -> None:
        self.result = result
        self.asked = asked


@pytest.fixture
def start_dev(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `server start-dev` up to the point where the server would start."""
    return Invoke(monkeypatch)


class Invoke:
    """Callable: flags to an `Invocation`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *flags: str, before: Sequence[str] = ()) -> Invocation:
        """Runs the command line."""
        asked: list[DevServer] = []

        def instead(server: DevServer) -> int:
            asked.append(server)
            return 0

        self._monkeypatch.setattr(run_server, "run_dev_server", instead)
        result = CliRunner().invoke(root, [*before, "server", "start-dev", *flags])
        return Invocation(result, asked)

    def server(self, *flags: str, before: Sequence[str] = ()) -> DevServer:
        """The server a correct command line asks for."""
        invocation = self(*flags, before=before)
        assert invocation.result.exit_code == 0, invocation.result.output
        (asked,) = invocation.asked
        return asked


def test_defaults_are_those_of_the_official_command(start_dev: Invoke) -> None:
    asked = start_dev.server()
    assert (asked.config.host, asked.config.port) == ("localhost", 7233)
    assert asked.db_filename is None
    assert asked.config.namespaces == ()
    assert not asked.config.time_skipping
    assert (asked.log_level, asked.log_format) == ("warn", "text")
    assert asked.notices == []
    assert asked.ui is not None
    assert (asked.ui.host, asked.ui.port, asked.ui.namespace) == ("localhost", 8233, "default")
    assert not asked.ui.is_port_chosen


def test_every_flag_arrives(start_dev: Invoke) -> None:
    asked = start_dev.server(
        *("--ip", "0.0.0.0", "-p", "7000", "-f", "x.db", "-n", "a", "--namespace", "b"),
        *("--search-attribute", "Colour=Keyword", "--search-attribute", "Tags=keywordlist"),
        *("--dynamic-config-value", "limit.blobSize.error=10", "--dynamic-config-value", 'x.y="z"'),
        *("--sqlite-pragma", "cache_size=-2000", "--log-level", "debug", "--log-format", "json"),
        *("--headless", "--log-config", "--time-skipping"),
    )
    assert (asked.config.host, asked.config.port, asked.db_filename) == ("0.0.0.0", 7000, "x.db")
    assert asked.config.namespaces == ("a", "b")
    assert asked.config.search_attributes == {"Colour": 2, "Tags": 7}
    assert asked.config.limits.blob_bytes == 10
    assert asked.unknown_keys == ("x.y",)
    assert asked.pragmas == {"cache_size": "-2000"}
    assert (asked.log_level, asked.log_format) == ("debug", "json")
    assert asked.show_config
    assert asked.config.time_skipping
    assert asked.ui is None


def test_flags_of_every_command_may_stand_before_or_after_and_the_nearest_wins(start_dev: Invoke) -> None:
    assert start_dev.server(before=["--log-level", "error"]).log_level == "error"
    assert start_dev.server("--log-level", "info", before=["--log-level", "error"]).log_level == "info"
    start_dev.server(
        *("--color", "never", "-o", "json", "--time-format", "iso", "--env", "prod", "--env-file", "f"),
        *("--config-file", "c", "--profile", "p", "--disable-config-file", "--disable-config-env"),
        *("--command-timeout", "5s", "--client-connect-timeout", "5s", "--no-json-shorthand-payloads"),
    )


def test_what_the_official_sdk_passes_is_accepted_without_a_word(start_dev: Invoke) -> None:
    asked = start_dev.server(
        *("--port", "7000", "--namespace", "default", "--ip", "127.0.0.1"),
        *("--log-format", "pretty", "--log-level", "warn"),
        *("--dynamic-config-value", "frontend.enableServerVersionCheck=false"),
        *("--dynamic-config-value", "frontend.enableUpdateWorkflowExecution=true"),
        "--headless",
    )
    assert asked.notices == []


def test_the_http_port_is_told_to_the_server(start_dev: Invoke) -> None:
    asked = start_dev.server("--http-port", "7243")
    assert (asked.config.http_port, asked.notices) == (7243, [])
    assert start_dev.server().config.http_port is None


@pytest.mark.parametrize(
    ("flags", "feature"),
    [
        (["--metrics-port", "9000"], "metrics endpoint"),
        (["--ui-asset-path", "/tmp"], "assets of one's own"),
    ],
)
def test_a_flag_whose_feature_is_not_there_yet_is_accepted_and_says_so(
    start_dev: Invoke, flags: list[str], feature: str
) -> None:
    (notice,) = start_dev.server(*flags).notices
    assert flags[0] in notice
    assert feature in notice
    if flags[0].startswith("--ui"):
        assert start_dev.server(*flags, "--headless").notices == []


def test_the_flags_of_the_web_ui_arrive(start_dev: Invoke) -> None:
    place = start_dev.server(
        *(
            "--ui-port",
            "0",
            "--ui-ip",
            "0.0.0.0",
            "--ui-codec-endpoint",
            "http://x",
            "--ui-public-path",
            "/ui",
        ),
        *("--ui-allow-host", "ui.example", "--ui-disable-news-fetch", "--namespace", "mine"),
    ).ui
    assert place is not None
    assert (place.host, place.port, place.is_port_chosen) == ("0.0.0.0", 0, True)
    assert (place.codec_endpoint, place.public_path) == ("http://x", "/ui")
    assert (place.names, place.namespace) == (("ui.example",), "mine")


@pytest.mark.parametrize(("port", "expected"), [("7000", 8000), ("0", 0), ("65000", 0)])
def test_the_web_uis_port_follows_that_of_grpc(start_dev: Invoke, port: str, expected: int) -> None:
    place = start_dev.server("--port", port).ui
    assert place is not None
    assert place.port == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port"),
        (["--port", "x"], "--port"),
        (["--search-attribute", "Colour"], "NAME=VALUE"),
        (["--search-attribute", "Colour=Paint"], "Text, Keyword, Int"),
        (["--search-attribute", "RunId=Text"], "reserved"),
        (["--dynamic-config-value", "key"], "NAME=VALUE"),
        (["--dynamic-config-value", "key=not json"], "not JSON"),
        (["--dynamic-config-value", "a b=1"], "identifier"),
        (["--dynamic-config-value", "limit.blobSize.error=true"], "limit.blobSize.error"),
        (["--sqlite-pragma", "cache_size=1"], "--db-filename"),
        (["--sqlite-pragma", "cache_size", "-f", "x.db"], "NAME=VALUE"),
        (["--log-level", "loud"], "--log-level"),
        (["--log-format", "xml"], "--log-format"),
        (["--no-such-flag"], "--no-such-flag"),
        (["surplus"], "surplus"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(
    start_dev: Invoke, flags: list[str], message: str
) -> None:
    invocation = start_dev(*flags)
    assert invocation.result.exit_code == USAGE
    assert message in invocation.result.output
    assert invocation.asked == []


def test_version_and_help() -> None:
    assert __version__ in CliRunner().invoke(root, ["--version"]).output
    shown = CliRunner().invoke(root, ["server", "start-dev", "-h"])
    assert shown.exit_code == 0
    for flag in ("--db-filename", "--namespace", "--headless"):
        assert flag in shown.output
    assert "server" in CliRunner().invoke(root, ["--help"]).output
    assert CliRunner().invoke(root, ["no-such-command"]).exit_code == USAGE


def test_help_imports_neither_the_server_nor_grpc() -> None:
    """The command must start fast, so what only a server needs is imported when one is run."""
    code = (
        "import sys; from perdure.cli.root import root; "
        "root.main(['server', 'start-dev', '--help'], standalone_mode=False); "
        "heavy = {'grpc', 'google.protobuf', 'sqlglot', 'rich', 'sqlite3', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
