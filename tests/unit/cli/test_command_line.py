"""What every command line goes through: spellings of flags, levels, errors in one line, exit codes, env file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from perdure.cli import env_file, root
from perdure.cli.errors import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_NOT_CONNECTED,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    CommandError,
)
from perdure.cli.flags import parse_duration, parse_time

EMBEDDED = ("--address", "sqlite://?name=cli-tests", "--disable-config-file", "--disable-config-env")


def run(*words: str) -> int:
    """The exit code of a command line, run in this process."""
    return root.exit_code_of(list(words))


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["workflw"], "there is no command perdure workflw; did you mean workflow"),
        (["workflow", "strat"], "there is no command perdure workflow strat; did you mean start"),
        (["workflow", "list", "--qery", "x"], "there is no flag --qery; did you mean --query?"),
        (["workflow", "list", "-o", "jsn"], "did you mean json"),
        (["workflow", "list", "--limit", "many"], "'many' is not a valid integer"),
        (["workflow", "describe"], "Missing option '--workflow-id' / '-w'"),
        (["workflow", "start", "--type", "T", "-t", "q", "--run-timeout", "soon"], "'soon' is no duration such as 30s"),
        (["workflow", "start", "--type", "T", "-t", "q", "--input", "word"], "input 1 is no JSON"),
        (["workflow", "start", "--type", "T", "-t", "q", "--memo", "a"], "--memo 'a' must be KEY=JSON"),
        (["workflow", "signal", "--name", "x"], "either --workflow-id or --query is needed"),
        (["workflow", "cancel", "-w", "a", "--query", "b"], "--query is for batches"),
        (["workflow", "delete", "-w", "a", "-o", "json"], "--yes is needed with --output json"),
        (["workflow", "list", "--tls-disable-host-verification"], "--tls-ca-path"),
        (["workflow", "list", "--grpc-meta", "x"], "--grpc-meta 'x' must be KEY=VALUE"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_with_a_suggestion(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said in one line on stderr, with the nearest right word; nothing is on stdout."""
    assert run(*words, *(EMBEDDED if len(words) > 1 and words[1] != "strat" else ())) == EXIT_USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    (only,) = printed.err.splitlines()
    assert line in only


