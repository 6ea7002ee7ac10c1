"""Every page and form of the UI is there for programs, too."""

from __future__ import annotations

import re
from typing import Any

import pytest

from perdure.ui.routes import paths
from tests.ui.test_app import get
from tests.ui.test_hostile import Answering

PAGES = sorted(path for path, methods in paths().items() if "GET" in methods and path != "/")


def _workflow(answer: Any) -> None:
    answer.workflow_execution_info.type.name = "Order"


def _endpoint(answer: Any) -> None:
    answer.endpoint.spec.name = "prices"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_a_json_twin(path: str) -> None:
    """Of a server that knows next to nothing: what is not there is said in JSON, what leads on leads on."""
    server = Answering(describe_workflow_execution=_workflow, get_nexus_endpoint=_endpoint)
    answer = get(re.sub(r"{\w+}", "x", path) + ".json", server)
    assert answer.status < 500
    if answer.status != 303:
        assert answer.headers["content-type"].startswith("application/json")
        assert isinstance(answer.json(), dict)
