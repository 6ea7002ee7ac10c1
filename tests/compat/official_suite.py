"""Runs the official Python SDK's own test suite against this server, the real dev server, or both; or on our SDK.

A command, not a test: `python -m tests.compat.official_suite CHECKOUT --python VENV/bin/python [--real]`.
CHECKOUT is a checkout of temporalio/sdk-python at the tag of the release installed in VENV, or with
`--suite samples` one of temporalio/samples-python; none of their code lives here. Each test file runs in a
pytest of its own with a bound on its time; after a test that hangs, the rest of its file runs in another.
Results go to the terminal, to a JSON file and to a Markdown table (passed, failed, skipped by file).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from examples.ports import free_port

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = HERE.parents[1] / "src"
RECORDER: Final = "official_suite_recorder"
ALIAS: Final = "official_sdk_alias"
RESULTS_VARIABLE: Final = "PERDURE_SUITE_RESULTS"
DEV_SERVER_VARIABLE: Final = "PERDURE_SUITE_DEV_SERVER"
TEST_SERVER_VARIABLE: Final = "PERDURE_SUITE_TEST_SERVER"

AI_CONTRIBS: Final = (
    "google_adk_agents", "google_genai", "langgraph", "langsmith", "openai_agents", "strands",
)  # fmt: skip
"""Folders of tests/contrib that test integrations with model providers: no part of the protocol."""

DYNAMIC_CONFIG: Final = (
    "system.forceSearchAttributesCacheRefreshOnRead=true",
    "limit.historyCount.suggestContinueAsNew=50",
    "system.enableEagerWorkflowStart=true",
    "frontend.enableExecuteMultiOperation=true",
    "frontend.workerVersioningWorkflowAPIs=true",
    "frontend.workerVersioningDataAPIs=true",
    "system.enableDeploymentVersions=true",
    "frontend.activityAPIsEnabled=true",
    "frontend.enableCancelWorkerPollsOnShutdown=true",
    "component.nexusoperations.recordCancelRequestCompletionEvents=true",
    "activity.enableStandalone=true",
    "activity.startDelayEnabled=true",
    "history.enableChasm=true",
    "history.enableTransitionHistory=true",
    "history.enableCHASMCallbacks=true",
    "history.enableCHASMSignalBacklinks=true",
    "nexusoperation.enableStandalone=true",
    'system.system.refreshNexusEndpointsMinWait="0s"',
    "history.enableSignalWithStartFromWorkflow=true",
    "history.enableUpdateCallbacks=true",
)
"""What the suite's own configuration gives the dev server that it starts."""


@dataclass(frozen=True)
class Suite:
    """Where a repository has its tests, and how they are told of a server."""

    patterns: tuple[str, ...]
    """Of the names of test files."""
    left_out: tuple[str, ...]
    """Folders that are no part of the protocol."""
    copied: tuple[str, ...]
    """Files and folders that the tests need; none: all."""
    address_option: str


SUITES: Final = {
    "sdk": Suite(
        patterns=("test_*.py",), left_out=AI_CONTRIBS, address_option="-E",
        copied=("tests", "scripts", "pyproject.toml", "CHANGELOG.md", "README.md"),
    ),
    "samples": Suite(
        patterns=("test_*.py", "*_test.py"), left_out=(), address_option="--workflow-environment", copied=(),
    ),
}  # fmt: skip

TESTS_OF_ASSERTIONS: Final = frozenset({"tests/testing/test_workflow.py"})
"""Files that expect pytest's own words for an assertion of a workflow."""

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0
WATCH_INTERVAL_S: Final = 0.5
HANG_FACTOR: Final = 1.5
"""A test that is silent for this many times its time limit has swallowed the limit's exception."""
HANGS_LIMIT: Final = 50
OUTPUT_TAIL: Final = 2_000
"""Characters kept of a process's output."""
ORDERLY_ENDS: Final = frozenset({0, 1, 2, 4, 5})
"""Exit codes of a pytest that got to its end: passed, failed, not collected, called wrongly, nothing to run."""
OUTCOMES: Final = ("passed", "failed", "skipped")


@dataclass
class FileResult:
    """What one test file did: the outcome of each test, and whether its time ran out."""

    file: str
    seconds: float = 0.0
    timed_out: bool = False
    exit_code: int | None = None
    note: str = ""
    server_log: str = ""
    ends: list[str] = field(default_factory=list)
    """How processes ended that a test took with it, each with the end of its output."""
    outcomes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """How many tests of this file ended with `outcome`."""
        return sum(1 for each in self.outcomes.values() if each == outcome)


