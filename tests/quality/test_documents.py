"""What the README and the other documents name does exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import perdure
from tests.quality import configuration_page

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def _makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?:`|^ {4})make ([a-z]+)", document.read_text(), flags=re.MULTILINE))
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
