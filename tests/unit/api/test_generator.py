"""The generator of the wire contract: complete, repeatable, tidy, and loud when its inputs are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from build_api import names, package, sources
from perdure.api.registry import POOL


@pytest.fixture(scope="module")
def contract() -> sources.Contract:
    """Return what a build from this environment would use."""
    return sources.collect()


def test_files_come_after_what_they_depend_on(contract: sources.Contract) -> None:
    seen: set[str] = set()
    for file in contract.files:
        assert set(file.dependency) <= seen
        seen.add(file.name)


def test_the_installed_contract_is_what_a_build_would_produce(contract: sources.Contract) -> None:
    """A stale editable install would make every other test here meaningless."""
    for file in contract.files:
        assert FileDescriptorProto.FromString(POOL.FindFileByName(file.name).serialized_pb) == file


def test_a_second_write_touches_nothing_and_removes_what_is_stale(
    contract: sources.Contract, tmp_path: Path
) -> None:
    written = package.write(contract, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in written}
    by_hand = tmp_path / "registry.py"
    by_hand.write_text("kept")
    stale = tmp_path / "gone" / "v1" / "__init__.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("removed proto package")
    assert package.write(contract, tmp_path) == written
    assert {path: path.stat().st_mtime_ns for path in written} == before
    assert by_hand.exists()
    assert not stale.exists()


def test_a_file_whose_imports_do_not_exist_is_left_out() -> None:
    known = {
        "a.proto": FileDescriptorProto(name="a.proto"),
        "b.proto": FileDescriptorProto(name="b.proto", dependency=["gone.proto"]),
        "c.proto": FileDescriptorProto(name="c.proto", dependency=["a.proto"]),
        "d.proto": FileDescriptorProto(name="d.proto", dependency=["b.proto"]),
    }
    ordered = sources._in_dependency_order(known, sorted(known))
    assert [file.name for file in ordered] == ["a.proto", "c.proto"]


def test_a_source_without_descriptors_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = sources.Source("temporalio", "temporalio/nothing_here", contributes_roots=True)
    monkeypatch.setattr(sources, "SOURCES", (empty,))
    with pytest.raises(RuntimeError, match="no descriptors found in temporalio"):
        sources.collect()


def test_a_missing_required_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES", sources.SOURCES[:1])
    with pytest.raises(RuntimeError, match="google/rpc/status"):
        sources.collect()


@pytest.mark.parametrize(
    ("proto_package", "module"),
    [
        ("temporal.api.common.v1", "perdure.api.common.v1"),
        ("temporal.api.cloud.nexus.v1", "perdure.api.cloud.nexus.v1"),
        ("google.protobuf", "perdure.api.protobuf"),
        ("google.rpc", "perdure.api.google.rpc"),
        ("nexusannotations.v1", None),
    ],
)
def test_packages_become_modules(proto_package: str, module: str | None) -> None:
    assert names.module_of(proto_package) == module


def test_reserved_words_cannot_be_written_as_names() -> None:
    assert names.is_usable("workflow_id")
    assert not names.is_usable("from")
