"""Every rule about our own code holds for every file that is, or is about to be, under version control."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.quality import checks
from tests.quality.allowed_sleeps import ALLOWED_SLEEPS

pytestmark = pytest.mark.usefixtures("without_collector")

ROOT = Path(__file__).resolve().parents[2]
Checker = Callable[[str, str], list[checks.Finding]]

_CODE = ("src/", "tests/", "benchmarks/", "examples/", "build_api/", "hatch_build.py")
_SHIPPED = ("src/", "build_api/", "hatch_build.py")


@cache
def project_files() -> dict[str, str]:
    """Return path and text of every tracked or trackable text file; fail if there are suspiciously few."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    texts = {}
    for name in sorted(set(listed.splitlines())):
        try:
            texts[name] = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # binary, or deleted and not yet committed
    assert len(texts) > 20
    return texts


def _findings(checker: Checker, prefixes: tuple[str, ...], suffix: str = ".py") -> list[checks.Finding]:
    chosen = {
        path: text
        for path, text in project_files().items()
        if path.startswith(prefixes) and path.endswith(suffix)
    }
    assert chosen
    return [finding for path, text in chosen.items() for finding in checker(path, text)]


@pytest.mark.parametrize(
    ("checker", "prefixes"),
    [
        pytest.param(checks.long_file, _CODE, id="files are short"),
        pytest.param(checks.long_functions, _SHIPPED, id="functions are short"),
        pytest.param(checks.impurities, ("src/perdure/core/",), id="the core is pure"),
        pytest.param(checks.set_orders, _SHIPPED, id="nothing is done in the order of a set"),
        pytest.param(checks.asserts, _SHIPPED, id="no assert in shipped code"),
        pytest.param(checks.silent_handlers, _SHIPPED, id="no silent except"),
        pytest.param(checks.missing_docstring, _CODE, id="modules say what lives there"),
    ],
)
def test_code_follows_the_rule(checker: Checker, prefixes: tuple[str, ...]) -> None:
    findings = _findings(checker, prefixes)
    assert not findings, "\n" + "\n".join(map(str, findings))


def test_tests_do_not_sleep() -> None:
    findings = _findings(lambda path, text: checks.sleeps(path, text, ALLOWED_SLEEPS), ("tests/",))
    assert not findings, "\n" + "\n".join(map(str, findings))


def test_every_allowed_sleep_still_exists_and_has_a_reason() -> None:
    for entry, reason in ALLOWED_SLEEPS.items():
        path, _, scope = entry.partition("::")
        assert reason.strip(), entry
        found = checks.sleeps(path, project_files()[path], {})
        assert any(f"sleep in {scope or 'module'}:" in finding.message for finding in found), (
            f"{entry} is not needed"
        )


def test_no_file_names_a_machine() -> None:
    findings = _findings(checks.machine_paths, ("",), suffix="")
    assert not findings, "\n" + "\n".join(map(str, findings))
