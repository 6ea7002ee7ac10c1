"""The sandbox's names, without a sandbox: code that mentions them moves over unchanged.

The official worker imports every workflow module again for each run, behind proxies, to catch what would break replay.
Perdure catches it where it happens: `asyncio.sleep`, the loop's clock, `random`, `uuid.uuid4` and `time.time` are
deterministic in workflow code, and other calls with effects raise an error that names the call, its line and what to do
instead. So modules are imported once, `isinstance` works, a debugger shows the user's own objects, and there is nothing
to pass through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perdure.worker._runners import WorkflowRunner
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError


class UnintentionalPassthroughError(RuntimeError):
    """Never raised: there is no sandbox. Kept for `except` clauses."""


@dataclass(frozen=True)
class SandboxMatcher:
    """Names inside modules; has no effect.

    Attributes:
        access: Names that must not be accessed.
        use: Names that must not be used.
        children: Matchers for the members of a name.
    """

    access: frozenset[str] | set[str] = frozenset()
    use: frozenset[str] | set[str] = frozenset()
    children: Mapping[str, SandboxMatcher] = field(default_factory=dict)
    match_self: bool = False
    runtime: bool = False
    only_runtime: bool = False
    leaf_message: str | None = None
    leaf_warning: Any = None
    exclude: frozenset[str] | set[str] = frozenset()

    none: ClassVar[SandboxMatcher]
    all: ClassVar[SandboxMatcher]
    all_uses: ClassVar[SandboxMatcher]

    def __or__(self, other: SandboxMatcher) -> SandboxMatcher:
        """Return a matcher for both."""
        return SandboxMatcher(set(self.access) | set(other.access), set(self.use) | set(other.use))


SandboxMatcher.none = SandboxMatcher()
SandboxMatcher.all = SandboxMatcher(access={"*"})
SandboxMatcher.all_uses = SandboxMatcher(use={"*"})


@dataclass(frozen=True)
class SandboxRestrictions:
    """What a sandbox would restrict; has no effect.

    Attributes:
        passthrough_modules: Modules that would not be imported again.
        invalid_modules: Modules that would not be imported.
        invalid_module_members: Members that would not be used.
    """

    passthrough_modules: frozenset[str] | set[str] = frozenset()
    invalid_modules: SandboxMatcher = field(default_factory=SandboxMatcher)
    invalid_module_members: SandboxMatcher = field(default_factory=SandboxMatcher)
    passthrough_all_modules: bool = False

    passthrough_modules_default: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_minimum: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_maximum: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_with_temporal: ClassVar[frozenset[str]] = frozenset()
    invalid_modules_default: ClassVar[SandboxMatcher] = SandboxMatcher()
    invalid_module_members_default: ClassVar[SandboxMatcher] = SandboxMatcher()
    default: ClassVar[SandboxRestrictions]

    def with_passthrough_modules(self, *modules: str) -> SandboxRestrictions:
        """Return restrictions with more modules to pass through."""
        return SandboxRestrictions(
            set(self.passthrough_modules) | set(modules), self.invalid_modules, self.invalid_module_members
        )

    def with_passthrough_all_modules(self) -> SandboxRestrictions:
        """Return restrictions that would pass every module through."""
        return SandboxRestrictions(
            self.passthrough_modules, self.invalid_modules, self.invalid_module_members, True
        )


SandboxRestrictions.default = SandboxRestrictions()


@dataclass(frozen=True)
class SandboxedWorkflowRunner(WorkflowRunner):
    """The default runner's official name. It runs workflow code without a sandbox; see the module's description.

    Attributes:
        restrictions: Has no effect.
        runner_class: Has no effect.
    """

    restrictions: SandboxRestrictions = SandboxRestrictions.default
    runner_class: type[WorkflowRunner] | None = None


@contextmanager
def _restriction_context(_: Sequence[str] = ()) -> Iterator[None]:
    yield None


__all__ = [
    "RestrictedWorkflowAccessError",
    "SandboxMatcher",
    "SandboxRestrictions",
    "SandboxedWorkflowRunner",
    "UnintentionalPassthroughError",
]