@pytest.mark.parametrize("flag", ["--tls-cert-data", "--tls-key-data"])
def test_half_a_client_certificate_is_told_in_flags(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who types a command knows no fields of `TLSConfig`."""
    assert run("workflow", "list", "--address", "127.0.0.1:1", flag, "x") == EXIT_USAGE
    (only,) = capsys.readouterr().err.splitlines()
    assert "--tls-cert-path and --tls-key-path" in only


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tls-ca-path", "/none.pem"], "--tls-ca-path /none.pem cannot be read: No such file or directory"),
        (["--tls-ca-data", "x"], "--tls-ca-data must be in PEM form, and holds no -----BEGIN"),
        (["--tls-cert-data", "x", "--tls-key-data", "x"], "--tls-cert-data must be in PEM form"),
    ],
)
def test_a_certificate_that_is_none_is_named_by_its_flag(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path alone does not say which of the files is missing."""
    assert run("workflow", "list", "--address", "127.0.0.1:1", *words) == EXIT_USAGE
    (only,) = capsys.readouterr().err.splitlines()
    assert line in only


def test_a_certificate_of_the_profile_is_named_by_its_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has typed it; and it is not read if a flag takes its place."""
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "/none.pem")
    assert run("workflow", "list", "--address", "127.0.0.1:1") == EXIT_FAILED
    assert (
        "server_ca_cert_path of the profile, or TEMPORAL_TLS_SERVER_CA_CERT_PATH" in capsys.readouterr().err
    )
    assert run("workflow", "list", "--address", "127.0.0.1:1", "--tls-ca-data", "x") == EXIT_USAGE
    assert "--tls-ca-data must be in PEM form" in capsys.readouterr().err
    monkeypatch.delenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH")
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_DATA", "x")
    assert run("workflow", "list", "--address", "127.0.0.1:1") == EXIT_USAGE
    assert "what the profile or the variables give for server_root_ca_cert" in capsys.readouterr().err


def test_flags_of_the_connection_may_stand_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    """The same flag before the group, after it, or after the verb; the nearest to the verb counts."""
    for words in (
        [*EMBEDDED, "-o", "json", "workflow", "list"],
        ["workflow", *EMBEDDED, "list", "-o=json"],
        ["-o", "text", "workflow", "list", *EMBEDDED, "--output=json"],
    ):
        assert run(*words) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_switches_take_words_as_values(capsys: pytest.CaptureFixture[str]) -> None:
    """`--flag=true` and `--flag=false` are spellings that other parsers have."""
    assert run("workflow", "list", *EMBEDDED, "--archived=false", "--tls=false", "-o", "jsonl") == 0
    assert capsys.readouterr().out == ""


def test_exit_codes_tell_failures_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Not found and no connection have codes of their own, every code is documented."""
    assert run("workflow", "describe", "-w", "nothing", *EMBEDDED) == EXIT_NOT_FOUND
    assert run("workflow", "list", "--query", "odd ==", *EMBEDDED) == EXIT_FAILED
    assert (
        run("workflow", "list", "--address", "127.0.0.1:1", "--client-connect-timeout", "2s")
        == EXIT_NOT_CONNECTED
    )
    assert all(line.startswith("Error: ") for line in capsys.readouterr().err.splitlines())
    assert {0, EXIT_FAILED, EXIT_NOT_FOUND, EXIT_NOT_CONNECTED, EXIT_USAGE} <= EXIT_CODES.keys()


@pytest.mark.parametrize("words", [["workflow", "list"], ["operator", "cluster", "health"]])
def test_a_grpc_server_of_another_kind_is_no_server_to_work_with(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It answers every call with UNIMPLEMENTED; what it says of that alone helps nobody who has a wrong address."""
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        assert run(*words, "--address", address) == EXIT_NOT_CONNECTED
    finally:
        server.stop(None).wait()
    said = capsys.readouterr().err
    assert f"{address} does not say what it is either, so it is no Perdure or Temporal server" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["workflow", "show", "-w", "x"], "there is no workflow 'x' in namespace default; `perdure workflow list`"),
        (["workflow", "show", "-w", "x", "--follow"], "there is no workflow 'x'"),
        (["workflow", "describe", "-w", "x"], "there is no workflow 'x'"),
        (["schedule", "describe", "-s", "x"], "there is no schedule 'x' in namespace default; `perdure schedule list`"),
        (["batch", "describe", "--job-id", "x"], "there is no batch 'x' in namespace default; `perdure batch list`"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_and_nothing_is_on_stdout_before(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a server calls it: the id as given, and the command that lists what there is; no header above."""
    assert run(*words, *EMBEDDED) == EXIT_NOT_FOUND
    printed = capsys.readouterr()
    assert printed.out == ""
    (only,) = printed.err.splitlines()
    assert line in only


def test_data_is_on_stdout_and_the_rest_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command says beside its data does not get into a pipe; with `none` there is no data."""
    path = f"sqlite://?name={time.monotonic_ns()}"
    assert run("workflow", "list", "--address", path, "-o", "none") == 0
    assert capsys.readouterr() == ("", "")
    assert run("workflow", "count", "--address", path) == 0
    assert capsys.readouterr() == ("Total: 0\n", "")


def test_the_env_file_gives_flags_and_may_name_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--env` takes flags from a file, flags on the command line win, and an unknown environment is an error."""
    path = tmp_path / "env.yaml"
    path.write_text("env:\n  prod:\n    address: 'sqlite://?name=of-env'   # ours\n    output: json\n")
    where = ("--env-file", str(path), "--disable-config-env", "--disable-config-file")
    assert run(*where, "--env", "prod", "workflow", "list") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(*where, "--env", "prod", "workflow", "list", "-o", "none") == 0
    assert capsys.readouterr().out == ""
    assert run(*where, "--env", "other", "workflow", "list") == EXIT_NOT_FOUND
    assert "there is no environment 'other'" in capsys.readouterr().err


def test_env_files_are_read_back_and_odd_ones_refused(tmp_path: Path) -> None:
    """What is written is read; what is no plain mapping of three levels is an error with its line."""
    path = tmp_path / "deep" / "env.yaml"
    environments = {"a b": {"address": 'x: "#y', "namespace": "ü\n"}, "empty": {}}
    env_file.write(path, environments)
    assert env_file.read(path) == environments
    assert path.stat().st_mode & 0o777 == 0o600
    for text in (
        "env:\n  a: [1, 2]\n",
        "env:\n  a: |\n    x\n",
        "env:\n  - a\n",
        '{"env": 1}',
        "env:\n a:\n  b:\n   c: 1\n",
    ):
        path.write_text(text)
        with pytest.raises(CommandError, match=str(path)):
            env_file.read(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("1h30m", 5400), ("1.5d", 129_600), ("250ms", 0.25), ("-2s", -2), (".5s", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are those of the official command, days included."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["1ns", "0.4us", "-1ns"])
def test_a_duration_is_not_nothing_for_being_short(text: str) -> None:
    """`--command-timeout 1ns` would be no limit at all."""
    assert abs(parse_duration(text)) == timedelta(microseconds=1)


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1h x", "9" * 30 + "d"])
def test_what_is_no_duration(text: str) -> None:
    """What cannot be read is refused in words."""
    with pytest.raises(ValueError, match="duration|too long"):
        parse_duration(text)


def test_times_have_a_zone() -> None:
    """A time without a zone could mean any; it is refused."""
    assert parse_time("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="is no time"):
        parse_time("2026-01-31T12:00:00")


def test_ctrl_c_while_the_command_is_imported_shows_no_traceback() -> None:
    """The first tenth of a second is spent there."""
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'perdure.cli.root': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from perdure.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_help_imports_nothing_heavy() -> None:
    """`perdure --help` stays fast because it imports neither protocol nor client nor rich."""
    heavy = ("perdure.api", "perdure.client", "perdure.service", "google.protobuf", "rich", "asyncio", "grpc")
    code = (
        "import sys, perdure.cli.root as r; code = r.exit_code_of(['--help']);"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "workflow" in done.stdout


def test_the_package_is_the_command_too() -> None:
    """`python -m perdure`, where the command is not on the search path, calls itself by its name."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "no-such-verb"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command perdure no-such-verb" in done.stderr
