"""Commands that only `perdure` has, on a database file without a server, with runs that a worker has really made."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

from perdure.cli import completion, root, session
from perdure.cli.errors import EXIT_INTERRUPTED, EXIT_NOT_FOUND, EXIT_TIMED_OUT, EXIT_UNSUCCESSFUL
from perdure.cli.output import Output
from perdure.cli.settings import Settings
from perdure.client import Client
from perdure.worker import Worker
from tests.e2e import cli_orders

CODE = "tests.e2e.cli_orders"


async def _make_runs(address: str) -> None:
    async with (
        await Client.connect(address) as client,
        Worker(
            client,
            task_queue="orders",
            workflows=[cli_orders.Order, cli_orders.Parcel],
            activities=[cli_orders.charge],
        ),
    ):
        for name in ("book", "pen"):
            handle = await client.start_workflow(
                cli_orders.Order.run, name, id=f"order-{name}", task_queue="orders"
            )
            await handle.signal(cli_orders.Order.note, f"note {name}")
            assert await handle.result() == f"charged {name}"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a file with two finished orders in it."""
    path = tmp_path_factory.mktemp("cli") / "orders.db"
    address = f"sqlite:///{path}"
    asyncio.run(_make_runs(address))
    return address


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.setenv("COLUMNS", "160")


def run(*words: str) -> int:
    """The exit code of a command line, run in this process."""
    return root.exit_code_of(list(words))


