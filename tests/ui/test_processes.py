"""The UI as processes: beside a development server, and alone for another server, also one that is not there."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from examples.ports import free_port
from tests.support.servers import HOST, find_executable

LIMIT_S = 60.0


@contextmanager
def running(*arguments: str, until: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `perdure` command, and what it printed up to a line that begins with a text."""
    command = [find_executable("perdure"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(until):
                break
        yield process, "".join(lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LIMIT_S)


def get(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Interrupts a process: its exit code, and what it said on stderr."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT_S)
    return process.returncode, said


def test_a_development_server_serves_the_ui_and_any_other_process_can() -> None:
    ports = ("--ip", HOST, "--port", str(free_port()), "--ui-port", "0")
    with running("server", "start-dev", *ports, until="Persistence:") as (server, banner):
        (url,) = re.findall(r"^UI: +(http://\S+)$", banner, re.MULTILINE)
        (address,) = re.findall(r"^Server: +(\S+)$", banner, re.MULTILINE)
        status, text = get(f"{url}/")
        assert status == 200
        assert "No workflow has been started" in text
        with running("ui", "--address", address, "--port", "0", until="UI of") as (ui, line):
            status, text = get(line.split()[-1] + "/namespaces.json")
            assert status == 200
            assert '"default"' in text
            assert end(ui)[0] == 0
        assert end(server)[0] == 0


def test_a_server_that_is_not_there_is_said_on_the_page() -> None:
    with running("ui", "--address", f"{HOST}:{free_port()}", "--port", "0", until="UI of") as (ui, line):
        status, text = get(line.split()[-1] + "/namespaces")
        assert status == 503
        assert "This did not work" in text
        assert end(ui)[0] == 0


def _ports() -> tuple[int, socket.socket]:
    """A free port for gRPC, and the port that follows from it for the UI, taken."""
    while True:
        port = free_port()
        try:
            return port, socket.create_server((HOST, port + 1000))
        except (OSError, OverflowError):
            continue  # somebody else's, or none at all


def test_a_taken_port_that_nobody_chose_leaves_the_server_without_ui() -> None:
    port, taken = _ports()
    flags = ("server", "start-dev", "--ip", HOST)
    with taken:
        refused = subprocess.run(
            [find_executable("perdure"), *flags, "--port", "0", "--ui-port", str(port + 1000)],
            capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert refused.returncode == 1
        assert f"{HOST}:{port + 1000}" in refused.stderr
        with running(*flags, "--port", str(port), until="Persistence:") as (server, banner):
            assert "UI:" not in banner
            assert "no web UI" in end(server)[1]
