"""Type variables and callable protocols that the public signatures of the SDK are written with.

Only names for type checkers live here: nothing that does anything at run time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar

AnyType = TypeVar("AnyType")
"""Anything: the result of a call whose type nobody knows, or an attribute of a caller."""
ClassType = TypeVar("ClassType", bound=type)
"""A class that a decorator takes and gives back."""
SelfType = TypeVar("SelfType")
"""The instance that a method is called on."""
ParamType = TypeVar("ParamType")
"""The single parameter of a workflow, an activity or a handler."""
ReturnType = TypeVar("ReturnType", covariant=True)
"""What a workflow, an activity or a handler returns."""
LocalReturnType = TypeVar("LocalReturnType", covariant=True)
"""What a call returns, where the class around it has a `ReturnType` of its own."""
NexusServiceType = TypeVar("NexusServiceType")
"""A Nexus service: a class decorated with `nexusrpc`."""
CallableType = TypeVar("CallableType", bound=Callable[..., Any])
"""Any function that a decorator takes and gives back."""
CallableAsyncType = TypeVar("CallableAsyncType", bound=Callable[..., Awaitable[Any]])
"""An async function that a decorator takes and gives back."""
CallableSyncOrAsyncType = TypeVar("CallableSyncOrAsyncType", bound=Callable[..., Any | Awaitable[Any]])
"""A function, async or not, that a decorator takes and gives back."""
CallableSyncOrAsyncReturnNoneType = TypeVar(
    "CallableSyncOrAsyncReturnNoneType", bound=Callable[..., Awaitable[None] | None]
)
"""A function, async or not, that returns nothing: a signal handler."""
MultiParamSpec = ParamSpec("MultiParamSpec")
"""The parameters of a function that takes several."""

ProtocolParamType = TypeVar("ProtocolParamType", contravariant=True)
"""`ParamType` in the protocols of this module."""
ProtocolReturnType = TypeVar("ProtocolReturnType", covariant=True)
"""`ReturnType` in the protocols of this module."""
ProtocolSelfType = TypeVar("ProtocolSelfType", contravariant=True)
"""`SelfType` in the protocols of this module."""


class CallableAsyncNoParam(Protocol[ProtocolReturnType]):
    """An async function without parameters."""

    def __call__(self) -> Awaitable[ProtocolReturnType]:
        """Call it."""
        ...


class CallableSyncNoParam(Protocol[ProtocolReturnType]):
    """A function without parameters."""

    def __call__(self) -> ProtocolReturnType:
        """Call it."""
        ...


class CallableAsyncSingleParam(Protocol[ProtocolParamType, ProtocolReturnType]):
    """An async function of one parameter."""

    def __call__(self, __arg: ProtocolParamType) -> Awaitable[ProtocolReturnType]:
        """Call it."""
        ...


class CallableSyncSingleParam(Protocol[ProtocolParamType, ProtocolReturnType]):
    """A function of one parameter."""

    def __call__(self, __arg: ProtocolParamType) -> ProtocolReturnType:
        """Call it."""
        ...


class MethodAsyncNoParam(Protocol[ProtocolSelfType, ProtocolReturnType]):
    """An async method without parameters, taken from its class."""

    def __call__(self, __self: ProtocolSelfType, /) -> Awaitable[ProtocolReturnType]:
        """Call it."""
        ...


class MethodSyncNoParam(Protocol[ProtocolSelfType, ProtocolReturnType]):
    """A method without parameters, taken from its class."""

    def __call__(self, __self: ProtocolSelfType, /) -> ProtocolReturnType:
        """Call it."""
        ...


class MethodAsyncSingleParam(Protocol[ProtocolSelfType, ProtocolParamType, ProtocolReturnType]):
    """An async method of one parameter, taken from its class."""

    def __call__(
        self, __self: ProtocolSelfType, __arg: ProtocolParamType, /
    ) -> Awaitable[ProtocolReturnType]:
        """Call it."""
        ...


class MethodSyncSingleParam(Protocol[ProtocolSelfType, ProtocolParamType, ProtocolReturnType]):
    """A method of one parameter, taken from its class."""

    def __call__(self, __self: ProtocolSelfType, __arg: ProtocolParamType, /) -> ProtocolReturnType:
        """Call it."""
        ...


class MethodSyncOrAsyncNoParam(Protocol[ProtocolSelfType, ProtocolReturnType]):
    """A method without parameters, async or not, taken from its class."""

    def __call__(self, __self: ProtocolSelfType) -> ProtocolReturnType | Awaitable[ProtocolReturnType]:
        """Call it."""
        ...


class MethodSyncOrAsyncSingleParam(Protocol[ProtocolSelfType, ProtocolParamType, ProtocolReturnType]):
    """A method of one parameter, async or not, taken from its class."""

    def __call__(
        self, __self: ProtocolSelfType, __param: ProtocolParamType, /
    ) -> ProtocolReturnType | Awaitable[ProtocolReturnType]:
        """Call it."""
        ...
