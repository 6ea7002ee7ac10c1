"""Runs the Python features of temporalio/features against this server and the real dev server, with their own harness.

A command, not a test: `python -m tests.compat.features_suite CHECKOUT --python VENV/bin/python --output FILE.json`.
CHECKOUT is a checkout of temporalio/features, VENV has the official SDK; none of their code lives here. What their Go
runner does around a feature is done here: dynamic configuration from the feature's variants, namespace capabilities, an
HTTP CONNECT proxy whose tunnels are counted, and the check of histories. They have recorded hardly any for Python, so
that the histories of the two servers are compared with each other, after the same fields have been removed; each must
also replay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from examples.ports import free_port
from tests.compat.connect_proxy import ConnectProxy
from tests.compat.official_suite import STOP_TIMEOUT_S, wait_for_port

DRIVER: Final = Path(__file__).resolve().with_name("features_driver.py")
NAMESPACE: Final = "features"
START_TIMEOUT_S: Final = 60.0
TARGETS: Final = ("real", "perdure")
CAPABILITIES_VARIABLE: Final = "FEATURE_NAMESPACE_CAPABILITIES"

BASE_CONFIG: Final[dict[str, Any]] = dict.fromkeys(
    (
        "system.forceSearchAttributesCacheRefreshOnRead",
        "system.enableActivityEagerExecution",
        "system.enableEagerWorkflowStart",
        "system.enableDeployments",
        "system.enableDeploymentVersions",
        "frontend.enableUpdateWorkflowExecution",
        "frontend.enableUpdateWorkflowExecutionAsyncAccepted",
        "frontend.workerVersioningWorkflowAPIs",
    ),
    True,
)
"""What the official runner gives the dev server that it starts."""

RUN_SPECIFIC: Final = frozenset(
    {
        "eventTime", "taskId", "version", "principal", "runId", "originalExecutionRunId", "firstExecutionRunId",
        "newExecutionRunId", "baseRunId", "newRunId", "identity", "requestId", "workflowId", "activityId", "name",
        "normalName", "workflowExecutionExpirationTime", "historySizeBytes", "workerVersion", "binaryChecksum",
        "sdkMetadata", "meteringMetadata", "deployment", "useWorkflowBuildId", "inheritBuildId", "lastFailure",
        "namespace", "namespaceId", "source", "stackTrace",
        # Not removed by the official runner, whose two runs are of one server and one machine.
        "workerDeploymentName", "encodedAttributes", "protocolInstanceId", "messageId", "acceptedRequestMessageId",
        "updateId", "continuedExecutionRunId", "firstWorkflowTaskBackoff", "links", "parentWorkflowNamespaceId",
        "prevAutoResetPoints",
    }
)  # fmt: skip
"""Fields of events that the official runner removes before it compares histories, and a few more ids."""


@dataclass(frozen=True)
class Job:
    """One feature, or one variant of it."""

    feature: str
    variant: str = ""
    dynamic_config: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, bool] = field(default_factory=dict)
    proxy_tunnels: int = 0

    @property
    def name(self) -> str:
        """As the official runner shows it."""
        return f"{self.feature}#{self.variant}" if self.variant else self.feature


@dataclass
class JobResult:
    """What a feature did against one server."""

    outcome: str = "failed"
    message: str = ""
    seconds: float = 0.0
    histories: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def jobs_of(checkout: Path, select: Sequence[str]) -> list[Job]:
    """The checkout's Python features by name, each variant as a job of its own, those without variants first."""
    found = []
    for path in sorted((checkout / "features").rglob("feature.py")):
        feature = path.parent.relative_to(checkout / "features").as_posix()
        if select and not any(word in feature for word in select):
            continue
        config_path = path.with_name("config.json")
        config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.exists() else {}
        tunnels = config.get("expectUnauthedProxyCount", 0)
        variants = config.get("runVariants", [{"name": ""}])
        found += [
            Job(
                feature, variant["name"], variant.get("dynamicConfig", {}),
                variant.get("expectNamespaceCapabilities", {}), tunnels,
            )
            for variant in variants
        ]  # fmt: skip
    return sorted(found, key=lambda job: (bool(job.variant), job.name))


