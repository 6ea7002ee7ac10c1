"""The example that measures plain consumers against the bridge, on the smallest of the brokers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
ORDERS, KILLS = 12, 3

pytestmark = [pytest.mark.serial, pytest.mark.timeout(400)]


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed (Debian: redis-server)"
)
def test_the_bridge_loses_and_doubles_nothing() -> None:
    """What a plain consumer loses or doubles depends on the order of its steps; the other of both is none."""
    command = ["--brokers", "redis", "--messages", str(ORDERS), "--kills", str(KILLS)]
    ended = subprocess.run(
        [sys.executable, "-m", "examples.queues", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ended.stdout.splitlines()[2:]]
    first, last, bridge = ([int(cell) for cell in row[2:]] for row in rows)
    assert [row[:2] for row in rows][2] == ["redis", "bridge"]
    # Orders, kills, not charged, charged twice or more.
    assert (first[0], first[3]) == (ORDERS, 0)
    assert (last[0], last[2]) == (ORDERS, 0)
    assert (bridge[0], bridge[2], bridge[3]) == (ORDERS, 0, 0)
    assert bridge[1] <= KILLS
