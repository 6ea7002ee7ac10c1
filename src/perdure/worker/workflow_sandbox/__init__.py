"""The sandbox's names, without a sandbox: code that mentions them moves over unchanged.

The official worker imports every workflow module again for each run, behind proxies, to catch what would break replay.
Perdure catches it where it happens: `asyncio.sleep`, the loop's clock, `random`, `uuid.uuid4` and `time.time` are
deterministic in workflow code, and other calls with effects raise an error that names the call, its line and what to do
instead. So modules are imported once, `isinstance` works, and a debugger shows the user's own objects. A module that is
passed through may make those calls: a library that reports errors, for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from perdure.exceptions import TemporalError
from perdure.worker._runners import WorkflowRunner
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError
from perdure.workflow import SandboxImportNotificationPolicy


class UnintentionalPassthroughError(TemporalError):
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
    all_runtime: ClassVar[SandboxMatcher]
    all_uses: ClassVar[SandboxMatcher]
    all_uses_runtime: ClassVar[SandboxMatcher]

    @classmethod
    def nested_child(cls, path: Sequence[str], child: SandboxMatcher) -> SandboxMatcher:
        """Return a matcher that has another one at the end of a path of names."""
        for name in reversed(path):
            child = cls(children={name: child})
        return child

    def with_child_unrestricted(self, *child_path: str) -> SandboxMatcher:
        """Return a matcher that leaves out what is at the end of a path of names."""
        name, *rest = child_path
        children = dict(self.children)
        if rest and name in children:
            children[name] = children[name].with_child_unrestricted(*rest)
        elif not rest:
            children.pop(name, None)
            return replace(
                self, access=set(self.access) - {name}, use=set(self.use) - {name}, children=children
            )
        return replace(self, children=children)

    def __or__(self, other: SandboxMatcher) -> SandboxMatcher:
        """Return a matcher for both."""
        return SandboxMatcher(set(self.access) | set(other.access), set(self.use) | set(other.use))


SandboxMatcher.none = SandboxMatcher()
SandboxMatcher.all = SandboxMatcher(access={"*"})
SandboxMatcher.all_runtime = SandboxMatcher(access={"*"}, only_runtime=True)
SandboxMatcher.all_uses = SandboxMatcher(use={"*"})
SandboxMatcher.all_uses_runtime = SandboxMatcher(use={"*"}, only_runtime=True)

_RESTRICTED_MODULES = (
    "__builtins__", "asyncio", "bz2", "concurrent", "curses", "datetime", "dbm", "filecmp", "fileinput",
    "ftplib", "getopt", "getpass", "gettext", "glob", "gzip", "http", "imaplib", "locale", "lzma", "marshal",
    "mmap", "multiprocessing", "os", "pathlib", "platform", "poplib", "random", "readline", "sched", "secrets",
    "select", "selectors", "shelve", "shutil", "signal", "smtplib", "socket", "socketserver", "subprocess",
    "tarfile", "tempfile", "threading", "time", "urllib", "uuid", "webbrowser", "xmlrpc", "zipfile", "zoneinfo",
)  # fmt: skip


@dataclass(frozen=True)
class SandboxRestrictions:
    """What a sandbox would restrict. Only `passthrough_modules` has an effect.

    Attributes:
        passthrough_modules: Modules, and those inside of them, whose code may do in workflow code what others may not.
        invalid_modules: Modules that would not be imported.
        invalid_module_members: Members that would not be used.
        import_notification_policy: What would be said of imports while a workflow runs.
    """

    passthrough_modules: frozenset[str] | set[str] = frozenset()
    invalid_modules: SandboxMatcher = field(default_factory=SandboxMatcher)
    invalid_module_members: SandboxMatcher = field(default_factory=SandboxMatcher)
    passthrough_all_modules: bool = False
    import_notification_policy: SandboxImportNotificationPolicy = (
        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
    )
    disable_lazy_sys_module_passthrough: bool = False

    passthrough_modules_default: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_minimum: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_maximum: ClassVar[frozenset[str]] = frozenset()
    passthrough_modules_with_temporal: ClassVar[frozenset[str]] = frozenset()
    invalid_modules_default: ClassVar[SandboxMatcher] = SandboxMatcher()
    invalid_module_members_default: ClassVar[SandboxMatcher] = SandboxMatcher(
        children=dict.fromkeys(_RESTRICTED_MODULES, SandboxMatcher())
    )
    """Has the official one's modules, so that code that takes one out finds it."""
    default: ClassVar[SandboxRestrictions]

    def with_passthrough_modules(self, *modules: str) -> SandboxRestrictions:
        """Return restrictions with more modules to pass through.

        Args:
            modules: Names. What their code calls is not refused, although a replay may get other answers.
        """
        return replace(self, passthrough_modules=set(self.passthrough_modules) | set(modules))

    def with_passthrough_all_modules(self) -> SandboxRestrictions:
        """Return restrictions that would pass every module through."""
        return replace(self, passthrough_all_modules=True)

    def with_import_notification_policy(self, policy: SandboxImportNotificationPolicy) -> SandboxRestrictions:
        """Return restrictions with another policy for imports."""
        return replace(self, import_notification_policy=policy)


SandboxRestrictions.default = SandboxRestrictions()


@dataclass(frozen=True)
class SandboxedWorkflowRunner(WorkflowRunner):
    """The default runner's official name. It runs workflow code without a sandbox; see the module's description.

    Attributes:
        restrictions: What modules are passed through.
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
