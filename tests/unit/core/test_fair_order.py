"""The order among fairness keys: shares in proportion to weights, nobody starves, memory has a bound."""

from __future__ import annotations

import heapq
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.queues.fair_order import (
    GREATEST_WEIGHT,
    LEAST_WEIGHT,
    STRIDE,
    FairOrder,
    effective_weight,
    stride,
)

WEIGHTS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 100.0])
KEYS = ["a", "b", "c", ""]


class _Queue:
    """Waiting tasks in the order of their places, as the store keeps them."""

    def __init__(self, max_keys: int = 10_000) -> None:
        self.order = FairOrder(max_keys)
        self.heap: list[tuple[int, int, str]] = []
        self._arrivals = count()

    def put(self, key: str, weight: float = 1.0) -> None:
        heapq.heappush(self.heap, (self.order.place(key, weight), next(self._arrivals), key))

    def take(self) -> str:
        place, _, key = heapq.heappop(self.heap)
        self.order.served(place)
        if not self.heap:
            self.order.rested()
        return key


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(KEYS), WEIGHTS, min_size=2), st.randoms(use_true_random=False))
def test_as_long_as_keys_wait_each_gets_its_share(weights: dict[str, float], random: object) -> None:
    """The bound of start-time fair queueing: two keys that both wait differ by at most one task of each, by weight."""
    queue = _Queue()
    arrivals = [key for key in weights for _ in range(25)]
    random.shuffle(arrivals)  # type: ignore[attr-defined]  # a random.Random of hypothesis
    for key in arrivals:
        queue.put(key, weights[key])
    served = dict.fromkeys(weights, 0)
    shares = {key: effective_weight(weight) for key, weight in weights.items()}
    while all(number < 25 for number in served.values()):
        served[queue.take()] += 1
        for one in weights:
            for other in weights:
                gap = served[one] / shares[one] - served[other] / shares[other]
                # Steps are whole numbers, and arrivals move the virtual time by a ten-thousandth of a step each.
                assert gap <= 1.02 / shares[one] + 1.02 / shares[other] + 1e-3


def test_a_key_with_a_thousand_tasks_does_not_delay_one_with_ten() -> None:
    queue = _Queue()
    for _ in range(1_000):
        queue.put("many")
    for _ in range(10):
        queue.put("few")
    assert [queue.take() for _ in range(20)].count("few") == 10


def test_without_keys_tasks_go_in_order_of_arrival() -> None:
    order = FairOrder()
    places = [order.place("", 0.0) for _ in range(100)]
    assert places == sorted(set(places))


def test_a_key_that_caught_up_owes_nothing() -> None:
    """Whoever was served while nobody else waited starts with all others, however much it had."""
    queue = _Queue()
    for _ in range(500):
        queue.put("busy", 0.001)
        queue.take()
    for _ in range(50):
        queue.put("busy")
        queue.put("new")
    assert [queue.take() for _ in range(20)].count("busy") == 10


@settings(max_examples=15)
@given(st.sampled_from([1, 10, 30]), st.floats(0.1, 10))
def test_nobody_starves_while_new_keys_come_for_ever(waiting: int, weight: float) -> None:
    """Twice as many new keys arrive as tasks are given out. The bound follows from how far each moves the time."""
    queue = _Queue(max_keys=20)
    for _ in range(waiting):
        queue.put("patient", weight)
    names = count()
    bound = 20 * (waiting * stride(weight) // STRIDE + 2) + waiting + 20
    served = 0
    for _ in range(4 * bound):
        queue.put(f"new {next(names)}")
        queue.put(f"new {next(names)}")
        served += queue.take() == "patient"
        if served == waiting:
            return
    raise AssertionError(f"{served} of {waiting} tasks were given out")


def test_memory_is_bounded_and_forgets_those_least_ahead() -> None:
    order = FairOrder(max_keys=100)
    for number in range(1_000):
        order.place(f"key {number}", 1.0)
        assert order.keys_remembered <= 100
    for _ in range(50):
        order.place("far ahead", 1.0)
    far = order.place("far ahead", 1.0)
    for number in range(1_000):
        order.place(f"other {number}", 1.0)
    assert order.place("far ahead", 1.0) == far + STRIDE


def test_weights_have_bounds_and_a_default() -> None:
    assert effective_weight(0) == effective_weight(-1) == 1.0
    assert effective_weight(1e-9) == LEAST_WEIGHT
    assert effective_weight(1e9) == GREATEST_WEIGHT
    assert [stride(weight) for weight in (1, 2, GREATEST_WEIGHT)] == [STRIDE, STRIDE // 2, 10_000]


@given(st.lists(st.tuples(st.sampled_from(KEYS), WEIGHTS), max_size=40), st.integers(0, 30))
def test_after_a_restart_the_order_goes_on(arrivals: list[tuple[str, float]], taken: int) -> None:
    """What a new process learns from the waiting tasks gives newcomers nearly the places of the old one."""
    queue = _Queue()
    for key, weight in arrivals:
        queue.put(key, weight)
    for _ in range(min(taken, len(queue.heap))):
        queue.take()
    if not queue.heap:
        return
    learnt = FairOrder()
    ends = {key: place for place, _, key in sorted(queue.heap)}
    learnt.learn(min(queue.heap)[0], ends)
    for key, last in ends.items():
        assert learnt.place(key, 1.0) == last + STRIDE, "behind its own last task"
    assert learnt.place("unknown", 1.0) >= min(queue.heap)[0], "behind whoever is first"
