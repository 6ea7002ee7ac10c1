"""The sandbox's names, without a sandbox: code that mentions them moves over unchanged.

The official worker imports every workflow module again for each run, behind proxies, to catch what would break replay.
Perdure catches it where it happens: `asyncio.sleep`, the loop's clock, `random`, `uuid.uuid4` and `time.time` are
deterministic in workflow code, and other calls with effects raise an error that names the call, its line and what to do
instead. So modules are imported once, `isinstance` works, and a debugger shows the user's own objects. A module that is
passed through may make those calls: a library that reports errors, for one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from perdure.exceptions import TemporalError
from perdure.worker._runners import WorkflowRunner
from perdure.worker.workflow_code.guards import Permits, RestrictedWorkflowAccessError
from perdure.workflow import SandboxImportNotificationPolicy


class UnintentionalPassthroughError(TemporalError):
    """Never raised: there is no sandbox. Kept for `except` clauses."""


@dataclass(frozen=True)
class SandboxMatcher:
    """Names inside modules. What is taken out of the default ones is permitted; what is added has no effect.

    Attributes:
        access: Names that must not be accessed; no effect.
        use: Names that must not be used; no effect.
        children: Matchers for the members of a name.
        exclude: Names that are permitted.
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
        if rest:
            children[name] = children.get(name, SandboxMatcher()).with_child_unrestricted(*rest)
            return replace(self, children=children)
        children.pop(name, None)
        return replace(
            self,
            access=set(self.access) - {name},
            use=set(self.use) - {name},
            children=children,
            exclude=set(self.exclude) | {name},
        )

    def __or__(self, other: SandboxMatcher) -> SandboxMatcher:
        """Return a matcher for both."""
        children = dict(self.children)
        for name, child in other.children.items():
            children[name] = children[name] | child if name in children else child
        return replace(
            self,
            access=set(self.access) | set(other.access),
            use=set(self.use) | set(other.use),
            children=children,
            match_self=self.match_self or other.match_self,
            exclude=set(self.exclude) | set(other.exclude),
        )

    def _permitted(self, prefix: str = "") -> Iterator[str]:
        """The dotted names that are permitted, each with a dot at its end."""
        yield from (f"{prefix}{name}." for name in sorted(self.exclude))
        for name, child in self.children.items():
            yield from child._permitted("" if name == "__builtins__" else f"{prefix}{name}.")

    def _restricts(self) -> bool:
        """Whether it names anything that the default ones do not."""
        return bool(self.match_self or self.access or self.use) or any(
            child._restricts() for child in self.children.values()
        )


SandboxMatcher.none = SandboxMatcher()
SandboxMatcher.all = SandboxMatcher(match_self=True)
SandboxMatcher.all_runtime = SandboxMatcher(match_self=True, only_runtime=True)
SandboxMatcher.all_uses = SandboxMatcher(use={"*"})
SandboxMatcher.all_uses_runtime = SandboxMatcher(use={"*"}, only_runtime=True)

_RESTRICTED_MODULES = (
    "__builtins__", "asyncio", "bz2", "concurrent", "curses", "datetime", "dbm", "filecmp", "fileinput",
    "ftplib", "getopt", "getpass", "gettext", "glob", "gzip", "http", "imaplib", "locale", "lzma", "marshal",
    "mmap", "multiprocessing", "os", "pathlib", "platform", "poplib", "random", "readline", "sched", "secrets",
    "select", "selectors", "shelve", "shutil", "signal", "smtplib", "socket", "socketserver", "subprocess",
    "tarfile", "tempfile", "threading", "time", "urllib", "uuid", "webbrowser", "xmlrpc", "zipfile", "zoneinfo",
)  # fmt: skip

_NO_SANDBOX = "because workflow code runs without a sandbox"
_WITHOUT_EFFECT = {
    "invalid_modules": f"no effect, {_NO_SANDBOX}; what breaks replay is refused when it is called.",
    "invalid_module_members": f"no effect of what was added, {_NO_SANDBOX}; what breaks replay is refused anyway.",
    "runner_class": f"no effect, {_NO_SANDBOX}.",
}


@dataclass(frozen=True)
class SandboxRestrictions:
    """What workflow code may do that the guards refuse otherwise.

    Attributes:
        passthrough_modules: Modules, and those inside of them, whose code may do in workflow code what others may not.
        invalid_modules: No effect, and a warning if there are any: modules are not kept from workflow code.
        invalid_module_members: Modules and members that were taken out of `invalid_module_members_default` may be
            called by workflow code. What was added has no effect, and a warning says so.
        passthrough_all_modules: All code may do what it likes; clocks and randomness remain deterministic.
        import_notification_policy: No effect: imports are never repeated.
        disable_lazy_sys_module_passthrough: No effect: `sys.modules` is the interpreter's own.
    """

    passthrough_modules: frozenset[str] | set[str] = frozenset()
    invalid_modules: SandboxMatcher = field(default_factory=SandboxMatcher)
    invalid_module_members: SandboxMatcher = field(
        default_factory=lambda: SandboxRestrictions.invalid_module_members_default
    )
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
        """Return restrictions by which every module may do what it likes, the workflow's own, too."""
        return replace(self, passthrough_all_modules=True)

    def with_import_notification_policy(self, policy: SandboxImportNotificationPolicy) -> SandboxRestrictions:
        """Return restrictions with another policy for imports."""
        return replace(self, import_notification_policy=policy)

    def _permits(self) -> Permits:
        """What the guards are to let through."""
        members = self.invalid_module_members
        left_out = (
            ()
            if members.match_self
            else [f"{name}." for name in _RESTRICTED_MODULES if name not in members.children]
        )
        return Permits(
            # An empty name is the beginning of every other one.
            modules=("",)
            if self.passthrough_all_modules
            else tuple(f"{name}." for name in sorted(self.passthrough_modules)),
            calls=tuple(dict.fromkeys((*left_out, *members._permitted()))),
        )


SandboxRestrictions.default = SandboxRestrictions()


@dataclass(frozen=True)
class SandboxedWorkflowRunner(WorkflowRunner):
    """The default runner's official name. It runs workflow code without a sandbox; see the module's description.

    Attributes:
        restrictions: What workflow code may do that is refused otherwise.
        runner_class: No effect, and a warning if there is one.
    """

    restrictions: SandboxRestrictions = SandboxRestrictions.default
    runner_class: type[WorkflowRunner] | None = None

    def __post_init__(self) -> None:
        """Warn of what restricts or runs workflow code elsewhere, and not here."""
        without_effect = {
            "invalid_modules": self.restrictions.invalid_modules != SandboxMatcher.none,
            "invalid_module_members": self.restrictions.invalid_module_members._restricts(),
            "runner_class": self.runner_class is not None,
        }
        for name in (name for name, is_set in without_effect.items() if is_set):
            warnings.warn(f"{name}: {_WITHOUT_EFFECT[name]}", UserWarning, stacklevel=3)


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