@dataclass(frozen=True)
class Options:
    """The checked command line."""

    checkout: Path
    python: Path
    targets: tuple[str, ...]
    commands: dict[str, str]
    jobs: int
    test_timeout_s: float
    file_timeout_s: float
    select: tuple[str, ...]
    without: tuple[str, ...]
    keyword: str
    output: Path
    against: Path | None
    own_sdk: bool
    renamed: bool
    suite: Suite


def server_command(command: str, port: int, folder: Path, database: bool) -> list[str]:
    """The command line that starts either server; both take the same flags."""
    line = [command, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    line += ["--log-level", "warn"]
    if database:
        line += ["--db-filename", str(folder / f"{port}.db")]
    for value in DYNAMIC_CONFIG:
        line += ["--dynamic-config-value", value]
    return line


def wait_for_port(port: int, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Return once something accepts on `port`; raise if the process ends or the time runs out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode} while starting")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    raise TimeoutError(f"the server did not accept on port {port} within {timeout_s:.0f} s")


class Server:
    """One server process for one test file: what a file leaves behind can not disturb the next."""

    def __init__(self, target: str, command: str, folder: Path) -> None:
        self._port = free_port()
        self.log_path = folder / f"{self._port}.log"
        line = server_command(command, self._port, folder, database=target != "real")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_port(self._port, self._process, START_TIMEOUT_S)
        except BaseException:  # nobody else knows the process yet
            self.stop()
            raise

    @property
    def address(self) -> str:
        """Where clients connect: host:port."""
        return f"127.0.0.1:{self._port}"

    def death(self) -> str:
        """A note when the server died by itself; empty while it is alive."""
        code = self._process.poll()
        return "" if code is None else f"the server died with exit code {code}"

    def stop(self) -> None:
        """Ask the server to stop; kill it if it does not within the bound."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def test_files(suite: Suite, tests: Path, select: Sequence[str], without: Sequence[str]) -> list[str]:
    """The suite's test files, relative to its root, longest first so that parallel jobs end together."""
    found = [
        path
        for pattern in suite.patterns
        for path in tests.rglob(pattern)
        if not any(part in suite.left_out for part in path.parts)
        and (not select or any(word in str(path.relative_to(tests.parent)) for word in select))
        and not any(word in str(path.relative_to(tests.parent)) for word in without)
    ]
    found.sort(key=lambda path: (-path.stat().st_size, str(path)))
    return [str(path.relative_to(tests.parent)) for path in found]


@contextlib.contextmanager
def suite_copy(suite: Suite, checkout: Path, renamed: bool) -> Iterator[Path]:
    """A folder with only the suite in it, so that `import temporalio` finds the installed release."""
    names = suite.copied or [path.name for path in checkout.iterdir() if path.name != ".git"]
    with tempfile.TemporaryDirectory(prefix="official-suite-") as name:
        folder = Path(name)
        for path in (checkout / each for each in names):
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif path.exists():
                shutil.copy(path, folder / path.name)
        for path in folder.rglob("*.py") if renamed else ():
            path.write_text(
                re.sub(r"\btemporalio\b", "perdure", path.read_text(encoding="utf-8")), encoding="utf-8"
            )
        yield folder


def read_results(path: Path, result: FileResult) -> None:
    """Fold the recorder's lines into `result`; a test that started and never ended counts as failed."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        test, outcome = line["test"], line["outcome"]
        if outcome == "started":
            result.outcomes.setdefault(test, "started")
        elif result.outcomes.get(test) != "failed":
            result.outcomes[test] = outcome
            if outcome != "passed":
                result.messages[test] = line["message"]
    for test, outcome in result.outcomes.items():
        if outcome == "started":
            result.outcomes[test] = "failed"
            result.messages[test] = "the process ended while this test ran"


def run_file(options: Options, root: Path, file: str, target: str) -> FileResult:
    """Run one test file against a fresh server; never longer than the file's bound."""
    result = FileResult(file)
    results_path = root / (file.replace("/", "__") + ".jsonl")
    server = Server(target, options.commands[target], root)
    started = time.monotonic()
    try:
        output = run_pytest(options, root, target, server.address, results_path, result)
        result.note = server.death()
    finally:
        server.stop()
    result.seconds = round(time.monotonic() - started, 1)
    read_results(results_path, result)
    if not result.outcomes:
        result.note = f"{result.note} no test ran: {output}".strip()
    result.server_log = server.log_path.read_text(errors="replace")[-OUTPUT_TAIL:]
    return result


def pytest_environment(options: Options, target: str, results_path: Path) -> dict[str, str]:
    """The environment of the suite's process: where results go, and the program for tests that start a server."""
    python_path = [str(HERE), *([str(SOURCES)] if options.own_sdk or options.renamed else [])]
    command = shutil.which(options.commands[target]) or options.commands[target]
    found = {
        **os.environ, RESULTS_VARIABLE: str(results_path), "PYTHONPATH": os.pathsep.join(python_path),
        DEV_SERVER_VARIABLE: command,
    }  # fmt: skip
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    test_server = Path(command).with_name("perdure-test-server")
    if target == "perdure" and test_server.exists():
        found[TEST_SERVER_VARIABLE] = str(test_server)
    return found


def run_pytest(
    options: Options, root: Path, target: str, address: str, results_path: Path, result: FileResult
) -> str:
    """Run pytest on the result's file, again for the rest of it after a test that ends it; return what it printed."""
    environment = pytest_environment(options, target, results_path)
    line = [str(options.python), "-m", "pytest", *(["-p", ALIAS] if options.own_sdk else []), result.file]
    line += ["-p", RECORDER, options.suite.address_option, address, "-q"]
    line += [f"--timeout={options.test_timeout_s:.0f}", "--tb=short", "-p", "no:cacheprovider"]
    # The SDK's sandbox imports a test's file for every workflow: compiled anew each time, that takes seconds.
    line += [] if result.file in TESTS_OF_ASSERTIONS else ["--assert=plain"]
    if options.keyword:
        line += ["-k", options.keyword]
    deadline = time.monotonic() + options.file_timeout_s
    with tempfile.TemporaryFile() as output:
        for _ in range(HANGS_LIMIT):
            process = subprocess.Popen(
                line, cwd=root, env=environment, start_new_session=True,
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            hung = watch(process, results_path, options.test_timeout_s * HANG_FACTOR, deadline)
            result.exit_code = process.returncode
            result.timed_out = time.monotonic() >= deadline
            if result.timed_out or (not hung and process.returncode in ORDERLY_ENDS):
                break
            if not hung:
                result.ends.append(f"exit code {process.returncode}: {tail(output)}")
        return tail(output)


def tail(output: IO[bytes]) -> str:
    """The end of what was written so far."""
    output.seek(0)
    return output.read().decode(errors="replace")[-OUTPUT_TAIL:]


def watch(
    process: subprocess.Popen[bytes], results_path: Path, hang_timeout_s: float, deadline: float
) -> bool:
    """Wait for the process; kill it when no test began or ended for so long, or at the deadline. True if killed."""
    size, changed = -1, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(WATCH_INTERVAL_S)
            return False
        now = time.monotonic()
        grown = results_path.stat().st_size if results_path.exists() else 0
        if grown != size:
            size, changed = grown, now
        if now - changed > hang_timeout_s or now > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True


def run_target(options: Options, target: str) -> list[FileResult]:
    """Run the whole suite against one server; print a line per file as it ends."""
    with (
        suite_copy(options.suite, options.checkout, options.renamed) as root,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        files = test_files(options.suite, root / "tests", options.select, options.without)
        print(f"{target}: {len(files)} files", flush=True)
        results: list[FileResult] = []
        pending = [pool.submit(run_file, options, root, file, target) for file in files]
        for done in concurrent.futures.as_completed(pending):
            result = done.result()
            results.append(result)
            print(row_text(result), flush=True)
            save(options, target, results)
    return sorted(results, key=lambda each: each.file)


def row_text(result: FileResult) -> str:
    """One terminal line about a finished file."""
    counts = " ".join(f"{name} {result.count(name):3d}" for name in OUTCOMES)
    late = "  TIMED OUT" if result.timed_out else ""
    note = f"  ({result.note.splitlines()[0]})" if result.note else ""
    return f"{result.file:78} {counts} {result.seconds:7.1f} s{late}{note}"


def totals(results: Sequence[FileResult]) -> dict[str, int]:
    """Passed, failed and skipped over all files."""
    return {name: sum(result.count(name) for result in results) for name in OUTCOMES}


def save(options: Options, target: str, results: Sequence[FileResult]) -> None:
    """Write this target's results as JSON (also while the run is under way)."""
    path = output_path(options, target)
    document = {
        "target": target,
        "totals": totals(results),
        "files": {result.file: asdict(result) for result in sorted(results, key=lambda each: each.file)},
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")


def output_path(options: Options, target: str) -> Path:
    """OUTPUT with the target in its name when more than one server is run."""
    if len(options.targets) == 1:
        return options.output
    return options.output.with_name(f"{options.output.stem}.{target}{options.output.suffix}")


def load(path: Path) -> list[FileResult]:
    """Read results that `save` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [FileResult(**each) for each in document["files"].values()]


def markdown(ours: Sequence[FileResult], reference: Sequence[FileResult] | None) -> str:
    """The table by file; with a reference, also its passes and the tests that only the reference passes."""
    known = {result.file: result for result in reference or ()}
    head = ["file", *OUTCOMES] + (["reference passed", "only the reference passes"] if known else [])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lost: list[str] = []
    for result in ours:
        cells = [result.file, *(str(result.count(name)) for name in OUTCOMES)]
        if known:
            other = known.get(result.file, FileResult(result.file))
            missing = sorted(
                test
                for test, outcome in other.outcomes.items()
                if outcome == "passed" and result.outcomes.get(test) != "passed"
            )
            lost += missing
            cells += [str(other.count("passed")), str(len(missing))]
        lines.append("| " + " | ".join(cells) + " |")
    sums = totals(ours)
    cells = ["**all**", *(str(sums[name]) for name in OUTCOMES)]
    if known:
        cells += [str(totals(list(known.values()))["passed"]), str(len(lost))]
    lines.append("| " + " | ".join(cells) + " |")
    if lost:
        lines += ["", "Passed by the reference only:", "", *(f"- `{test}`" for test in lost)]
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: Sequence[str]) -> Options:
    """Check the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="a checkout of the suite's repository")
    parser.add_argument("--suite", choices=SUITES, default="sdk", help="which repository the checkout is of")
    parser.add_argument("--python", type=Path, required=True, help="python of the suite's environment")
    parser.add_argument("--real", action="store_true", help="run against the real dev server only")
    parser.add_argument(
        "--own-sdk", action="store_true",
        help="run the suite on Perdure's SDK: `temporalio` means `perdure` (VENV needs Perdure's dependencies)",
    )  # fmt: skip
    parser.add_argument(
        "--renamed", action="store_true",
        help="run programs whose every `temporalio` was replaced by `perdure` (VENV needs Perdure's dependencies)",
    )  # fmt: skip
    parser.add_argument("--both", action="store_true", help="run against both and compare")
    bin_folder = Path(sys.executable).parent
    parser.add_argument("--perdure-command", default=str(bin_folder / "perdure"))
    parser.add_argument("--real-command", default=str(bin_folder / "temporal"))
    parser.add_argument("--jobs", type=int, default=1, help="test files run at the same time")
    parser.add_argument("--test-timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--file-timeout", type=float, default=900.0, metavar="SECONDS")
    parser.add_argument("--select", nargs="*", default=(), help="only files whose path has one of these")
    parser.add_argument("--without", nargs="*", default=(), help="no files whose path has one of these")
    parser.add_argument("--keyword", default="", help="only tests whose name matches (pytest's -k)")
    parser.add_argument("--output", type=Path, default=Path("official_suite.json"))
    parser.add_argument("--against", type=Path, help="an earlier JSON result to compare with")
    given = parser.parse_args(arguments)
    targets = ("real", "perdure") if given.both else (("real",) if given.real else ("perdure",))
    if not (given.checkout / "tests").is_dir():
        parser.error(f"{given.checkout} has no tests folder")
    return Options(
        checkout=given.checkout, python=given.python.absolute(), targets=targets,
        commands={"perdure": given.perdure_command, "real": given.real_command},
        jobs=given.jobs, test_timeout_s=given.test_timeout, file_timeout_s=given.file_timeout,
        select=tuple(given.select), without=tuple(given.without), keyword=given.keyword,
        output=given.output, against=given.against,
        own_sdk=given.own_sdk, renamed=given.renamed, suite=SUITES[given.suite],
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as asked; exit 0 when every test that the reference passes (or every test) passed."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    reference = load(options.against) if options.against else None
    table = ""
    results: list[FileResult] = []
    for target in options.targets:
        results = run_target(options, target)
        save(options, target, results)
        table = markdown(results, reference)
        if target == "real":
            reference = results
    options.output.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    print(f"{options.targets[-1]}: {totals(results)}")
    if reference is None or options.targets == ("real",):
        return 0 if totals(results)["failed"] == 0 else 1
    return 1 if "Passed by the reference only" in table else 0


if __name__ == "__main__":
    sys.exit(main())
