"""Collects the wire contract from the build environment: descriptors and the licences they come with.

The descriptors are the serialized `FileDescriptorProto` literals inside generated `*_pb2.py` modules. They
are read with `ast`, so nothing of the official SDK is imported or executed, and its native library need not
load.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto

_WELL_KNOWN = tuple(
    f"google/protobuf/{name}.proto"
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
)
_EXTRA_ROOTS = ("google/rpc/status.proto", "google/rpc/code.proto", *_WELL_KNOWN)


@dataclass(frozen=True)
class Source:
    """A distribution of the build environment and the folder inside it that holds `*_pb2.py` modules."""

    distribution_name: str
    folder: str
    contributes_roots: bool


SOURCES = (
    Source("temporalio", "temporalio/api", contributes_roots=True),
    Source("googleapis-common-protos", "google/api", contributes_roots=False),
    Source("googleapis-common-protos", "google/rpc", contributes_roots=False),
    Source("protobuf", "google/protobuf", contributes_roots=False),
)


@dataclass(frozen=True)
class Contract:
    """Descriptor files in dependency order, and the text of every licence that covers them."""

    files: tuple[FileDescriptorProto, ...]
    licences: str


def collect() -> Contract:
    """Read all sources and return the closed, ordered contract.

    Raises:
        RuntimeError: a source has no descriptors, or a required file is missing: the build environment is
            wrong.
    """
    known: dict[str, FileDescriptorProto] = {}
    roots: list[str] = list(_EXTRA_ROOTS)
    for source in SOURCES:
        found = list(_descriptors_of(source))
        if not found:
            raise RuntimeError(f"no descriptors found in {source.distribution_name}:{source.folder}")
        for file in found:
            known.setdefault(file.name, file)
            if source.contributes_roots:
                roots.append(file.name)
    missing = [name for name in _EXTRA_ROOTS if name not in known]
    if missing:
        raise RuntimeError(f"descriptors missing from the build environment: {missing}")
    return Contract(files=tuple(_in_dependency_order(known, sorted(roots))), licences=_licences())


def _descriptors_of(source: Source) -> Iterator[FileDescriptorProto]:
    root = Path(str(distribution(source.distribution_name).locate_file(source.folder)))
    for path in sorted(root.rglob("*_pb2.py")):
        for literal in _serialized_files(path.read_text(encoding="utf-8")):
            yield FileDescriptorProto.FromString(literal)


def _serialized_files(source_text: str) -> Iterator[bytes]:
    for node in ast.walk(ast.parse(source_text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        argument = node.args[0]
        if node.func.attr == "AddSerializedFile" and isinstance(argument, ast.Constant):
            if isinstance(argument.value, bytes):
                yield argument.value


def _in_dependency_order(
    known: Mapping[str, FileDescriptorProto], roots: list[str]
) -> Iterator[FileDescriptorProto]:
    """Yield roots and what they need, dependencies first; leave out a root whose dependencies do not exist.

    The wheel carries a few leftovers of removed protos that import files which are gone. They cannot be
    loaded by anyone, so they are no part of the contract.
    """
    done: dict[str, bool] = {}
    ordered: list[FileDescriptorProto] = []

    def visit(name: str) -> bool:
        if name not in done:
            file = known.get(name)
            done[name] = file is not None and all(visit(needed) for needed in file.dependency)
            if file is not None and done[name]:
                ordered.append(file)
        return done[name]

    for root in roots:
        visit(root)
    return iter(ordered)


def _licences() -> str:
    parts = ["The message definitions in this folder are generated from the following works.\n"]
    for name in dict.fromkeys(source.distribution_name for source in SOURCES):
        found = distribution(name)
        texts = _licence_texts(found)
        if not texts:
            raise RuntimeError(f"no licence text found in the distribution {name}")
        parts.append(f"{'=' * 100}\n{name} {found.version}\n{'=' * 100}\n")
        parts.extend(texts)
    return "\n".join(parts)


def _licence_texts(found: Distribution) -> list[str]:
    """Return each distinct licence text of a distribution: its own and those of protos it vendors."""
    texts: list[str] = []
    for entry in found.files or ():
        is_own = ".dist-info" in str(entry)
        is_vendored_proto = "/protos/" in str(entry)
        if entry.name.upper().startswith("LICENSE") and (is_own or is_vendored_proto):
            text = Path(str(entry.locate())).read_text(encoding="utf-8").strip() + "\n"
            if text not in texts:
                texts.append(text)
    return texts