def test_a_timeline_shows_attempts_waits_and_failures(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each thing that took time is a row; what failed before says why, a signal has its mark."""
    assert run("workflow", "show", "-w", "order-book", "--timeline", "--address", database) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Order order-book")
    assert "│0" in lines[1]
    (charge,) = [line for line in lines if "charge" in line]
    assert "completed (attempt 2) card refused" in charge
    assert any("timer" in line and "fired" in line for line in lines)
    assert any("Parcel order-book-parcel" in line and "completed" in line for line in lines)
    assert any("▲ signal note" in line for line in lines)


def test_a_trace_is_a_tree_of_runs(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Children are shown with what they did, as text and as JSON."""
    assert run("workflow", "trace", "-w", "order-book", "--no-fold", "--address", database) == 0
    assert "Parcel order-book-parcel completed" in capsys.readouterr().out
    assert run("workflow", "trace", "-w", "order-book", "-o", "json", "--address", database) == 0
    tree = json.loads(capsys.readouterr().out)
    (child,) = [step["workflow"] for step in tree["steps"] if step["kind"] == "child"]
    assert (child["workflowId"], child["state"]) == ("order-book-parcel", "completed")


def test_histories_go_to_files_and_back(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exported can be imported, replayed and compared; a file with a hole is refused."""
    monkeypatch.chdir(tmp_path)
    where = ("--address", database, "-o", "json")
    assert run("history", "export", "-q", "WorkflowType = 'Order'", *where) == 0
    files = [entry["file"] for entry in json.loads(capsys.readouterr().out)]
    assert len(files) == 2
    assert run("history", "replay", "histories", "--code", CODE, *where) == 0
    capsys.readouterr()
    assert run("history", "diff", files[0], files[0], *where) == 0
    assert json.loads(capsys.readouterr().out) == {"differ": False, "diff": []}
    assert run("history", "diff", "order-book", "order-pen", *where) == EXIT_UNSUCCESSFUL
    assert any("data" in line for line in json.loads(capsys.readouterr().out)["diff"])

    short = json.loads(Path(files[0]).read_text())
    for event in short["events"]:
        event["eventType"] = _pascal(event["eventType"])
    Path("other.json").write_text(json.dumps({"events": short["events"]}))
    assert run("history", "import", "other.json", "-w", "order-x", "--directory", "in", *where) == 0
    (imported,) = json.loads(capsys.readouterr().out)
    assert imported["events"] == len(short["events"])
    del short["events"][3]
    Path("other.json").write_text(json.dumps(short))
    assert run("history", "import", "other.json", "--directory", "in", *where) != 0
    assert "event 4 is not where it should be" in capsys.readouterr().err
    assert run("history", "import", "nothing.json", *where) == EXIT_NOT_FOUND


def test_long_work_shows_its_progress_and_data_still_goes_to_its_file(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars on the terminal, with how many of how many; nothing of them on stdout, and no data with them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # stdout is a file
    where = ("--address", database)
    assert run("history", "export", "-q", "WorkflowType = 'Order'", *where) == 0
    exported = capsys.readouterr()
    assert "Exporting" in exported.err
    assert "2 of 2" in exported.err
    files = re.findall(r"^histories/\S+", exported.out, re.M)
    assert len(files) == 2
    assert "histories/" not in exported.err
    assert "\x1b" not in exported.out
    assert run("history", "import", *files, "--directory", "in") == 0
    imported = capsys.readouterr()
    assert "Importing" in imported.err
    assert "2 of 2" in imported.err
    assert imported.out.count("in/order-") == 2
    assert run("workflow", "result", "-w", "order-book", *where) == 0
    waited = capsys.readouterr()
    assert "Waiting for order-book" in waited.err
    assert "charged book" in waited.out
    assert run("history", "export", "-w", "order-book", "-o", "json", *where) == 0
    assert capsys.readouterr().err == ""


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.removeprefix("EVENT_TYPE_").split("_"))


def test_code_that_no_longer_fits_is_found(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history that the code of today cannot repeat fails the replay, with the file's name."""
    changed = tmp_path / "changed_orders.py"
    text = Path(cli_orders.__file__).read_text().replace("await asyncio.sleep(0.01)", "pass")
    changed.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("history", "export", "-w", "order-book", "--address", database) == 0
    assert run("history", "replay", "histories", "--code", "changed_orders") == EXIT_UNSUCCESSFUL
    printed = capsys.readouterr()
    assert "FAIL histories" in printed.out
    assert "1 of 1 histories do not fit the code" in printed.err


def test_ids_are_completed_from_the_server_that_the_line_names(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scripts for all shells ask, with the flags that were typed so far."""
    monkeypatch.setattr(completion, "LIMIT_S", 60.0)
    asked = BashComplete(root.root, {}, "perdure", "_PERDURE_COMPLETE")
    typed = ["workflow", "describe", "--address", database, "--workflow-id"]
    found = {one.value for one in asked.get_completions(typed, "order-b")}
    assert found == {"order-book", "order-book-parcel"}
    assert "--workflow-id" in {one.value for one in asked.get_completions(typed[:2], "--work")}
    nowhere = ["workflow", "describe", "--address", "127.0.0.1:1", "--workflow-id"]
    assert asked.get_completions(nowhere, "order-") == []


def test_what_is_watched_is_shown_again_until_nothing_changes_any_more(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed workflow once, a list until Ctrl-C."""
    assert run("workflow", "describe", "-w", "order-book", "--watch", "--address", database) == 0
    assert capsys.readouterr().out.count("Execution:") == 1
    made: list[Output] = []

    class Impatient(Output):
        def __init__(self, settings: Settings) -> None:
            super().__init__(settings)
            made.append(self)
            if len(made) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(session, "Output", Impatient)
    words = ("--watch", "--watch-interval", "10ms", "-q", "WorkflowId = 'order-pen'")
    assert run("workflow", "list", *words, "--address", database) == EXIT_INTERRUPTED
    printed = capsys.readouterr()
    assert printed.out.count("order-pen") == 2
    assert "interrupted" in printed.err


def test_profiles_are_written_and_used(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile made with `config set` is what a command connects with; other content of the file stays."""
    path = tmp_path / "temporal.toml"
    path.write_text('[profile.other]\naddress = "x:1"\n[profile.other.odd]\nkept = [1, "two"]\n')
    for prop, value in (("address", database), ("namespace", "default"), ("grpc_meta.who", 'a "b"')):
        assert run("config", "set", "--profile", "mine", "--prop", prop, "--value", value) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("config", "get", "--profile", "mine", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "address": database,
        "namespace": "default",
        "grpc_meta": {"who": 'a "b"'},
    }
    assert run("workflow", "count", "--profile", "mine", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["count"] == "4"
    assert run("config", "delete", "--profile", "mine", "--prop", "namespace") == 0
    assert run("config", "set", "--profile", "mine", "--prop", "adress", "--value", "x") != 0
    assert "did you mean address" in capsys.readouterr().err
    assert run("config", "delete-profile", "--profile", "mine") == 0
    assert run("config", "get", "--profile", "mine") == EXIT_NOT_FOUND
    assert 'kept = [1, "two"]' in path.read_text()


def test_a_doctor_says_what_is_wrong(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy set-up has no problem; an unknown variable and a missing namespace are named."""
    monkeypatch.setenv("TEMPORAL_ADRESS", "x")
    assert run("doctor", "--address", database, "-o", "json") == 0
    found = {entry["what"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["server"]["state"] == found["namespace"]["state"] == "ok"
    assert "TEMPORAL_ADRESS" in found["variable"]["text"]
    assert run("doctor", "--address", database, "-n", "nowhere") == EXIT_UNSUCCESSFUL
    printed = capsys.readouterr()
    assert "problem  namespace" in printed.out
    assert "1 problem found" in printed.err


def test_waiting_ends_with_the_commands_time(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A result that nobody will produce is waited for no longer than --command-timeout says."""
    where = ("--address", database)
    assert run("workflow", "start", "--type", "Order", "-t", "nobody", "-w", "waits", *where) == 0
    assert run("workflow", "result", "-w", "waits", "--command-timeout", "300ms", *where) == EXIT_TIMED_OUT
    assert run("workflow", "terminate", "-w", "waits", *where) == 0
    assert run("workflow", "result", "-w", "waits", *where) == EXIT_UNSUCCESSFUL
    assert run("workflow", "delete", "-w", "waits", "--yes", *where) == 0
    assert "the command timed out after 0.3 s" in capsys.readouterr().err


def test_a_batch_is_waited_for(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--wait returns when the batch has ended, with what it did."""
    where = ("--address", database)
    for number in range(3):
        words = ("--type", "Order", "-t", "nobody", "-w", f"batch-{number}", "-o", "none")
        assert run("workflow", "start", *words, *where) == 0
    query = "WorkflowId STARTS_WITH 'batch-'"
    for verb in ("terminate", "delete"):
        assert run("workflow", verb, "-q", query, "--yes", "--wait", "--command-timeout", "30s", *where) == 0
        told = capsys.readouterr()
        assert "The batch has ended: 3 of 3 done" in told.err
        job_id = told.out.split("Started batch ")[1].split()[0]
        assert run("batch", "describe", "--job-id", job_id, *where) == 0
        assert f"{'█' * 24} 3 of 3 done" in capsys.readouterr().out


class _Codec(http.server.BaseHTTPRequestHandler):
    """A codec that turns bytes around."""

    def do_POST(self) -> None:
        """Encode and decode are the same."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Namespace"] == "default"
        payloads = [_turned(payload, is_encoding=self.path == "/encode") for payload in body["payloads"]]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"payloads": payloads}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _turned(payload: dict[str, Any], *, is_encoding: bool) -> dict[str, Any]:
    import base64

    data = base64.b64encode(base64.b64decode(payload["data"])[::-1]).decode()
    encoding = "binary/turned" if is_encoding else "json/plain"
    return {"metadata": {"encoding": base64.b64encode(encoding.encode()).decode()}, "data": data}


@pytest.fixture
def codec() -> Iterator[str]:
    """The address of a codec server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Codec) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_payloads_go_through_a_codec_server(
    database: str, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a codec, what the server keeps is encoded, and what is shown is not; without it nobody can read it."""
    where = ("--address", database, "-o", "json")
    words = ("--type", "Order", "-t", "nobody", "-w", "coded", "--input", '"secret"', "--memo", 'm="x"')
    assert run("workflow", "start", *words, "--codec-endpoint", codec, *where) == 0
    capsys.readouterr()
    assert run("workflow", "describe", "-w", "coded", *where) == 0
    memo = json.loads(capsys.readouterr().out)["workflowExecutionInfo"]["memo"]["fields"]["m"]
    assert isinstance(memo, dict)
    assert run("workflow", "describe", "-w", "coded", "--codec-endpoint", codec, *where) == 0
    assert json.loads(capsys.readouterr().out)["workflowExecutionInfo"]["memo"]["fields"]["m"] == "x"
    assert run("workflow", "delete", "-w", "coded", "--yes", *where) == 0
    assert run("workflow", "list", "--codec-endpoint", "ftp://x", *where) != 0
