"""What the official suite takes from private modules of the official SDK and we have in our own form.

Used by `official_sdk_alias` only. An entry belongs here if the tests behind it are about behaviour: a logger to
listen to, a flag that histories record. What is about the official SDK's own construction stays a stand-in.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import google.protobuf.symbol_database
import grpc_health.v1.health_pb2
import nexusrpc
import official_nexus_equivalents as nexus  # type: ignore[import-not-found]

import perdure.client
import perdure.worker
from perdure.api import registry
from perdure.worker import _build_id, _worker
from perdure.worker.workflow_code.logic_flags import LogicFlag


class OfficialLogicFlag(IntEnum):
    """Our flags under the names that the suite uses."""

    RAISE_ON_CANCELLING_COMPLETED_ACTIVITY = LogicFlag.RAISE_ON_CANCELLING_COMPLETED_ACTIVITY
    PROCESS_WORKFLOW_ACTIVATION_JOBS_AS_SINGLE_BATCH = LogicFlag.SINGLE_BATCH


class _HealthFile:
    """The health service's file as the official SDK has it: younger releases of the library have one RPC more."""

    def __init__(self) -> None:
        descriptor = grpc_health.v1.health_pb2.DESCRIPTOR
        self.package = descriptor.package
        self.name = descriptor.name
        service = descriptor.services_by_name["Health"]
        known = [method for method in service.methods if method.name in ("Check", "Watch")]
        self.services_by_name = {"Health": SimpleNamespace(methods=known)}


def _operation_factory(start: Any) -> tuple[Any, Any]:
    """What makes the handler of a decorated start method, and its operation."""
    factory = getattr(start, "__nexus_operation_factory__", start)
    return factory, nexusrpc.get_operation(factory)


PRIVATE_MODULES: dict[str, dict[str, Any]] = {
    "worker._workflow_instance": {
        "_WorkflowLogicFlag": OfficialLogicFlag,
        "_DEFAULT_ENABLED_WORKFLOW_LOGIC_FLAGS": frozenset(),
        "logger": logging.getLogger("perdure.worker"),
        "UnsandboxedWorkflowRunner": perdure.worker.UnsandboxedWorkflowRunner,
    },
    "nexus._util": {"get_operation_factory": _operation_factory},
    "nexus._link_conversion": nexus.LINK_CONVERSION,
    "nexus._operation_context": nexus.OPERATION_CONTEXT,
    "worker._nexus": nexus.WORKER,
    "client._interceptor": vars(perdure.client),
    "worker._workflow": {"__name__": "perdure.worker"},
    "worker._interceptor": vars(perdure.worker),
    "worker._worker": {**vars(_worker), "load_default_build_id": _build_id.load_default_build_id},
    "bridge.proto.health.v1.health_pb2": {"DESCRIPTOR": _HealthFile()},
}
"""By private module, without `temporalio.`: its names and what they are here."""


def _with_flag(settings: Any, flag: int, enabled: bool) -> Any:
    flags = settings.logic_flags | {int(flag)} if enabled else settings.logic_flags - {int(flag)}
    return dataclasses.replace(settings, logic_flags=flags)


def _set_worker_flag(worker: Any, flag: int, *, enabled: bool) -> None:
    programs = worker._workflow_worker._programs
    programs.settings = _with_flag(programs.settings, flag, enabled)


def _set_replayer_flag(replayer: Any, flag: int, *, enabled: bool) -> None:
    make_programs: Callable[[], Any] = replayer._programs

    def programs_with_flag() -> Any:
        programs = make_programs()
        programs.settings = _with_flag(programs.settings, flag, enabled)
        return programs

    replayer._programs = programs_with_flag


class _Symbols:
    """The symbol database: our messages by name, the others from the default one."""

    def GetSymbol(self, name: str) -> Any:  # noqa: N802 - its name
        """The message class of that full name."""
        if name.startswith("temporal."):
            return registry.message_class(name)
        return _default_symbols().GetSymbol(name)


_default_symbols = google.protobuf.symbol_database.Default


def install() -> None:
    """Give our classes the private methods that the suite calls, and the symbol database our messages."""
    perdure.worker.Worker._set_default_workflow_logic_flag = _set_worker_flag  # type: ignore[attr-defined]
    perdure.worker.Replayer._set_default_workflow_logic_flag = _set_replayer_flag  # type: ignore[attr-defined]
    google.protobuf.symbol_database.Default = _Symbols  # type: ignore[assignment]


def private_module(name: str) -> ModuleType | None:
    """Our form of a private module, by its name without `temporalio.`, or None."""
    names = PRIVATE_MODULES.get(name)
    if names is None:
        return None
    module = ModuleType(f"perdure.{name}")
    vars(module).update(names)
    return module
