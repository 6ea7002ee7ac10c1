"""Restate's server and the application's service, as children of one process, until standard input ends.

Prints the ingress's port when both are ready and know each other.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_TIMEOUT_S = 60.0
STEP_S = 0.1


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def register(admin_port: int, service_port: int) -> None:
    """Tells the server where the service is, as soon as both answer."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    body = json.dumps({"uri": f"http://127.0.0.1:{service_port}"}).encode()
    while True:
        request = urllib.request.Request(
            f"http://127.0.0.1:{admin_port}/deployments", body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(STEP_S)


def main() -> None:
    """Starts both, waits, ends both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the restate-server program")
    options = parser.parse_args()
    ingress, admin, node, service = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        }
        granian = [
            str(Path(sys.executable).parent / "granian"), "--interface", "asgi", "--http", "2", "--log-level", "error",
            "--port", str(service), "benchmarks.applications.restate_service:app",
        ]  # fmt: skip
        server = [options.server, "--base-dir", folder, "--log-filter", "error"]
        processes = [
            subprocess.Popen(
                server,
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ),
            subprocess.Popen(
                granian, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ),
        ]
        try:
            register(admin, service)
            print(ingress, flush=True)
            sys.stdin.read()
        finally:
            # They keep nothing worth waiting for; granian would wait for its workers' connections.
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    main()
