"""A pytest plugin that makes `temporalio` mean `perdure`, so that the official SDK's own tests run on our SDK.

Load it before anything imports `temporalio` (`-p official_sdk_alias`). Public modules and `temporalio.api` become ours.
What is private to the official SDK (its native bridge, modules with an underscore that we do not have, and names that
such modules of ours do not have) becomes a stand-in that can be imported but not used, so that only the tests that use
it fail, with a message that says so.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import official_sdk_equivalents as equivalents  # type: ignore[import-not-found]

THEIRS = "temporalio"
OURS = "perdure"
INTERNALS = "internals of the official SDK"
"""What the messages of failed tests contain when a test needed something private."""


class InternalsError(NotImplementedError):
    """A test used something private to the official SDK."""


class _StandInClass(type):
    """A class whose attributes are stand-ins as well, such as the members of a private enum."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stand_in(cls.__module__, f"{cls.__name__}.{name}")


def _stand_in(module: str, name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise InternalsError(f"{INTERNALS}: {module}.{name}")

    names = {"__new__": refuse, "__class_getitem__": classmethod(lambda cls, _: cls), "__module__": module}
    return _StandInClass(name, (), names)


class _StandIns(ModuleType):
    """A module whose every name is a stand-in."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_in = _stand_in(self.__name__, name)
        setattr(self, name, stand_in)
        return stand_in


class _ProtoModule(ModuleType):
    """What the official package has for one proto file: here its package, and the file's descriptor."""

    def __init__(self, name: str, package: ModuleType, descriptor: Any) -> None:
        super().__init__(name)
        self._package = package
        self.DESCRIPTOR = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)


def _proto_module(rest: str) -> ModuleType:
    package_name, _, file_name = rest.rpartition(".")
    registry = importlib.import_module(f"{OURS}.api.registry")
    path = f"temporal/{package_name.replace('.', '/')}/{file_name.removesuffix('_pb2')}.proto"
    package = importlib.import_module(f"{OURS}.{package_name}")
    return _ProtoModule(f"{OURS}.{rest}", package, registry.POOL.FindFileByName(path))


def _extend(module: ModuleType, others: Callable[[str], Any]) -> None:
    """Make a module of ours answer with `others` for names that it does not have."""
    own: Callable[[str], Any] | None = vars(module).get("__getattr__")

    def find(name: str) -> Any:
        if own is not None:
            with contextlib.suppress(AttributeError):
                return own(name)
        if name.startswith("__"):
            raise AttributeError(name)
        return others(name)

    vars(module)["__getattr__"] = find


def _extend_like_theirs(module: ModuleType, rest: str) -> None:
    """Give a module what only theirs has: messages by proto file, or private names as stand-ins."""
    if rest.startswith("api."):

        def file_of_package(name: str) -> ModuleType:
            if not name.endswith("_pb2"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return importlib.import_module(f"{THEIRS}.{rest}.{name}")

        _extend(module, file_of_package)
    elif any(part.startswith("_") for part in rest.split(".")):
        _extend(module, lambda name: _stand_in(module.__name__, name))


class _Loader(importlib.abc.Loader):
    def __init__(self, module: ModuleType | None) -> None:
        self._module = module
        self._own: dict[str, Any] = {}

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if self._module is None:
            stand_ins = _StandIns(spec.name)
            stand_ins.__path__ = []
            return stand_ins
        # The import system is about to overwrite what the module says of itself.
        self._own = {key: vars(self._module).get(key) for key in ("__spec__", "__loader__", "__package__")}
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._own)


class AliasFinder(importlib.abc.MetaPathFinder):
    """Finds `temporalio...` as `perdure...`."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of an alias or of a stand-in; None for other packages."""
        package, _, rest = fullname.partition(".")
        if package != THEIRS:
            return None
        if rest.startswith("api.") and rest.endswith("_pb2"):
            return importlib.util.spec_from_loader(fullname, _Loader(_proto_module(rest)))
        private = equivalents.private_module(rest)
        if private is not None:
            _extend(private, lambda name: _stand_in(f"{OURS}.{rest}", name))
            return importlib.util.spec_from_loader(fullname, _Loader(private))
        try:
            module = importlib.import_module(f"{OURS}.{rest}" if rest else OURS)
        except ModuleNotFoundError as error:
            is_private = any(part.startswith("_") or part == "bridge" for part in rest.split("."))
            if not is_private or not (error.name or "").startswith(OURS):
                raise ModuleNotFoundError(f"No module named {fullname!r} ({error})", name=fullname) from error
            return importlib.util.spec_from_loader(fullname, _Loader(None), is_package=True)
        _extend_like_theirs(module, rest)
        return importlib.util.spec_from_loader(
            fullname, _Loader(module), is_package=hasattr(module, "__path__")
        )


equivalents.install()
sys.meta_path.insert(0, AliasFinder())
