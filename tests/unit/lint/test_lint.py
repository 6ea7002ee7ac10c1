"""`perdure lint`: every rule finds its mistake and leaves the right way alone."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure.cli.root import root
from perdure.lint import RULES, check_paths, check_source

pytestmark = pytest.mark.usefixtures("without_collector")

HEAD = """
import asyncio, datetime, os, random, time, uuid, threading, subprocess, requests
from datetime import datetime as dt, timedelta
from pathlib import Path
from random import randint
from time import time as now
from perdure import activity, workflow

from shared import ledger_lock
import queue, shared

counter = 0
_module_lock = threading.Lock()
_guard: threading.RLock = threading.RLock()
_ready = threading.Event()
_items = queue.Queue()
dice = random.Random()

@activity.defn
async def charge(order): ...

def helper():
    return datetime.date.today()

day = datetime.date.today

"""
RIGHT = """
    workflow.logger.info("started")
    await asyncio.sleep(10)
    started = workflow.now(), time.time(), now(), time.gmtime()
    drawn = randint(1, 6), random.randint(1, 6), uuid.uuid4(), random.Random(7).random()
    handle = workflow.start_activity(charge, order, start_to_close_timeout=timedelta(seconds=10))
    await workflow.execute_activity(charge, order, schedule_to_close_timeout=timedelta(seconds=10))
    await workflow.execute_activity(charge, order, **options)
    for item in sorted({1, 2}):
        pass
    while True:
        await workflow.wait_condition(lambda: self.ready)
    try:
        await handle
    except Exception:
        pass
    except BaseException:
        raise
    with workflow.unsafe.sandbox_unrestricted():
        print(dt.now())
        with _module_lock:
            pass
    async with self.lock, shared.lock:
        await asyncio.wait_for(self.lock.acquire(), 10)
        await self.queue_lock.acquire()
    with self.clock, self.block, self.unlocked:
        _ready.set()
    _items.get_nowait()
    print("allowed")  # perdure: ignore[PW108]
    print("allowed")  # perdure: ignore
    return Path("a") / "b"
