"""Calls in other processes: what cannot be pickled or unpickled ends one call, and not the pool."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

from perdure.exceptions import ApplicationError
from perdure.worker._process_calls import call_in_process


class _TwoArguments(Exception):
    """Pickled as its class called with one argument, which cannot be unpickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class _HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


def _refuse(message: str) -> None:
    raise ModuleNotFoundError(message)


class _OnlyHere:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ("No module named 'elsewhere'",)


def _raise_two_arguments() -> None:
    raise _TwoArguments(402, "no money")


def _raise_holds_lock() -> None:
    raise _HoldsLock


def _raise_value_error() -> None:
    raise ValueError("wrong")


def _return_lock() -> object:
    return threading.Lock()


def _return_only_here() -> object:
    return _OnlyHere()


def _same(value: object) -> object:
    return value


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def _call(pool: ProcessPoolExecutor, call: Callable[[], Any]) -> Any:
    return asyncio.run(call_in_process(pool, "Charge", call))


@pytest.mark.parametrize(
    ("call", "type_name", "words"),
    [
        (_raise_two_arguments, "_TwoArguments", "402: no money"),
        (_raise_holds_lock, "_HoldsLock", "held"),
        (_return_lock, "PicklingError", "What activity Charge returned cannot be pickled"),
        (_return_only_here, "PicklingError", "What activity Charge returned cannot be unpickled"),
        (partial(_same, threading.Lock()), "PicklingError", "an argument of it cannot be pickled"),
        (partial(_same, _OnlyHere()), "PicklingError", "an argument of it cannot be unpickled"),
    ],
)
def test_what_cannot_pass_between_processes_ends_one_call(
    pool: ProcessPoolExecutor, call: Callable[[], Any], type_name: str, words: str
) -> None:
    """An error goes back under its own name, which retry policies go by; anything else is explained."""
    with pytest.raises(ApplicationError, match=words) as raised:
        _call(pool, call)
    assert raised.value.type == type_name
    assert _call(pool, partial(_same, 1)) == 1


def test_an_error_that_can_be_pickled_comes_back_as_itself(pool: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="wrong"):
        _call(pool, _raise_value_error)
