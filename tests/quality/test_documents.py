"""What the README and the other documents name does exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import perdure
from tests.quality import configuration_page
from tests.quality.test_cli import understand

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = {
    "make ": "the whole suite, the demo and the benchmarks; the demo has a test of its own",
    "pytest ": "parts of the suite that is running",
    "python -m tests.": "parts of the suite that is running",
    "python tests/compat/": "needs a checkout of another project",
    "python -m benchmarks": "minutes of load on a quiet machine",
    "python -m examples.": "each example has a test that runs it",
    "python manage.py ": "of a project of the reader's; the commands run in the tests of contrib.django",
    "npm ": "run by the test of the NestJS example, with the packages it needs",
    "curl ": "the same requests are made by the tests of the README, the examples and the web UI",
    "perdure ": "start servers, wait for people or act on what a reader has; parsed by the command line below",
}
"""How a command begins that a page shows indented, so that no test runs it as it stands; and why."""
RUN = {
    "tutorial.md": "test_documents",
    "README.md": "test_readme",
    "how-to": "test_guides",
    "operations": "test_guides",
}
"""Pages or folders whose fenced blocks are run, and the module in tests/e2e that does it."""

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
# The page of the commands is made from the commands, whose own test parses their examples.
SHOWING_COMMANDS = [
    *(
        page
        for page in DOCUMENTS
        if page.name not in ("cli.md", "CHANGELOG.md") and page.parent.name != "adr"
    ),
    *sorted((ROOT / "examples").glob("*/README.md")),
]


def _makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", document.read_text(), flags=re.MULTILINE))
    assert named <= _makefile_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "    make demo" in text
    assert "    make test" in text


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == perdure.__version__


def test_the_contract_is_generated_from_one_pinned_release() -> None:
    """Developers test with the release whose descriptors were used, and a rebuild gives the same contract."""
    parsed = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (build_pin,) = (name for name in parsed["build-system"]["requires"] if name.startswith("temporalio"))
    assert re.fullmatch(r"temporalio==[\d.]+", build_pin)
    assert build_pin in parsed["project"]["optional-dependencies"]["dev"]


def test_the_page_of_configuration_keys_is_up_to_date() -> None:
    """Made by `python -m tests.quality.configuration_page`."""
    assert configuration_page.PAGE.read_text() == configuration_page.page()


def _commands(document: Path) -> list[str]:
    """Commands that a page shows as indented text, outside of fences and lists."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"(?:\A|\n)\n((?: {4}\S.*\n)+)", text)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("document", SHOWING_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_document_is_run_or_said_not_to_be(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fenced is run; what is indented begins as the table says, and is at least understood if it is ours."""
    monkeypatch.chdir(ROOT)
    fenced = set(re.findall(r"^ *```(\w+)", document.read_text(), flags=re.MULTILINE))
    if not RUN.keys() & {document.name, document.parent.name}:
        assert fenced <= {"mermaid"}, f"nobody runs the blocks of {document.name}"
    for command in _commands(document):
        if command.startswith(tuple(NOT_RUN)):
            if command.startswith("perdure "):
                understand(shlex.split(command, comments=True)[1:])
            continue
        words = set(command.split()[:1])
        assert not words & {"perdure", "python", "pip", "make", "npm", "curl", "git", "docker"}, command


def test_the_unit_and_the_image_of_the_server_start_a_command_that_exists() -> None:
    """Neither is run by the tests, which have no systemd and no container runtime."""
    page = (ROOT / "docs" / "operations" / "running.md").read_text()
    (unit,) = re.findall(r"^ExecStart=\S+/perdure (.+)$", page, flags=re.MULTILINE)
    (image,) = re.findall(r"^ENTRYPOINT (.+)$", page, flags=re.MULTILINE)
    understand(shlex.split(unit))
    understand(json.loads(image)[1:])
