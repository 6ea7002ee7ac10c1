"""What needs a library that not everybody installs says so; everything else works without it."""

from __future__ import annotations

import subprocess
import sys

_IMPORT_EVERYTHING = """
import importlib, pkgutil, sys

for library in (
    "django", "nexusrpc", "opentelemetry", "prometheus_client", "pydantic", "pytest", "temporalio", "uvloop"
):
    sys.modules[library] = None

import perdure

for module in pkgutil.walk_packages(perdure.__path__, "perdure.", onerror=lambda name: None):
    if module.name.startswith("perdure.api.") and module.name != "perdure.api.registry":
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error, sep=": ")
"""

_ANSWER = """\
perdure.contrib.django: perdure.contrib.django needs Django: pip install 'perdure[django]'
perdure.contrib.opentelemetry: perdure.contrib.opentelemetry needs OpenTelemetry: pip install 'perdure[opentelemetry]'
perdure.contrib.pydantic: perdure.contrib.pydantic needs Pydantic 2: pip install 'perdure[pydantic]'
perdure.nexus: perdure.nexus needs the package nexus-rpc: pip install 'perdure[nexus]'
perdure.testing.pytest_plugin: import of pytest halted; None in sys.modules
perdure.worker._nexus_errors: import of nexusrpc halted; None in sys.modules
perdure.worker._nexus_worker: import of nexusrpc halted; None in sys.modules
"""


def test_only_what_needs_an_optional_library_fails_without_it_and_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_EVERYTHING], capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.stdout, done.returncode) == (_ANSWER, 0), done.stderr
