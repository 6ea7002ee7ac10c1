"""The hook that runs the official SDK's tests on our SDK: what it maps, and what it only lets be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run_with_alias(code: str) -> str:
    """What a program prints that loads the hook; a process of its own, because the hook changes global things."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", f"import official_sdk_alias\n{code}"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_messages_are_found_by_proto_file_where_only_the_package_was_imported() -> None:
    """A file whose parameters use `v1.event_type_pb2` is collected, and a name of no file stays an error."""
    printed = run_with_alias(
        "import temporalio.api.enums.v1 as enums\n"
        "print(enums.event_type_pb2.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, hasattr(enums, 'EventTypes'))"
    )
    assert printed == "7 False\n"


def test_a_private_name_that_ours_lacks_can_be_imported_and_not_used() -> None:
    """One test that needs it must not take the others of its file along, nor pass."""
    printed = run_with_alias(
        "from temporalio.nexus._token import OperationToken, _base64url_decode\n"
        "import perdure.nexus._token\n"
        "print(OperationToken is perdure.nexus._token.OperationToken)\n"
        "try:\n"
        "    _base64url_decode('')\n"
        "except official_sdk_alias.InternalsError as error:\n"
        "    print(error)\n"
    )
    assert printed == "True\ninternals of the official SDK: perdure.nexus._token._base64url_decode\n"


def test_a_public_name_that_ours_lacks_is_an_import_error() -> None:
    """What users of the official SDK could miss is not papered over."""
    printed = run_with_alias(
        "try:\n"
        "    from temporalio.client import Nothing\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__)\n"
    )
    assert printed == "ImportError\n"
