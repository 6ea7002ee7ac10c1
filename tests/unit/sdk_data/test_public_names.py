"""An application moves over by changing its imports: names, signatures, fields and numbers are the official ones."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

MODULES = ("common", "exceptions", "types", "converter", "contrib.pydantic", "plugin")

# Imported into the official modules, and no part of what they offer.
NOT_OFFERED = {"logger"}

OTHER_NAMES = {
    "common": (
        "MetricAttributes",
        "SearchAttributeValue",
        "SearchAttributeValueType",
        "SearchAttributeValues",
        "SearchAttributes",
        "_arg_unset",
        "_arg_or_args",
        "_apply_headers",
        "_type_hints_from_func",
        "_warn_on_deprecated_search_attributes",
        "_CompositeEvent",
    )
}


def _module(package: str, name: str) -> ModuleType:
    return importlib.import_module(f"{package}.{name}")


def _public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in NOT_OFFERED
        and getattr(value, "__module__", None) == module.__name__
    ]


def _cases() -> Iterator[Any]:
    for name in MODULES:
        official = _module("temporalio", name)
        for public in (*_public_names(official), *OTHER_NAMES.get(name, ())):
            yield pytest.param(name, public, id=f"{name}.{public}")


CASES = tuple(_cases())


def _parameters(function: Any) -> list[tuple[str, Any, bool]]:
    """Return name, kind and whether there is a default, for each parameter."""
    return [
        (parameter.name, parameter.kind, parameter.default is not inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]


def _members(owner: type) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith(("temporalio", "perdure")):
            members.update(vars(base))
    return {name: value for name, value in members.items() if not name.startswith("_")}


@pytest.mark.parametrize(("module_name", "name"), CASES)
def test_a_public_name_has_the_official_shape(module_name: str, name: str) -> None:
    official = getattr(_module("temporalio", module_name), name)
    ours = getattr(_module("perdure", module_name), name)
    if inspect.isfunction(official):
        # The official function of headers takes a container of protobuf under the same names.
        assert _parameters(ours) == _parameters(official)
    if not inspect.isclass(official):
        return
    if issubclass(official, enum.Enum):
        assert {member.name: member.value for member in ours} == {
            member.name: member.value for member in official
        }
        return
    has_signature = inspect.isfunction(official.__init__) or inspect.isfunction(official.__new__)
    if has_signature and not getattr(official, "_is_protocol", False):
        assert _parameters(ours) == _parameters(official)
    if dataclasses.is_dataclass(official):
        assert [field.name for field in dataclasses.fields(ours) if not field.name.startswith("_")] == [
            field.name for field in dataclasses.fields(official) if not field.name.startswith("_")
        ]
    our_members = _members(ours)
    for member_name, member in _members(official).items():
        assert member_name in our_members
        our_member = inspect.unwrap(inspect.getattr_static(ours, member_name))
        assert isinstance(member, property) == isinstance(our_member, property)
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            our_function = getattr(our_member, "__func__", our_member)
            assert inspect.iscoroutinefunction(our_function) == inspect.iscoroutinefunction(function)
            assert _parameters(our_function) == _parameters(function), member_name


@pytest.mark.parametrize(("module_name", "name"), CASES)
def test_an_error_has_the_official_bases(module_name: str, name: str) -> None:
    official = getattr(_module("temporalio", module_name), name)
    if not (inspect.isclass(official) and issubclass(official, BaseException)):
        return
    ours = getattr(_module("perdure", module_name), name)
    assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in official.__mro__]
