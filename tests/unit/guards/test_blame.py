"""What a refusal says: the call that left the user's code, with the user's line, whatever a library came to inside."""

from __future__ import annotations

import email.utils
import http.client
import inspect
import logging
import os
import sys
import sysconfig
import types
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError
from tests.unit.guards.test_guards import Run

_PACKAGES = sysconfig.get_path("purelib")
_SOURCE = """
import os

def stamp():
    return os.urandom(4)

class Account:
    def __init__(self):
        self.limit = os.environ.get("LIMIT_OF_NOBODY", "none")

def decorated():
    def hidden():
        return os.environ.get("LIMIT_OF_NOBODY", "none")
    return hidden

hidden = decorated()

def call(function):
    return function()
"""


def _module(name: str, folder: str, source: str = _SOURCE) -> Any:
    module = types.ModuleType(name)
    file = Path(folder, *name.split(".")).with_suffix(".py")
    exec(compile(source, str(file), "exec"), vars(module))  # noqa: S102 - ours
    return module


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed package whose functions are defined in a module of its own, as most are."""
    guards.install()
    inner = _module("ledgers.api", _PACKAGES)
    outer = types.ModuleType("ledgers")
    outer.stamp = inner.stamp  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ledgers", outer)
    monkeypatch.setitem(sys.modules, "ledgers.api", inner)
    yield inner
    guards.leave()


def _refusal(function: Callable[[], Any], run: Run | None = None) -> RestrictedWorkflowAccessError:
    with pytest.raises(RestrictedWorkflowAccessError) as raised:
        _in_workflow(function, run)
    return raised.value


def _in_workflow(function: Callable[[], Any], run: Run | None = None) -> Any:
    guards.enter(run or Run())
    try:
        return function()
    finally:
        guards.leave()


URL = "http://127.0.0.1:1/"
NETWORK: dict[str, Callable[[], Any]] = {
    "requests.get()": lambda: requests.get(URL, timeout=1),
    "requests.Session.get()": lambda: requests.Session().get(URL),
    "urllib.request.urlopen()": lambda: urllib.request.urlopen(URL),
    "http.client.HTTPConnection.request()": lambda: http.client.HTTPConnection("127.0.0.1", 1).request("GET", "/"),
}  # fmt: skip


@pytest.mark.parametrize("called", NETWORK)
def test_a_call_of_the_network_is_called_that(package: Any, called: str) -> None:
    """Libraries read the settings of proxies first, and that is not what the user did."""
    error = _refusal(NETWORK[called])
    assert error.qualified_name == called
    assert f"{called} in workflow code uses the network (it was stopped at " in str(error)
    assert f"Called at {__file__}:{NETWORK[called].__code__.co_firstlineno} in " in str(error)
    assert "Instead: call the network in an activity." in str(error)


def test_a_package_is_named_by_its_public_name_and_then_what_it_came_to(package: Any) -> None:
    error = _refusal(lambda: package.stamp())
    assert str(error).startswith("ledgers.stamp() in workflow code comes to os.urandom: ")
    assert error.file == __file__
    assert "Instead: workflow.random()" in str(error)


@pytest.mark.parametrize(
    ("function", "called"),
    [("Account", "ledgers.api.Account()"), ("hidden", "A call of ledgers")],
    ids=["a constructor", "a function without a public name"],
)
def test_other_things_of_a_package_have_a_name_too(package: Any, function: str, called: str) -> None:
    error = _refusal(lambda: getattr(package, function)())
    assert str(error).startswith(f"{called} in workflow code comes to os.environ: ")
    assert error.file == __file__


def test_what_the_standard_library_comes_to_inside_one_module_is_not_said() -> None:
    guards.install()
    assert str(_refusal(lambda: os.getenv("HOME"))).startswith("os.getenv() in workflow code: ")
    message_id = str(_refusal(lambda: email.utils.make_msgid()))
    assert message_id.startswith("email.utils.make_msgid() in workflow code comes to os.getpid: ")


def test_a_function_that_a_package_calls_back_is_the_users_own(package: Any) -> None:
    """The innermost line of the user's is the one at fault."""
    error = _refusal(lambda: package.call(_draw))
    assert str(error).startswith("os.urandom in workflow code: ")
    assert error.line == inspect.getsourcelines(_draw)[1] + 1


def _draw() -> bytes:
    return os.urandom(1)


def test_an_application_that_is_installed_is_the_users_own(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images install the application beside its libraries; the package of a workflow is the user's."""
    source = "import ledgers.api\nclass Flow:\n    def run(self):\n        return ledgers.api.stamp()\n"
    monkeypatch.setattr(sys.modules["ledgers"], "api", package, raising=False)
    application = _module("shop.flows", _PACKAGES, source)
    monkeypatch.setitem(sys.modules, "shop.flows", application)
    guards.watch(application.Flow)
    error = _refusal(application.Flow().run)
    assert error.qualified_name == "ledgers.stamp()"
    assert (Path(error.file).name, error.line) == ("flows.py", 4)


def test_what_a_module_that_is_passed_through_calls_in_other_packages_is_its_own_affair(package: Any) -> None:
    """A library that reports errors sends them by another one."""
    reporter = _module("reporter.send", _PACKAGES, "def send(how):\n    return how()\n")
    account = lambda: reporter.send(package.Account)  # noqa: E731
    assert _in_workflow(account, Run(permits=guards.Permits(modules=("reporter.",)))).limit == "none"
    assert _refusal(account).qualified_name == "A call of reporter"


def test_handlers_of_the_log_may_do_what_they_like(package: Any) -> None:
    """A formatter of an installed package draws an id."""
    source = (
        "import os, logging\nclass Stamping(logging.Handler):\n    last = None\n"
        "    def emit(self, record):\n        self.last = os.urandom(4)\n"
    )
    handler = _module("stamping", _PACKAGES, source).Stamping()
    logger = logging.getLogger("tests.blame")
    logger.addHandler(handler)
    try:
        _in_workflow(lambda: logger.warning("hello"))
    finally:
        logger.removeHandler(handler)
    assert handler.last is not None


def test_a_package_that_is_imported_late_may_read_its_settings(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it might if it were imported at the top."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "settled_late.py").write_text("import os\nHOME = os.environ.get('HOME_OF_NOBODY', 'none')\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "settled_late", raising=False)
    assert _in_workflow(lambda: __import__("settled_late")).HOME == "none"
    monkeypatch.delitem(sys.modules, "settled_late")
