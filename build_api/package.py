"""Lays the contract out as the generated part of `src/perdure/api`: a data file, small modules, stubs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from build_api.names import module_of
from build_api.sources import Contract
from build_api.stubs import StubWriter

DATA_FILE = "descriptors.binpb"
LICENCE_FILE = "PROTO_LICENSES.txt"
ROOT_MODULE = "perdure.api"

_LEAF = '''"""Messages, enums and clients of `{package}`; generated when Perdure is built, do not edit."""

from perdure.api.registry import bind as _bind

__getattr__, __dir__ = _bind(
    __name__,
    globals(),
    (
{files}
    ),
)
'''
_FILE_MODULE = '''"""{what} of `{file}`; generated when Perdure is built, do not edit."""

from perdure.api.registry import bind_file as _bind_file

__getattr__, __dir__ = _bind_file(__name__, "{file}")
'''
_BRANCH = '"""Folder of the wire contract `{package}`; generated when Perdure is built, do not edit."""\n'


def write(contract: Contract, api_folder: Path) -> list[Path]:
    """Write the generated files under `api_folder`, remove generated ones that are stale, return all paths.

    A file whose content would not change is left alone, so a running process never sees half a file.
    """
    files = _layout(contract)
    wanted = {api_folder / relative: content for relative, content in files.items()}
    for path, content in wanted.items():
        _write_if_changed(path, content)
    for path in generated_files(api_folder):
        if path not in wanted:
            path.unlink()
    return sorted(wanted)


def generated_files(api_folder: Path) -> list[Path]:
    """Return what an earlier build wrote: every file in a subfolder, the data file and the licences."""
    found = [path for name in (DATA_FILE, LICENCE_FILE) if (path := api_folder / name).exists()]
    for suffix in ("*.py", "*.pyi"):
        found.extend(path for path in api_folder.rglob(suffix) if path.parent != api_folder)
    return sorted(found)


def _layout(contract: Contract) -> dict[str, bytes]:
    layout = {
        DATA_FILE: FileDescriptorSet(file=contract.files).SerializeToString(deterministic=True),
        LICENCE_FILE: contract.licences.encode(),
    }
    by_package: dict[str, list[FileDescriptorProto]] = defaultdict(list)
    for file in contract.files:
        by_package[file.package].append(file)
    writer = StubWriter(contract.files)
    for package, members in sorted(by_package.items()):
        module = module_of(package)
        if module is None:
            continue
        folder = module[len(ROOT_MODULE) + 1 :].replace(".", "/")
        layout[f"{folder}/__init__.py"] = _LEAF.format(package=package, files=_lines(members)).encode()
        layout[f"{folder}/__init__.pyi"] = writer.module(package, members).encode()
        for file in members:
            for suffix, what, stub in writer.file_modules(file):
                name = f"{folder}/{file.name.rpartition('/')[2].removesuffix('.proto')}{suffix}"
                layout[f"{name}.py"] = _FILE_MODULE.format(what=what, file=file.name).encode()
                layout[f"{name}.pyi"] = stub.encode()
        for parent in Path(folder).parents:
            branch = f"{parent}/__init__.py"
            if parent != Path(".") and branch not in layout:
                layout[branch] = _BRANCH.format(package=str(parent).replace("/", ".")).encode()
    return layout


def _lines(members: Iterable[FileDescriptorProto]) -> str:
    return "\n".join(f'        "{file.name}",' for file in members)


def _write_if_changed(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)