@contextlib.contextmanager
def running_server(command: str, dynamic_config: dict[str, Any], folder: Path) -> Iterator[str]:
    """A dev server with the runner's configuration; its address."""
    port = free_port()
    line = [command, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    line += ["--namespace", NAMESPACE, "--log-level", "error"]
    for key, value in {**BASE_CONFIG, **dynamic_config}.items():
        line += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    with (folder / f"{port}.log").open("ab") as log:
        process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, process, START_TIMEOUT_S)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_job(given: argparse.Namespace, job: Job, address: str, folder: Path) -> JobResult:
    """Run one feature in a process of its own, never longer than its bound."""
    output = folder / "result.json"
    output.unlink(missing_ok=True)
    line = [str(given.python), str(DRIVER), "--server", address, "--namespace", NAMESPACE]
    line += ["--feature", job.feature, "--task-queue", f"features-{job.name}", "--output", str(output)]
    environment = {**os.environ, CAPABILITIES_VARIABLE: json.dumps(job.capabilities)}
    result = JobResult()
    started = time.monotonic()
    with ConnectProxy() as proxy, (folder / "driver.log").open("wb") as log:
        line += ["--http-proxy-url", f"http://{proxy.address}"]
        try:
            subprocess.run(
                line, cwd=given.checkout, env=environment, timeout=given.timeout,
                stdout=log, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            result.message = f"not done after {given.timeout:.0f} s"
        tunnels = proxy.tunnels
    if output.exists():
        result = JobResult(**json.loads(output.read_text(encoding="utf-8")))
    elif not result.message:
        result.message = (folder / "driver.log").read_text(errors="replace")[-1_000:]
    result.seconds = round(time.monotonic() - started, 1)
    if result.outcome == "passed" and tunnels != job.proxy_tunnels:
        result.outcome = "failed"
        result.message = f"{tunnels} tunnels through the proxy, expected {job.proxy_tunnels}"
    return result


def run_target(given: argparse.Namespace, target: str) -> dict[str, JobResult]:
    """Run every feature against one server; variants have servers of their own."""
    command = given.real_command if target == "real" else given.perdure_command
    results: dict[str, JobResult] = {}
    jobs = jobs_of(given.checkout, given.select)
    with tempfile.TemporaryDirectory(prefix="features-") as name, contextlib.ExitStack() as shared:
        folder = Path(name)
        address = shared.enter_context(running_server(command, {}, folder))
        for job in jobs:
            if job.variant:
                with running_server(command, job.dynamic_config, folder) as own_address:
                    results[job.name] = run_job(given, job, own_address, folder)
            else:
                results[job.name] = run_job(given, job, address, folder)
            result = results[job.name]
            notes = "; ".join(text for text in (result.message, *result.problems) if text)
            print(f"{target:8} {job.name:70} {result.outcome:8} {result.seconds:5.1f} s  {notes}", flush=True)
    return results


def scrubbed(value: Any) -> Any:
    """Events without what differs from run to run."""
    if isinstance(value, dict):
        return {key: scrubbed(each) for key, each in value.items() if key not in RUN_SPECIFIC}
    if isinstance(value, list):
        return [scrubbed(each) for each in value]
    return value


def differing_fields(left: Any, right: Any, path: str = "") -> list[str]:
    """Paths of what differs between two events."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = sorted(left.keys() | right.keys())
        return [
            found
            for name in names
            for found in differing_fields(left.get(name), right.get(name), f"{path}.{name}")
        ]
    return [] if left == right else [path.removeprefix(".")]


def history_difference(real: JobResult, ours: JobResult) -> str:
    """The first difference of two servers' histories of a feature; empty: none."""
    by_type = [sorted(each.histories, key=lambda history: str(history["type"])) for each in (real, ours)]
    if [each["type"] for each in by_type[0]] != [each["type"] for each in by_type[1]]:
        return f"{len(by_type[0])} runs there, {len(by_type[1])} here"
    for left, right in zip(*by_type, strict=True):
        names = [[event["eventType"] for event in each["events"]] for each in (left, right)]
        if names[0] != names[1]:
            at = next(
                (index for index, pair in enumerate(zip(*names, strict=False)) if pair[0] != pair[1]),
                min(map(len, names)),
            )
            shown = [each[at].removeprefix("EVENT_TYPE_") if at < len(each) else "the end" for each in names]
            return f"{left['type']}: event {at + 1} is {shown[0]} there, {shown[1]} here"
        for index, (event, other) in enumerate(zip(left["events"], right["events"], strict=True), 1):
            fields = differing_fields(scrubbed(event), scrubbed(other))
            if fields:
                return f"{left['type']}: event {index}: {', '.join(fields)}"
    return ""


def save(path: Path, results: dict[str, dict[str, JobResult]]) -> None:
    """Write everything as JSON."""
    document = {
        target: {name: asdict(each) for name, each in found.items()} for target, found in results.items()
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Check the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    bin_folder = Path(sys.executable).parent
    parser.add_argument("checkout", type=Path, help="a checkout of temporalio/features")
    parser.add_argument("--python", type=Path, required=True, help="python of an environment with the SDK")
    parser.add_argument("--target", choices=TARGETS, nargs="*", default=TARGETS)
    parser.add_argument("--select", nargs="*", default=(), help="only features whose name has one of these")
    parser.add_argument("--timeout", type=float, default=90.0, metavar="SECONDS", help="of one feature")
    parser.add_argument("--perdure-command", default=str(bin_folder / "perdure"))
    parser.add_argument("--real-command", default=str(bin_folder / "temporal"))
    parser.add_argument("--output", type=Path, default=Path("features.json"))
    given = parser.parse_args(arguments)
    given.checkout, given.python = given.checkout.absolute(), given.python.absolute()
    if not (given.checkout / "harness" / "python").is_dir():
        parser.error(f"{given.checkout} is no checkout of temporalio/features")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the features as asked; exit 0 when ours passes what the real server passes."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    results: dict[str, dict[str, JobResult]] = {}
    for target in given.target:
        results[target] = run_target(given, target)
        save(given.output, results)
    lost = 0
    if len(results) == len(TARGETS):
        for name, real in results["real"].items():
            ours = results["perdure"][name]
            lost += real.outcome == "passed" and ours.outcome != "passed"
            difference = history_difference(real, ours)
            print(f"{name:70} {real.outcome:8} {ours.outcome:8} {difference or 'same history'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
