"""Random workflow programs, as data: trees of operations from a seed.

Lives here: which programs there are. May not: what an operation does (`interpreter.py`).
"""

from __future__ import annotations

import random
from typing import Any, Final

Node = dict[str, Any]

MAX_DEPTH: Final = 3
_ACTIVITY_MODES: Final = ("ok", "ok", "ok", "retry", "fail", "heartbeat")
_CANCELLATIONS: Final = ("TRY_CANCEL", "WAIT_CANCELLATION_COMPLETED", "ABANDON")
_POKES: Final = ("signal", "signal", "work_signal", "update", "update", "rejected_update", "queries")


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"program {seed}")
        self.left = 14

    def node(self, depth: int) -> Node:
        self.left -= 1
        choices = self.random
        if depth >= MAX_DEPTH or self.left <= 0 or choices.random() < 0.45:
            return self.leaf()
        return choices.choice(
            (
                self.sequence,
                self.gather,
                self.race,
                self.group,
                self.limit,
                self.stopped,
                self.child,
                self.locked,
            )
        )(depth)

    def nodes(self, depth: int, least: int = 1, most: int = 3) -> list[Node]:
        return [self.node(depth + 1) for _ in range(self.random.randint(least, most))]

    def leaf(self) -> Node:
        choices = self.random
        kind = choices.choice(
            (
                *(
                    "activity",
                    "activity",
                    "activity",
                    "timer",
                    "timer",
                    "local",
                    "local",
                    "condition",
                    "patch",
                ),
                *("uuid", "memo", "search", "external", "poke", "poke", "turn", "metric", "fail", "side"),
            )
        )
        leaf: Node = {"op": kind}
        if kind == "activity":
            leaf |= {"mode": choices.choice(_ACTIVITY_MODES), "cancellation": choices.choice(_CANCELLATIONS)}
        elif kind == "timer":
            leaf |= {"seconds": choices.choice((0, 0.5, 1, 3, 60, 86_400))}
        elif kind == "local":
            leaf |= {"mode": choices.choice(("ok", "ok", "retry", "fail"))}
        elif kind == "condition":
            leaf |= {"seconds": choices.choice((1, 5, 100)), "signals": choices.randint(1, 3)}
        elif kind == "patch":
            leaf |= {"name": f"patch-{choices.randrange(4)}", "deprecated": choices.random() < 0.3}
        elif kind == "external":
            leaf |= {"does": choices.choice(("signal", "cancel")), "to": choices.choice(("parent", "nobody"))}
        elif kind == "poke":
            leaf |= {"what": choices.choice(_POKES)}
        elif kind == "side":
            leaf |= {
                "node": {"op": choices.choice(("timer", "activity", "local")), "seconds": 2, "mode": "ok"}
            }
        return leaf

    def sequence(self, depth: int) -> Node:
        return {"op": "sequence", "nodes": self.nodes(depth, 2, 4)}

    def gather(self, depth: int) -> Node:
        return {"op": "gather", "nodes": self.nodes(depth, 2, 4)}

    def race(self, depth: int) -> Node:
        how = self.random.choice(("wait", "as_completed", "workflow_wait"))
        return {"op": "race", "how": how, "nodes": self.nodes(depth, 2, 3)}

    def group(self, depth: int) -> Node:
        return {"op": "group", "nodes": self.nodes(depth, 2, 3)}

    def limit(self, depth: int) -> Node:
        how = self.random.choice(("timeout", "wait_for"))
        seconds = self.random.choice((0.2, 2, 50))
        return {"op": "limit", "how": how, "seconds": seconds, "node": self.node(depth + 1)}

    def stopped(self, depth: int) -> Node:
        after = self.random.choice(("at once", "a turn", "a timer", "a signal"))
        shielded = self.random.random() < 0.25
        return {"op": "stopped", "after": after, "shielded": shielded, "node": self.node(depth + 1)}

    def child(self, depth: int) -> Node:
        choices = self.random
        return {
            "op": "child",
            "does": choices.choice(("wait", "wait", "signal", "cancel", "abandon")),
            "id": choices.choice(("default", "uuid", "random")),
            "cancellation": choices.choice(("WAIT_CANCELLATION_COMPLETED", "TRY_CANCEL", "ABANDON")),
            "node": self.node(depth + 1),
        }

    def locked(self, depth: int) -> Node:
        how = self.random.choice(("lock", "queue", "event", "semaphore"))
        return {"op": "locked", "how": how, "nodes": self.nodes(depth, 2, 3)}


def random_program(seed: int) -> Node:
    """Return the program of a seed: what to do, what its handlers do, and what the next runs of its chain do.

    Args:
        seed: The same seed makes the same program.
    """
    maker = _Maker(seed)
    choices = maker.random
    runs = [{"op": "sequence", "nodes": maker.nodes(0, 2, 4)} for _ in range(choices.choice((1, 1, 1, 2)))]
    handler = maker.leaf()
    while handler["op"] in ("poke", "side"):  # a handler that sends to itself never ends
        handler = maker.leaf()
    return {
        "runs": runs,
        "handler": handler,
        "is_cancelled": choices.random() < 0.12,
        "fails": choices.random() < 0.1,
    }


def operations(node: Any) -> set[str]:
    """Return the names of all operations in a tree."""
    if isinstance(node, list):
        return set().union(*map(operations, node))
    if not isinstance(node, dict):
        return set()
    found = {node["op"]} if "op" in node else set()
    return found.union(*map(operations, node.values()))
