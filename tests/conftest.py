"""What holds for every test: skips are failures where nothing may be skipped, Hypothesis stays bounded."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.no_skip", "pytester")

# Two cores run everything at once, so a slow example says nothing; the example count is what bounds a test.
settings.register_profile("perdure", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same-examples", settings.get_profile("perdure"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "perdure"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The Makefile looks for serial tests only in files that have the word."""
    for path in {item.path for item in items if item.get_closest_marker("serial")}:
        if not re.search(r"\bserial\b", path.read_text()):
            raise pytest.UsageError(f"{path}: its tests are serial, and it does not say so")


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """A command of `perdure` that a test calls in this process sets logging up for the process, and that stays."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        # Not pytest's own, which come and go with the phases of a test.
        if type(handler) is logging.StreamHandler and handler not in handlers:
            root.removeHandler(handler)


@pytest.fixture
def without_collector() -> Iterator[None]:
    """For tests that parse Python: until 3.11.8 a collection in `ast.parse` that runs Python code breaks its counter.

    What is collected there is garbage of tests that ran before in this process (CPython issue 106905).
    """
    if sys.version_info >= (3, 11, 8):
        yield
        return
    gc.collect()
    gc.disable()
    yield
    gc.enable()
