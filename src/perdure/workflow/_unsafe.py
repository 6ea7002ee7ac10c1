"""What workflow code may ask about its execution in advanced cases; the sandbox's switches, which do nothing here.

There is no sandbox: modules are not imported again, so nothing has to be passed through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import Flag, auto

from perdure.workflow._runtime import _Runtime

_sandbox_unrestricted = threading.local()
_in_sandbox = threading.local()
_imports_passed_through = threading.local()
_sandbox_import_notification_policy_override = threading.local()


class SandboxImportNotificationPolicy(Flag):
    """What a sandbox would say about imports. Accepted so that code moves over unchanged."""

    SILENT = auto()
    WARN_ON_DYNAMIC_IMPORT = auto()
    WARN_ON_UNINTENTIONAL_PASSTHROUGH = auto()
    RAISE_ON_UNINTENTIONAL_PASSTHROUGH = auto()


class unsafe:  # noqa: N801 - the public name
    """Functions for advanced cases, in a namespace of their own."""

    def __init__(self) -> None:
        """Never called.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    @staticmethod
    def in_sandbox() -> bool:
        """False: there is no sandbox."""
        return getattr(_in_sandbox, "value", False)

    @staticmethod
    def _set_in_sandbox(v: bool) -> None:
        _in_sandbox.value = v

    @staticmethod
    def is_replaying() -> bool:
        """Whether history already says what the code does; also in a query or a validator during replay."""
        return _Runtime.current().is_replaying()

    @staticmethod
    def is_replaying_history_events() -> bool:
        """Whether history already says what the code does; False in queries and validators, which are live."""
        return _Runtime.current().is_replaying_history_events()

    @staticmethod
    def is_read_only() -> bool:
        """Whether the code may not change anything now, as in queries and validators."""
        return _Runtime.current().is_read_only()

    @staticmethod
    def is_sandbox_unrestricted() -> bool:
        """Whether the code is inside `sandbox_unrestricted`."""
        return getattr(_sandbox_unrestricted, "value", False)

    @staticmethod
    @contextmanager
    def sandbox_unrestricted() -> Iterator[None]:
        """Lifts the guards against calls that break replay, for code that knows better."""
        runtime = _Runtime.maybe_current()
        with _flag_set(_sandbox_unrestricted), nullcontext() if runtime is None else runtime.unguarded():
            yield

    @staticmethod
    def is_imports_passed_through() -> bool:
        """Whether the code is inside `imports_passed_through`."""
        return getattr(_imports_passed_through, "value", False)

    @staticmethod
    @contextmanager
    def imports_passed_through() -> Iterator[None]:
        """Does nothing: imports are never repeated."""
        with _flag_set(_imports_passed_through):
            yield

    @staticmethod
    def current_import_notification_policy_override() -> SandboxImportNotificationPolicy | None:
        """What `sandbox_import_notification_policy` set, if anything."""
        return getattr(_sandbox_import_notification_policy_override, "value", None)

    @staticmethod
    @contextmanager
    def sandbox_import_notification_policy(policy: SandboxImportNotificationPolicy) -> Iterator[None]:
        """Remembers the policy, and does nothing else."""
        before = unsafe.current_import_notification_policy_override()
        _sandbox_import_notification_policy_override.value = policy
        try:
            yield
        finally:
            _sandbox_import_notification_policy_override.value = before


@contextmanager
def _flag_set(flag: threading.local) -> Iterator[None]:
    before = getattr(flag, "value", False)
    flag.value = True
    try:
        yield
    finally:
        flag.value = before
