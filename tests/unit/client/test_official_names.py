"""Names of the official SDK that an application may use: what modules, classes and functions of ours lack."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import temporalio

MISSING: dict[str, set[str]] = {
    "activity": set(),
    "client": set(),
    "common": set(),
    "contrib.opentelemetry": set(),
    "contrib.opentelemetry.workflow": set(),
    "contrib.pydantic": set(),
    "contrib.workflow_streams": set(),
    "converter": set(),
    "envconfig": set(),
    "exceptions": set(),
    "nexus": set(),
    "nexus.system": set(),
    "plugin": set(),
    "runtime": set(),
    "service": set(),
    "testing": set(),
    "types": set(),
    "worker": set(),
    "worker.workflow_sandbox": set(),
    "workflow": set(),
}
"""What no module of ours offers yet; `docs/compatibility.md` names it too. Type variables of signatures are no loss."""

MISSING_MEMBERS: dict[str, set[str]] = {
    # Between the official worker and its native part, which ours does not have.
    "plugin.WorkflowRunner": {"create_instance"},
    "worker.UnsandboxedWorkflowRunner": {"create_instance"},
    "worker.WorkflowRunner": {"create_instance"},
    "worker.WorkflowInstance": {
        "activate",
        "get_external_store_context",
        "get_info",
        "get_serialization_context",
        "get_thread_id",
    },
    "worker.WorkflowInstanceDetails": {
        "default_workflow_logic_flags",
        "defn",
        "disable_eager_activity_execution",
        "extern_functions",
        "failure_converter_class",
        "info",
        "interceptor_classes",
        "last_completion_result",
        "last_failure",
        "patch_activation_callback",
        "payload_converter_factory",
        "randomness_seed",
        "worker_level_failure_exception_types",
    },
    # `signal_with_start_workflow` goes through `start_nexus_operation`.
    "worker.WorkflowOutboundInterceptor": {
        "start_signal_with_start_workflow",
        "start_system_nexus_operation",
    },
    # Asked by the sandbox itself, which ours does not have; what an application configures is there.
    "worker.workflow_sandbox.RestrictedWorkflowAccessError": {
        "default_message",
        "__init__(override_message)",
    },
    "worker.workflow_sandbox.SandboxMatcher": {"access_matcher", "child_matcher", "match_access"},
    "worker.workflow_sandbox.SandboxedWorkflowRunner": {"create_instance"},
}
"""What classes of ours lack: methods, attributes, fields, and parameters as `method(parameter)`."""

MISSING_PARAMETERS: dict[str, set[str]] = {}
"""What functions of ours do not take."""

_OTHER_MODULES = {
    "contrib.aws",
    "contrib.deepagents",
    "contrib.gcp",
    "contrib.google_adk_agents",
    "contrib.google_genai",
    "contrib.langgraph",
    "contrib.langsmith",
    "contrib.openai_agents",
    "contrib.strands",
    "nexus.notifications",
    "nexus.system.workflow_service",
}
"""Modules that have no counterpart here: bindings to products of others, and what is generated from services.

