"""Each checker is shown a sample that breaks its rule, and one that comes close and does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.quality import checks

pytestmark = pytest.mark.usefixtures("without_collector")

_WORK = "/" + "work"

_BODY_69 = "\n".join(f"    x{number} = {number}" for number in range(69))


def _sleeps(path: str, text: str) -> list[checks.Finding]:
    return checks.sleeps(path, text, {"f.py::allowed": "the reason"})


@pytest.mark.parametrize(
    ("checker", "bad"),
    [
        (checks.long_file, "x = 1\n" * 801),
        (checks.long_functions, f"def f():\n{_BODY_69}\n    y = 1\n"),
        (
            checks.long_functions,
            f"class C:\n    @property\n    async def f(self):\n{_BODY_69}\n".replace("    x", "        x"),
        ),
        (checks.impurities, "import time"),
        (checks.impurities, "from os import path"),
        (checks.impurities, "import os.path as p"),
        (checks.impurities, "import asyncio"),
        (checks.impurities, "def f():\n    import random"),
        (checks.impurities, "from perdure import server"),
        (checks.impurities, "from perdure.store.protocol import Store"),
        (checks.impurities, "import grpc.aio"),
        (checks.impurities, "from datetime import datetime\nx = datetime.now()"),
        (checks.impurities, "import datetime\nx = datetime.datetime.utcnow()"),
        (checks.impurities, "stamp.GetCurrentTime()"),
        (checks.impurities, "open('f')"),
        (checks.set_orders, "for x in {a, b}:\n    f(x)"),
        (checks.set_orders, "for x in zones - {''}:\n    f(x)"),
        (checks.set_orders, "texts = [f(x) for x in a.keys() | b.keys()]"),
        (checks.set_orders, "answer = tuple(set(names))"),
        (checks.set_orders, "changed = {x: f(x) for x in frozenset(a) ^ frozenset(b)}"),
        (checks.asserts, "def f():\n    assert x"),
        (checks.silent_handlers, "try:\n    f()\nexcept:\n    g()"),
        (checks.silent_handlers, "try:\n    f()\nexcept Exception:\n    g()"),
        (checks.silent_handlers, "try:\n    f()\nexcept (ValueError, BaseException) as error:\n    g()"),
        (checks.silent_handlers, "try:\n    f()\nexcept ValueError:\n    pass"),
        (checks.silent_handlers, "try:\n    f()\nexcept ValueError:\n    ..."),
        (checks.silent_handlers, "try:\n    f()\nexcept Exception:  # noqa: BLE001\n    g()"),
        (checks.silent_handlers, "with contextlib.suppress(Exception):\n    f()"),
        (_sleeps, "import time\ntime.sleep(0)"),
        (_sleeps, "import time as t\ndef f():\n    t.sleep(1)"),
        (_sleeps, "from time import sleep\nsleep(1)"),
        (_sleeps, "import asyncio\nasync def f():\n    await asyncio.sleep(0.1)"),
        (_sleeps, "import asyncio\nasync def f(n):\n    await asyncio.sleep(n)"),
        (_sleeps, "import time\ndef allowed_not():\n    time.sleep(1)"),
        (_sleeps, "@pytest.fixture\nasync def a():\n    await asyncio.sleep(9)"),
        (checks.silent_handlers, "try:\n    f()\nexcept Exception:\n    g()\n    # too late\n    h()"),
        (checks.missing_docstring, "x = 1"),
        (checks.machine_paths, f"see {_WORK}/main"),
        (checks.machine_paths, "see /" + "root/.config"),
        (checks.machine_paths, "see /" + "tmp/lab"),
        (checks.machine_paths, "see /" + "home/ann/x"),
    ],
)
def test_a_bad_sample_is_found(checker: Callable[[str, str], list[checks.Finding]], bad: str) -> None:
    (finding, *_) = checker("f.py", bad)
    assert str(finding).startswith("f.py:")


@pytest.mark.parametrize(
    ("checker", "good"),
    [
        (checks.long_file, "x = 1\n" * 800),
        (checks.long_functions, f"def f():\n{_BODY_69}\n"),
        (
            checks.impurities,
            "import datetime, json, sqlglot\nfrom perdure.core.run import state",
        ),
        (checks.impurities, "from perdure import core"),
        (checks.impurities, "from . import state"),
        (checks.set_orders, "for x in sorted(a.keys() | b.keys()):\n    f(x)"),
        (checks.set_orders, "for x in {**a, **b}:\n    f(x)"),
        (checks.set_orders, "known = {f(x) for x in {a, b}}"),
        (checks.set_orders, "bad = any(f(x) for x in a.keys() - b)"),
        (checks.asserts, "invariant(x, 'message')"),
        (checks.silent_handlers, "try:\n    f()\nexcept Exception:  # a plugin may raise anything\n    g()"),
        (checks.silent_handlers, "try:\n    f()\nexcept KeyError:\n    pass  # it was gone already"),
        (checks.silent_handlers, "try:\n    f()\nexcept KeyError:\n    g()"),
        (checks.silent_handlers, "with contextlib.suppress(KeyError):\n    f()"),
        (_sleeps, "import asyncio\nasync def f():\n    await asyncio.sleep(0)"),
        (_sleeps, "import time\ndef allowed():\n    time.sleep(1)"),
        (_sleeps, "clock.sleep(5)"),
        (_sleeps, "@activity.defn\nasync def a():\n    await asyncio.sleep(9)"),
        (
            checks.silent_handlers,
            "try:\n    f()\nexcept Exception:\n    # a plugin may raise anything\n    g()",
        ),
        (
            _sleeps,
            "@workflow.defn(name='W')\nclass W:\n    async def run(self):\n        await asyncio.sleep(9)",
        ),
        (checks.missing_docstring, '"""What lives here."""'),
        (checks.machine_paths, "GET /workflows/tmp and ./work and framework/x"),
    ],
)
def test_a_good_sample_passes(checker: Callable[[str, str], list[checks.Finding]], good: str) -> None:
    assert checker("f.py", good) == []