"""
WRONG = {
    "PW101": "return dt.now()",
    "PW102": "time.sleep(1)",
    "PW103": "return os.urandom(8)",
    "PW104": "return Path('settings.toml').read_text()",
    "PW105": "return requests.get('http://example.com')",
    "PW106": "threading.Thread(target=print).start()",
    "PW107": "return os.environ['HOME']",
    "PW108": "print('step')",
    "PW109": "for item in {1, 2}: pass",
    "PW110": "await asyncio.wait([order])",
    "PW111": "return dice.randint(1, 6)",
    "PW112": "with _module_lock: pass",
    "PW201": "await charge(order)",
    "PW202": "workflow.execute_activity(charge, order, start_to_close_timeout=timedelta(1))",
    "PW203": "await workflow.execute_activity(charge, order)",
    "PW206": "global counter",
    "PW207": "try: await order\nexcept BaseException: pass",
    "PW208": "while True: order += 1",
}
WRONG_CLASSES = {
    "PW204": "@workflow.defn\nclass Order:\n    @workflow.run\n    def run(self): ...\n",
    "PW205": (
        "@workflow.defn\nclass Order:\n    @workflow.run\n    async def run(self): ...\n"
        "    @workflow.query\n    async def state(self): ...\n"
    ),
}


def in_workflow(body: str) -> str:
    """A module with one workflow of this body."""
    method = "    @workflow.run\n    async def run(self, order):\n" + textwrap.indent(
        body.strip("\n"), " " * 8
    )
    return f"{HEAD}@workflow.defn\nclass Order:\n{method}\n"


@pytest.mark.parametrize("code", sorted({*WRONG, *WRONG_CLASSES}))
def test_each_rule_finds_its_mistake_and_says_what_to_do(code: str) -> None:
    source = in_workflow(WRONG[code]) if code in WRONG else HEAD + WRONG_CLASSES[code]
    findings = check_source(source, "orders.py")
    assert [finding.code for finding in findings] == [code]
    assert findings[0].message.endswith(".")
    assert "; " in findings[0].message


def test_every_rule_has_an_example_here() -> None:
    assert {*WRONG, *WRONG_CLASSES} == set(RULES)


def test_the_right_way_is_left_alone() -> None:
    source = in_workflow(textwrap.dedent(RIGHT))
    assert check_source(source) == []


@pytest.mark.parametrize("code", sorted(WRONG))
def test_activities_and_other_code_may_do_what_workflows_may_not(code: str) -> None:
    body = textwrap.indent(WRONG[code], " " * 4)
    assert check_source(f"{HEAD}@activity.defn\nasync def work(order):\n{body}\n") == []


@pytest.mark.parametrize(
    "code",
    [
        "with _guard: pass",
        "_module_lock.acquire()",
        "_module_lock.acquire(timeout=1)",
        "_ready.wait()",
        "_items.get()",
        "with ledger_lock: pass",
        "with shared.lock: pass",
        "with shared.state.account_locks: pass",
        "with self._lock: pass",
        "with self.tableLock as held: pass",
        "if not self._mutex.acquire(False): pass",
    ],
)
def test_locks_of_threads_are_found_also_where_only_their_name_is_known(code: str) -> None:
    """In this module by what they are made of; in another one, or on an object, by their name."""
    findings = check_source(in_workflow(code))
    assert [finding.code for finding in findings] == ["PW112"]
    assert " waits for other threads" in findings[0].message


def test_functions_of_the_module_that_a_workflow_calls_are_checked_once() -> None:
    findings = check_source(in_workflow("helper()\nhelper()"))
    assert [(finding.code, finding.line) for finding in findings] == [
        ("PW101", HEAD.count("\n", 0, HEAD.index("today")) + 1)
    ]


def test_what_a_name_of_the_module_stands_for_is_known() -> None:
    assert [finding.code for finding in check_source(in_workflow("return day()"))] == ["PW101"]


def test_applications_of_the_official_sdk_are_checked_too() -> None:
    source = in_workflow("return dt.now()").replace("from perdure import", "from temporalio import")
    assert [finding.code for finding in check_source(source)] == ["PW101"]


def test_a_file_that_is_not_python_is_one_finding() -> None:
    findings = check_source("def broken(:\n", "broken.py")
    assert [(finding.code, finding.line) for finding in findings] == [("PW000", 1)]


@pytest.mark.parametrize("source", ["x = " + "1 + " * 5000 + "1", "x = " + "-" * 100_000 + "1"])
def test_a_file_that_is_nested_too_deeply_is_one_finding(source: str) -> None:
    """One generated file must not end the check of all the others."""
    assert [finding.code for finding in check_source(source)] in (["PW000"], [])


def test_lines_are_those_of_python_also_behind_a_form_feed() -> None:
    source = in_workflow("return dt.now()  # perdure: ignore")
    assert check_source("\f\n\u2028 = 1\n".replace("\u2028 = 1", "text = '\u2028'") + source) == []


def test_an_editors_lock_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".#orders.py").symlink_to("nowhere")
    (tmp_path / "orders.py").write_text(in_workflow("return dt.now()"))
    assert [finding.code for finding in check_paths([tmp_path])] == ["PW101"]


def test_the_command_prints_findings_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(in_workflow("return dt.now()"))
    (tmp_path / "fine.py").write_text(in_workflow("return 1"))
    result = CliRunner().invoke(root, ["lint", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{tmp_path / 'orders.py'}:")
    assert "PW101 datetime.datetime.now() reads the real clock; use workflow.now()." in result.stdout
    as_json = CliRunner().invoke(root, ["lint", "-o", "json", str(tmp_path)])
    assert [finding["code"] for finding in json.loads(as_json.stdout)] == ["PW101"]


def test_the_command_ends_with_0_when_nothing_is_found_and_with_2_for_a_wrong_path(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text(in_workflow("return 1"))
    assert CliRunner().invoke(root, ["lint", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(root, ["lint", str(tmp_path / "none")]).exit_code == 2


def test_the_command_lists_its_rules() -> None:
    result = CliRunner().invoke(root, ["lint", "--rules"])
    assert result.exit_code == 0
    assert [line[:5] for line in result.stdout.splitlines()] == list(RULES)
