"""Calling a function in a pool of processes, so that nothing that is passed in or comes out breaks the pool.

A pool that cannot load a call in its process, or an outcome in this one, is broken for good, and says neither why nor
for which call. So both travel packed, and are opened where an error belongs to the one call.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

from perdure.converter._failure_converter import message_of
from perdure.exceptions import ApplicationError

_TYPE = "PicklingError"


async def call_in_process(executor: ProcessPoolExecutor, name: str, call: Callable[[], Any]) -> Any:
    """Call a function in a process of a pool, and return or raise what it does.

    Args:
        executor: The pool.
        name: What messages call the function.
        call: The function.

    Raises:
        ApplicationError: What it is or returns cannot be pickled, or not unpickled.
    """
    packed = _pack(call, f"Activity {name} or an argument of it")
    result = await asyncio.get_running_loop().run_in_executor(executor, partial(_call_packed, packed, name))
    return _unpack(result, f"What activity {name} returned")


# At the top level of the module, so that it can be pickled.
def _call_packed(packed: bytes, name: str) -> bytes:
    call = _unpack(packed, f"Activity {name} or an argument of it")
    try:
        result = call()
    except BaseException as error:  # whatever it raises goes back
        if _comes_back(error):
            raise
        # What another process knows of an error anyway: the name of its class, and what it says.
        raise ApplicationError(message_of(error), type=type(error).__name__) from error
    return _pack(result, f"What activity {name} returned")


def _comes_back(error: BaseException) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # pickling runs any code and raises anything
        return False


def _pack(value: Any, what: str) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(value))
    except Exception as error:  # pickling runs any code and raises anything
        raise ApplicationError(
            f"{what} cannot be pickled, and so not pass between processes: {error}. Use values that can be, or a "
            "ThreadPoolExecutor",
            type=_TYPE,
        ) from error


def _unpack(packed: bytes, what: str) -> Any:
    try:
        return pickle.loads(packed)
    except Exception as error:  # so does unpickling
        raise ApplicationError(
            f"{what} cannot be unpickled in another process: {error}. Define it at the top level of a module that "
            "both processes import, outside `if __name__ == '__main__'`, or use a ThreadPoolExecutor",
            type=_TYPE,
        ) from error
