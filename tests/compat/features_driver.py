"""Runs one Python feature of temporalio/features with its own harness, then looks at the histories that it left.

Started by `features_suite.py` in the checkout, with the official SDK's environment: only the standard library, the
SDK and the checkout may be imported here. Writes one JSON document: the outcome, every history, how each replayed.
The SDK's own code for a feature is its harness's; nothing of it lives here.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the harness of the official runner waits for a feature's runs to be closed."""
SKIP_PREFIX: Final = "Skipping feature"


class Watcher(logging.Handler):
    """Keeps what the harness logs about a skip or a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = ""
        self.failure = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of the harness."""
        text = record.getMessage()
        if text.startswith(SKIP_PREFIX):
            self.skipped = text
        if record.exc_info and record.exc_info[1] is not None and record.levelno >= logging.ERROR:
            self.failure = "; ".join(_with_causes(record.exc_info[1]))


def _with_causes(error: BaseException) -> list[str]:
    shown = [f"{type(error).__name__}: {error}"]
    return [*shown, *_with_causes(error.__cause__)] if error.__cause__ else shown


@dataclass
class Report:
    """What the driver writes."""

    outcome: str = "failed"
    message: str = ""
    histories: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def run_feature(given: argparse.Namespace, report: Report) -> None:
    """Let the checkout's harness run the feature."""
    watcher = Watcher()
    logging.getLogger().addHandler(watcher)
    logging.getLogger("harness.python.feature").setLevel(logging.INFO)
    line = ["main", "--server", given.server, "--namespace", given.namespace]
    line += ["--http-proxy-url", given.http_proxy_url] if given.http_proxy_url else []
    sys.argv = [*line, f"{given.feature}:{given.task_queue}"]
    harness = importlib.import_module("harness.python.main")
    try:
        await harness.run()
    except Exception as error:  # whatever a feature raises is its result
        report.message = watcher.failure or repr(error)
        return
    report.outcome = "skipped" if watcher.skipped else "passed"
    report.message = watcher.skipped


async def check_capabilities(given: argparse.Namespace) -> None:
    """Compare the namespace's capabilities with those that the feature's variant expects."""
    from google.protobuf.json_format import MessageToDict
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.client import Client

    expected = json.loads(os.environ.get("FEATURE_NAMESPACE_CAPABILITIES", "{}"))
    client = await Client.connect(given.server, namespace=given.namespace)
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=given.namespace)
    )
    found = MessageToDict(described.namespace_info.capabilities)
    for name, value in expected.items():
        if found.get(name, False) != value:
            raise RuntimeError(f"namespace capability {name} is {found.get(name, False)}, expected {value}")


async def collect_histories(given: argparse.Namespace, started: datetime, report: Report) -> None:
    """Every run on the feature's queue: closed within the bound, its history, and whether that replays."""
    from temporalio.client import Client, WorkflowExecutionStatus
    from temporalio.worker import Replayer

    harness = importlib.import_module("harness.python.feature")
    feature = harness.features[given.feature]
    client = await Client.connect(given.server, namespace=given.namespace)
    earliest = (started - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    query = f"StartTime >= '{earliest}' and TaskQueue = '{given.task_queue}'"
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    while True:
        runs = [each async for each in client.list_workflows(query, page_size=1000)]
        are_open = [each for each in runs if each.status == WorkflowExecutionStatus.RUNNING]
        if (runs and not are_open) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    report.problems += [f"still running: {each.workflow_type}" for each in are_open]
    worker = feature.worker_config
    options = {key: worker[key] for key in ("workflow_runner",) if key in worker}
    replayer = Replayer(workflows=feature.workflows, data_converter=feature.data_converter, **options)
    for each in runs:
        history = await client.get_workflow_handle(each.id, run_id=each.run_id).fetch_history()
        replayed = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if replayed.replay_failure is not None:
            report.problems.append(f"{each.workflow_type} does not replay: {replayed.replay_failure}")
        report.histories.append({"type": each.workflow_type, "events": history.to_json_dict()["events"]})


async def drive(given: argparse.Namespace) -> Report:
    """All of it."""
    report = Report()
    started = datetime.now(UTC)
    try:
        await check_capabilities(given)
    except Exception as error:  # the feature's precondition: its result
        report.message = repr(error)
        return report
    await run_feature(given, report)
    try:
        await collect_histories(given, started, report)
    except Exception as error:  # told beside the feature's result
        report.problems.append(f"histories: {error!r}")
    return report


def main() -> None:
    """Run, write, and leave at once: the SDK's native part can crash an interpreter that ends."""
    parser = argparse.ArgumentParser()
    for name in ("server", "namespace", "http-proxy-url", "feature", "task-queue", "output"):
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    report = asyncio.run(drive(given))
    Path(given.output).write_text(json.dumps(vars(report)), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
