"""What others chose or left behind (ids, files, codecs, closed pipes, full disks) and the command line has to bear."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.history.v1 import HistoryEvent
from perdure.cli import codec, completion, env_file, histories, root
from perdure.cli.command import fail
from perdure.cli.env_file import replace_file
from perdure.cli.errors import EXIT_FAILED, EXIT_USAGE, CommandError
from perdure.cli.output import Output
from perdure.cli.session import Session
from perdure.cli.settings import Codec, Settings
from perdure.cli.spans import Mark, Span, Story
from perdure.cli.timeline import draw

_RUN: Final = "from perdure.cli import main; main()"
_STARTED: Final = {
    "eventId": "1",
    "eventTime": "2026-01-01T00:00:00Z",
    "eventType": "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED",
    "workflowExecutionStartedEventAttributes": {"workflowType": {"name": "W"}},
}


def test_a_foreign_history_does_not_say_where_it_is_written(tmp_path: Path) -> None:
    """Names of files are made of the ids in it, which may have any characters."""
    file, folder = tmp_path / "foreign.json", tmp_path / "in" / "side"
    ids = {"workflowId": "../w", "runId": "/../../../outside"}
    file.write_text(json.dumps({**ids, "events": [_STARTED]}))
    assert root.exit_code_of(["history", "import", str(file), "--directory", str(folder), "-o", "none"]) == 0
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path, folder}


@pytest.mark.parametrize(
    "text", ['{"events":' + "[" * 100_000 + "]" * 100_000 + "}", '{"events":[1]}', "[[]]", "1"]
)
def test_what_is_no_history_is_refused_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    assert root.exit_code_of(["history", "import", str(file), "--directory", str(tmp_path)]) == EXIT_FAILED
    assert f"Error: {file} is no history" in capsys.readouterr().err


def test_an_event_of_a_newer_server_has_a_name() -> None:
    assert histories.label(HistoryEvent(event_type=9_999)) == "Type9999"  # type: ignore[arg-type]
    assert histories.label(HistoryEvent(event_type=1)) == "WorkflowExecutionStarted"  # type: ignore[arg-type]


def test_files_with_secrets_are_the_owners_and_links_to_them_stay(tmp_path: Path) -> None:
    kept, linked = tmp_path / "dotfiles" / "temporal.toml", tmp_path / "temporal.toml"
    kept.parent.mkdir()
    kept.write_text("old")
    kept.chmod(0o644)
    linked.symlink_to(kept)
    # What a process that died has left, readable by all; process ids come again.
    left = kept.with_name(f".{kept.name}.{os.getpid()}")
    left.write_text("")
    left.chmod(0o666)
    replace_file(linked, "api_key")
    assert linked.is_symlink()
    assert kept.read_text() == "api_key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert sorted(kept.parent.iterdir()) == sorted([kept, left])


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    with pytest.raises(CommandError, match="cannot be written"):
        env_file.write(tmp_path / "env", {"prod": {"api-key": "secret"}})
    assert list(tmp_path.iterdir()) == [tmp_path / "env"]


def test_ids_that_a_shell_would_run_are_not_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A completed id stands in the command line as it is; the next Enter would run what it holds."""
    ids = [
        "order-1",
        "$(touch x)",
        "`id`",
        "a b",
        "a;b",
        "a\nplain,b",
        "*",
        "~root",
        "orders/7:a@b+c=d,e%20",
        "größe",
    ]

    class Service:
        async def list_workflow_executions(self, request: Any, **_: Any) -> Any:
            return SimpleNamespace(
                executions=[SimpleNamespace(execution=SimpleNamespace(workflow_id=one)) for one in ids]
            )

    async def service(self: Session) -> Any:
        return SimpleNamespace(workflow_service=Service())

    monkeypatch.setattr(Session, "service", service)
    session: Any = Session(Settings({}, {}), None)  # type: ignore[arg-type]  # no command line is looked at
    assert asyncio.run(completion._ids(session, "")) == ["order-1", "orders/7:a@b+c=d,e%20", "größe"]


def _command(words: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _RUN, *words], stderr=subprocess.PIPE, **more)


@pytest.mark.parametrize(
    "words",
    [
        ["options"],
        ["--help"],
        ["workflow", "start", "--help"],
        ["workflow", "list", "--address", "sqlite://"],
    ],
)
def test_a_reader_that_has_seen_enough_is_no_failure(words: list[str]) -> None:
    """Such as `head`; otherwise `set -o pipefail` ends scripts."""
    reading, writing = os.pipe()
    os.close(reading)
    with _command(words, stdout=writing) as process:
        os.close(writing)
        assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("words", [["options"], ["config", "list", "-o", "json"]])
def test_output_that_has_no_room_is_a_failure_in_one_line(words: list[str]) -> None:
    with open("/dev/full", "wb") as full, _command(words, stdout=full) as process:
        said = process.communicate(timeout=60)[1]
    assert said == b"Error: the output cannot be written: No space left on device\n"
    assert process.returncode == EXIT_FAILED


