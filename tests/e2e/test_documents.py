"""The tutorial does what it says, command by command; and the documentation is a site without a broken link."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import perdure.contrib

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
EXPLAINED = REPOSITORY / "docs" / "durable-execution.md"
COMMAND_TIMEOUT_S = 90
SITE_TIMEOUT_S = 300
BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)
NOT_PUBLIC = {f"perdure.{inner}" for inner in ("api", "cli", "contrib", "core", "store", "ui")}
NOT_RUN = {
    "mkdir orders && cd orders": "the test has a folder of its own",
    "python3 -m venv .venv && . .venv/bin/activate": "the tests' environment is used",
    "pip install ../perdure pytest": "both are installed, Perdure from this checkout",
}
VARIES = "…"
"""Stands in a line of output for anything."""


def _run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # As a newcomer's shell: what a program does not write, because it dies first, must not be expected.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**plain, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return done.stdout


def _steps(console: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it must print, among others, in this order."""
    steps: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line.strip())
    return steps


@pytest.fixture(scope="module")
def after_the_tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every block of the tutorial was saved or run, from the first to the last."""
    folder = tmp_path_factory.mktemp("tutorial")
    for block in BLOCK.finditer(TUTORIAL.read_text()):
        if block["title"]:
            (folder / block["title"]).write_text(block["text"])
            continue
        assert block["kind"] == "console", f"nobody runs this block: {block['text']}"
        for command, expected in _steps(block["text"]):
            if command in NOT_RUN:
                continue
            printed = _run(command, folder)
            rest = [" ".join(line.split()) for line in printed.splitlines()]
            for line in expected:
                parts = (re.escape(" ".join(part.split())) for part in line.split(VARIES))
                wanted = re.compile(".*".join(parts))
                found = next((number for number, got in enumerate(rest) if wanted.search(got)), None)
                assert found is not None, f"$ {command}\nshould print {line!r}, and printed:\n{printed}"
                del rest[: found + 1]
    return folder


@pytest.mark.timeout(400)
def test_every_block_of_the_tutorial_does_what_it_says(after_the_tutorial: Path) -> None:
    """Files are saved, commands run, and what they print is what the page shows."""
    assert (after_the_tutorial / "orders.db").exists()


@pytest.mark.timeout(400)
def test_the_history_is_the_one_that_is_explained(after_the_tutorial: Path) -> None:
    """The page that goes through the tutorial's history names each of its events, with its number."""
    shown = _run(
        "perdure workflow show --address sqlite:///orders.db --workflow-id order-1", after_the_tutorial
    )
    history = _on_a_fast_machine(re.findall(r"^ +\d+ +\S+ +(\w+)$", shown, re.M))
    explained: list[tuple[str, str]] = []
    for cell in re.findall(r"^\| ([\d, ]+ \w.*?) \|", EXPLAINED.read_text(), re.M):
        numbers, names = re.fullmatch(r"([\d, ]+) (.*)", cell).groups()  # type: ignore[union-attr]  # as found above
        kind, _, ends = names.partition(" ")
        if ends == "…":
            ends = "Scheduled, Started, Completed"
        kinds = [kind + end for end in ends.split(", ")] if ends else [kind]
        explained += list(zip(numbers.split(", "), kinds, strict=True))
    assert history == explained


def _on_a_fast_machine(kinds: list[str]) -> list[tuple[str, str]]:
    """The events, numbered, without the tasks that timed out.

    A task waits ten seconds for the worker that had the run last. That one has ended here, and where the next process
    takes longer to start, the task is scheduled once more.
    """
    kept: list[str] = []
    for kind in kinds:
        if kind == "WorkflowTaskTimedOut":
            kept.pop()
        else:
            kept.append(kind)
    return [(str(number), kind) for number, kind in enumerate(kept, start=1)]


def _public_modules() -> set[str]:
    """Modules that an application imports; one that is new has to get a page, or a line in the table."""
    folders = {"perdure.": perdure.__path__, "perdure.contrib.": perdure.contrib.__path__}
    return {
        prefix + module.name
        for prefix, path in folders.items()
        for module in pkgutil.iter_modules(path)
        if not module.name.startswith("_") and prefix + module.name not in NOT_PUBLIC
    }


def _public_names(module: str) -> set[str]:
    loaded = importlib.import_module(module)
    listed = getattr(loaded, "__all__", None)
    if listed is None:
        listed = [name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == module]
    return {name for name in listed if not name.startswith("_")}


def _is_silent(module: str, name: str) -> bool:
    """Whether a class or function says nothing about itself; a dataclass without words has its signature there."""
    value = getattr(importlib.import_module(module), name)
    if not isinstance(value, type | types.FunctionType):
        return False
    return not value.__doc__ or value.__doc__.startswith(f"{value.__name__}(")


def _check_reference(site: Path) -> None:
    """Every public name of every public module is an entry of the reference."""
    documented = set()
    for page in (REPOSITORY / "docs" / "reference").glob("*.md"):
        html = (site / "reference" / page.stem / "index.html") if page.stem != "index" else None
        for module in re.findall(r"^::: (\S+)$", page.read_text(), re.M):
            assert html is not None
            text = html.read_text()
            missing = [name for name in _public_names(module) if f'id="{module}.{name}"' not in text]
            assert not missing, f"{page.name} lacks {missing} of {module}"
            silent = [name for name in _public_names(module) if _is_silent(module, name)]
            assert not silent, f"{module}: without a docstring: {silent}"
            documented.add(module)
    assert documented >= _public_modules()


@pytest.mark.timeout(400)
def test_the_site_is_built_without_a_warning_and_its_reference_is_complete(tmp_path: Path) -> None:
    """No link that leads nowhere, no page that nobody finds, no public name without its docstring."""
    # The collector is off because of CPython issue 106905, which parsing Python source runs into before 3.11.8.
    command = "import gc; gc.disable(); from mkdocs.__main__ import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", command, "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=SITE_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "tutorial" / "index.html").read_text()
    assert "packing order-1, attempt 2" in page
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page), (
        "a page asks an outside host"
    )
    _check_reference(tmp_path / "site")
