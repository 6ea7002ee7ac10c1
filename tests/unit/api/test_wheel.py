"""A wheel built from a clean checkout carries the whole wire contract and needs no official SDK to run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from build_api.package import generated_files
from tests.unit.api.support import run_python

ROOT = Path(__file__).resolve().parents[3]
_BUILD_INPUTS = (
    "pyproject.toml",
    "hatch_build.py",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "build_api",
    "src",
)

_USE_WITHOUT_SDK = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"temporalio", "hatchling", "build_api"}:
            raise ImportError(f"{name} must not be needed at run time")
sys.meta_path.insert(0, Blocker())
import perdure, perdure.api
assert perdure.api.__file__.startswith(sys.path[0]), perdure.api.__file__
from perdure.api import services
from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import EVENT_TYPE_TIMER_FIRED
assert Payload.FromString(Payload(data=b"x").SerializeToString()).data == b"x"
print(sum(len(services.rpcs(name)) for name in services.SERVICE_NAMES))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of the checkout that has none of the generated files."""
    source = tmp_path_factory.mktemp("checkout")
    for name in _BUILD_INPUTS:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    for path in generated_files(source / "src" / "perdure" / "api"):
        path.unlink()
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run(
        [*command, "-w", str(target)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_contains_data_stubs_marker_and_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        notice = archive.read("perdure/api/PROTO_LICENSES.txt").decode()
    assert {
        "perdure/py.typed",
        "perdure/api/descriptors.binpb",
        "perdure/api/common/v1/__init__.py",
        "perdure/api/common/v1/__init__.pyi",
        "perdure/api/protobuf/__init__.pyi",
    } <= names
    assert "Temporal Technologies Inc." in notice
    assert "Apache License" in notice
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"perdure", next(name for name in names if ".dist-info/" in name).partition("/")[0]} == {
        name.partition("/")[0] for name in names
    }


def test_the_wheel_contains_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    """Templates, styles, scripts, migrations, commands for `manage.py`; and no compiled file."""
    ours = ROOT / "src" / "perdure"
    kept = {
        f"perdure/{path.relative_to(ours).as_posix()}"
        for path in ours.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != ".gitignore"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert kept == names


def test_the_wheel_pulls_in_no_official_sdk(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata_name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(metadata_name).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: temporalio")]
    assert all("extra ==" in line for line in required)


def test_the_wheel_works_where_the_official_sdk_is_not_installed(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert int(run_python(_USE_WITHOUT_SDK, path=str(tmp_path))) > 100