def test_ctrl_c_ends_a_question_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for an answer, which might even be a yes."""
    answered: list[bool] = []

    class Typing:
        def readline(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    async def command() -> None:
        session = Session(Settings({}, {}), None)  # type: ignore[arg-type]  # no command line is looked at
        session.confirm("Terminate all?", False)
        answered.append(True)

    monkeypatch.setattr(sys, "stdin", Typing())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(command())
    assert not answered
    assert signal.getsignal(signal.SIGINT) is before


def test_texts_of_others_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as an id that overwrites the line above it."""
    evil = "id\x1b[1A\x1b]0;title\x07\x9b2J\x7f"
    out = Output(Settings({"color": "always"}, {}))
    out.card({"WorkflowId": evil})
    out.table([{"WorkflowId": evil}], ["WorkflowId"])
    out.line(evil, "green")
    out.note(evil)
    fail(evil, EXIT_USAGE)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert r"id\x1b[1A\x1b]0;title\x07\x9b2J\x7f" in text
        assert not {"\x1b[1A", "\x1b]", "\x07", "\x9b", "\x7f"} & {
            text[at : at + n] for at in range(len(text)) for n in (1, 2, 4)
        }
    assert "\x1b[32m" in printed.out


def test_what_is_written_out_has_room(capsys: pytest.CaptureFixture[str]) -> None:
    """A column is as wide as what it shows, and a picture of a run names what no terminal shows."""
    out = Output(Settings({}, {}))
    out.table([{"Id": "a\x1b\x07b", "Type": "t"}], ["Id", "Type"])
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert rows == ["Id          Type", r"a\x1b\x07b  t"]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    whole, span = Span("workflow", "a\x07", at, at), Span("activity", "b\x08", at, at, detail="c\x0b")
    lines = draw(Story(whole, [span], [Mark("d\x0c", at, 1)], 1), whole.name, 80, at)
    text = "\n".join(line.plain for line in lines)
    for shown in (r"a\x07", r"b\x08", r"d\x0c"):
        assert shown in text


@pytest.mark.parametrize(
    "answer", [b"220 mail.example\r\n", b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"]
)
def test_a_codec_that_does_not_speak_http_is_named_in_one_line(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        place = Codec(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(CommandError, match="the codec server http"):
            asyncio.run(codec.decode(place, Payloads(payloads=[Payload(data=b"x")])))
        thread.join()


@pytest.mark.parametrize("words", [["config", "list"], ["no-such-command"]])
@pytest.mark.parametrize("closed", [(0, 1), (2,), (0, 1, 2)])
def test_a_stream_that_is_closed_leads_nowhere(words: list[str], closed: tuple[int, ...]) -> None:
    """Such as `>&-` in a shell: no traceback, and what is for one stream does not come out of the other."""
    line = " ".join(
        [shlex.join([sys.executable, "-c", _RUN, *words]), *(f"{number}>&-" for number in closed)]
    )
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    is_wrong = words == ["no-such-command"]
    assert done.returncode == (EXIT_USAGE if is_wrong else 0)
    assert done.stderr == (
        "Error: there is no command perdure no-such-command\n" if is_wrong and 2 not in closed else ""
    )
    assert "Error" not in done.stdout


def test_what_a_terminal_has_no_characters_for_is_written_out() -> None:
    """Such as those of a locale with one byte for each character."""
    words = ["workflow", "start", "--type", "Größe", "--task-queue", "q", "--address", "sqlite://"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with _command(words, stdout=subprocess.PIPE, env=environment) as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert rb"Gr\xf6\xdfe" in out


@pytest.mark.parametrize(
    "words",
    [["--workflow-id", "w-\udcff"], ["--workflow-id", "w", "--input", "1", "--input-meta", "a=\udcff"]],
)
def test_bytes_that_are_no_text_are_refused_in_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of a command line in another encoding come with half characters."""
    line = ["workflow", "start", "--type", "T", "--task-queue", "q", "--address", "sqlite://", *words]
    assert root.exit_code_of(line) == EXIT_USAGE
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert len(said.splitlines()) == 1


def test_a_warning_about_the_address_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """And not a line of the program's code."""
    session = Session(Settings({"address": "http://127.0.0.1:1"}, {}), None)  # type: ignore[arg-type]  # no command line is looked at
    session.connection.config.lazy = True

    async def connected() -> None:
        await session.service()
        await session.close()

    asyncio.run(connected())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("Warning: The address 'http://127.0.0.1:1' should be given as host:port")


def test_a_database_that_was_not_there_is_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is written wrong shows an empty list, and leaves an empty file behind."""
    words = ["workflow", "list", "--address", f"sqlite:///{tmp_path / 'ordres.db'}"]
    assert root.exit_code_of(words) == 0
    said = capsys.readouterr().err
    assert f"there was no database {tmp_path / 'ordres.db'}: a new, empty one was made" in said
    assert root.exit_code_of(words) == 0
    assert "there was no database" not in capsys.readouterr().err
