"""The Django project of the examples: its own tests, and its processes killed while an order is under way."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.ports import free_port
from tests.support.postgres import PostgresMissingError, postgres

REPOSITORY = Path(__file__).resolve().parents[3]
WAIT_S = 60.0
PROJECT = [sys.executable, "-m", "examples.django_shop"]

PLACE = """
from django.test import Client
answer = Client().post("/orders/", {"item": "tea", "amount_cents": "450"})
print("ANSWER", answer.status_code, answer.content.decode())
"""
DELIVERED = """
from django.test import Client
answer = Client().post("/orders/1/delivered/")
print("ANSWER", answer.status_code, answer.content.decode())
"""


def _environment(data: Path, address: str) -> dict[str, str]:
    return {**os.environ, "SHOP_DATA": str(data), "PERDURE_ADDRESS": address, "SHOP_SECRET_KEY": "tests"}


def _manage(
    environment: dict[str, str], *arguments: str, text: str | None = None, timeout_s: float = WAIT_S
) -> str:
    done = subprocess.run(
        [*PROJECT, *arguments],
        cwd=REPOSITORY,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _answer(printed: str) -> tuple[int, Any]:
    line = next(line for line in printed.splitlines() if line.startswith("ANSWER"))
    _, status, body = line.split(" ", 2)
    return int(status), json.loads(body)


@contextmanager
def _running(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROJECT, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            # The server is a child of its command.
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=WAIT_S)


def _wait_for_status(data: Path, status: str) -> None:
    """Until the order has this status; the processes write it, so there is nothing to be told by."""
    ends_s = time.monotonic() + WAIT_S
    found: object = None
    while time.monotonic() < ends_s:
        with sqlite3.connect(data / "shop.sqlite3") as database:
            found = database.execute("SELECT status FROM orders_order WHERE id = 1").fetchone()
        database.close()
        if found == (status,):
            return
        time.sleep(0.05)
    raise AssertionError(f"the order is {found}, not {status}")


def test_the_projects_own_tests_pass(tmp_path: Path) -> None:
    """Views, outbox, admin, health and settings, under Django's runner."""
    labels = ("examples.django_shop.orders.tests", "tests.e2e.contrib_django.cases")
    printed = _manage(_environment(tmp_path, "sqlite://"), "test", *labels)
    assert "\nOK" in printed


def test_the_projects_own_tests_pass_on_postgresql(tmp_path: Path) -> None:
    """The same, and what only a database with many writers can show."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: Django was not tried on PostgreSQL")
    labels = (
        "examples.django_shop.orders.tests",
        "tests.e2e.contrib_django.cases",
        "tests.e2e.contrib_django.cases_postgresql",
    )
    try:
        with postgres() as where:
            environment = {**_environment(tmp_path, "sqlite://"), **where, "SHOP_DATABASE": "postgresql"}
            printed = _manage(environment, "test", "--noinput", *labels, timeout_s=3 * WAIT_S)
    except PostgresMissingError as error:
        pytest.skip(str(error))
    assert "\nOK" in printed


def test_transactions_of_every_database_start_workflows(tmp_path: Path) -> None:
    """Also under Django's runner, in a project with two databases."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.contrib_django.two_databases"}
    environment = {**_environment(tmp_path, "sqlite://"), **settings}
    assert "\nOK" in _manage(environment, "test", "tests.e2e.contrib_django.cases_two_databases")


def test_the_migrations_are_those_of_the_models(tmp_path: Path) -> None:
    """Nobody who installs it is asked to make one."""
    _manage(_environment(tmp_path, "sqlite://"), "makemigrations", "--check", "--dry-run")


@pytest.mark.serial
def test_an_order_placed_without_a_server_survives_the_death_of_its_worker(tmp_path: Path) -> None:
    """The transaction holds what is to be done; a worker sends it; the next worker goes on where that was killed."""
    environment = _environment(tmp_path, f"127.0.0.1:{free_port()}")
    _manage(environment, "migrate", "--verbosity", "0")
    status, order = _answer(_manage(environment, "shell", "-v", "0", text=PLACE))
    assert (status, order["status"]) == (201, "placed")
    with ExitStack() as processes:
        processes.enter_context(_running(environment, "perdure_server"))
        worker = processes.enter_context(_running_worker(environment))
        _wait_for_status(tmp_path, "paid")
        worker.kill()
        worker.wait(WAIT_S)
        status, _ = _answer(_manage(environment, "shell", "-v", "0", text=DELIVERED))
        assert status == 202
        worker = processes.enter_context(_running_worker(environment))
        _wait_for_status(tmp_path, "delivered")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(WAIT_S) == 0


@contextmanager
def _running_worker(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A worker that polls; it is started again while there is no server yet."""
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s:
        with _running(environment, "perdure_worker") as worker:
            assert worker.stdout is not None
            line = worker.stdout.readline()
            if line.startswith("Working on task queue"):
                yield worker
                return
    raise AssertionError("the worker did not find the server")