The one operation of the server's own service is `workflow.signal_with_start_workflow`.
"""


def _public_names(module: ModuleType) -> set[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return {name for name in listed if not name.startswith("_")}
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and str(getattr(value, "__module__", "")).startswith("temporalio")
        and not isinstance(value, typing.TypeVar | typing.ParamSpec)
        and not (typing.get_origin(value) or isinstance(value, ModuleType))
    }


def _both(name: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"temporalio.{name}"), importlib.import_module(f"perdure.{name}")


@pytest.mark.parametrize("name", MISSING)
def test_what_a_module_lacks_is_known(name: str) -> None:
    """A name that is there now has to leave the table, and one that a release of the official SDK adds has to enter."""
    official, ours = _both(name)
    lacking = {public for public in _public_names(official) if not hasattr(ours, public)}
    assert lacking == MISSING[name]


def test_every_public_module_is_compared_or_has_no_counterpart() -> None:
    """A module that a release of the official SDK adds has to enter one of the tables."""
    found = set()
    for module in pkgutil.walk_packages(temporalio.__path__, "temporalio.", onerror=lambda _: None):
        name = module.name.removeprefix("temporalio.")
        is_private = any(part.startswith("_") for part in name.split("."))
        if not is_private and name.split(".")[0] not in ("api", "bridge"):
            found.add(name)
    others = {name for name in found if any(f"{name}.".startswith(f"{other}.") for other in _OTHER_MODULES)}
    assert found - others - {"contrib"} == set(MISSING)


def _parameters(function: Any) -> tuple[set[str], bool]:
    """Names of the parameters of a function and its overloads; whether it takes any others."""
    try:
        variants = typing.get_overloads(function)
    except AttributeError:
        variants = []
    names: set[str] = set()
    takes_any = False
    for variant in [*variants, function]:
        try:
            parameters = inspect.signature(variant).parameters.values()
        except (TypeError, ValueError):
            continue
        takes_any |= any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names |= {
            parameter.name
            for parameter in parameters
            if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        }
    return {name for name in names if not name.startswith("_") and name not in ("self", "cls")}, takes_any


def _lacking_parameters(official: Callable[..., Any], ours: Callable[..., Any]) -> set[str]:
    known, takes_any = _parameters(ours)
    return set() if takes_any else _parameters(official)[0] - known


def _members(cls: type) -> Iterator[str]:
    for name in dir(cls):
        if name == "__init__" or not name.startswith("_"):
            yield name
    if dataclasses.is_dataclass(cls):
        yield from (field.name for field in dataclasses.fields(cls) if not field.name.startswith("_"))
    yield from (name for name in getattr(cls, "__annotations__", ()) if not name.startswith("_"))


def _has(cls: type, name: str) -> bool:
    if hasattr(cls, name) or any(name in getattr(base, "__annotations__", ()) for base in cls.__mro__):
        return True
    return dataclasses.is_dataclass(cls) and name in {field.name for field in dataclasses.fields(cls)}


def _lacking_members(official: type, ours: type) -> set[str]:
    lacking: set[str] = set()
    for name in set(_members(official)):
        if issubclass(official, enum.Enum) and name in ("name", "value"):
            continue
        if not _has(ours, name):
            lacking.add(name)
            continue
        theirs, own = getattr(official, name, None), getattr(ours, name, None)
        is_own = name != "__init__" or "__init__" in vars(official)
        if is_own and callable(theirs) and callable(own) and not isinstance(theirs, type):
            missing = _lacking_parameters(theirs, own)
            lacking |= {f"{name}({parameter})" for parameter in missing}
    return lacking


@pytest.mark.parametrize("name", [name for name in MISSING if name != "types"])
def test_what_classes_and_functions_lack_is_known(name: str) -> None:
    """Members, fields, and parameters by name: what a call of the official SDK says has to be understood."""
    official, ours = _both(name)
    for public in sorted(_public_names(official)):
        theirs, own = getattr(official, public), getattr(ours, public, None)
        place = f"{name}.{public}"
        if own is None:
            continue
        if isinstance(theirs, type):
            is_made_by_name = name == "service" and public.endswith(
                "Service"
            )  # one method per RPC, when asked
            if isinstance(own, type) and not is_made_by_name:
                assert _lacking_members(theirs, own) == MISSING_MEMBERS.get(place, set()), place
        elif callable(theirs):
            assert _lacking_parameters(theirs, own) == MISSING_PARAMETERS.get(place, set()), place


@pytest.mark.parametrize(
    "name",
    [
        f"{verb}_{what}"
        for verb in ("start", "execute")
        for what in (
            "activity", "activity_class", "activity_method", "local_activity", "local_activity_class",
            "local_activity_method", "child_workflow",
        )
    ],
)  # fmt: skip
def test_tools_see_each_option_of_a_function_of_workflows(name: str) -> None:
    """`inspect.signature` names what the official one names, with its defaults: code that asks for them moves over."""
    official, ours = _both("workflow")
    seen = inspect.signature(getattr(ours, name)).parameters
    named = inspect.signature(getattr(official, name)).parameters
    assert set(named) <= set(seen)
    for option in set(named) - {"arg", "args"}:
        assert repr(seen[option].default) == repr(named[option].default), option
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in seen.values())
