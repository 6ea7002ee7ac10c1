"""Random workflow programs: generated from a seed, carried in the workflow's input, with the result they must have.

A program is plain JSON, so that a worker knows it from the history alone. Steps are lists that begin with their kind:

    ["activity", id, spec]                run an activity and keep its outcome
    ["timer", id, seconds]                wait
    ["signal", name]                      wait until a signal of that name has come
    ["marker", name]                      record a marker
    ["attributes", value]                 upsert a search attribute and a memo field
    ["local", id, heartbeats]             a local activity: the worker computes it, over several workflow tasks
    ["race", id, spec, timer_id, s]       an activity against a timer; the loser is cancelled
    ["guard", timer_id, s, steps]         steps under a long timer that is cancelled after them
    ["all", [steps, ...]]                 branches side by side
    ["child", id, program, policy]        run a child workflow and keep its result
    ["abort", id, program, timer_id, s]   run a child and ask it to cancel after a time
    ["poke", id, workflow_id]             signal another workflow, which may not be there
    ["operation", id, kind, program]      a Nexus operation; "workflow" ones run a program and have its result
    ["drop", id, kind, program, timer_id, s]   the same, and ask it to cancel after a time

A program may have a "next" one: it then ends by continuing as new with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

Step = list[Any]
Program = dict[str, Any]
ANY = "*"
"""In a predicted result: this entry depends on the order of events."""

FAILURE_TYPE = "Planned"
"""The type of the failures that activities and workflows raise on purpose."""

CANCEL = "cancel"
CLEAN_UP = "clean up"
IGNORE = "ignore"
POLICIES = (1, 2, 3)
"""What becomes of a child when its parent closes: terminate, abandon, ask to cancel."""


@dataclass
class _Names:
    """Numbers ids of one program and collects the signals it waits for."""

    count: int = 0
    children: int = 0
    signals: list[str] = field(default_factory=list)

    def next(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"


def random_program(random: Random, *, waits_for_signals: bool = True) -> Program:
    """A program of one to six steps, perhaps with another one to continue with."""
    names = _Names()
    program = _random_program(random, names, waits_for_signals, 6)
    if random.random() < 0.15:
        program["next"] = _random_program(random, names, False, 3)
    return program


def _random_program(random: Random, names: _Names, waits_for_signals: bool, most_steps: int) -> Program:
    steps = [_random_step(random, names, 2, waits_for_signals) for _ in range(random.randint(1, most_steps))]
    if names.children < 3 and random.random() < 0.25:
        names.children += 1
        steps.insert(random.randint(0, len(steps)), _random_reach(random, names))
    program: Program = {
        "steps": steps,
        "ends": random.choice(("complete", "complete", "complete", "fail")),
        "on_cancel": random.choice((CANCEL, CLEAN_UP, IGNORE)),
        "signals": names.signals,
    }
    if program["on_cancel"] == CLEAN_UP:
        program["clean_up"] = [["activity", names.next("c"), {"attempts": 0}], ["marker", names.next("m")]]
    return program


def _random_reach(random: Random, names: _Names) -> Step:
    """A step that does something to another workflow."""
    kind = random.choice(("child", "child", "abort", "poke", "operation", "operation", "drop"))
    if kind == "poke":
        return [kind, names.next("p"), random.choice(("nobody", *(f"w{number}" for number in range(1, 8))))]
    if kind in ("operation", "drop"):
        return _random_operation(random, names, kind)
    name = names.next("w")
    body = _random_program(random, names, False, 2)
    body["signals"] = []
    if random.random() < 0.2:
        body["next"] = _random_program(random, names, False, 1)
    if kind == "child":
        return [kind, name, body, random.choice(POLICIES)]
    return [kind, name, body, names.next("t"), random.choice((0.0, 0.5, 3.0))]


def _random_operation(random: Random, names: _Names, kind: str) -> Step:
    operation = random.choice(("value", "fails", "workflow", "workflow"))
    name = names.next("n")
    body = _random_program(random, names, False, 2)
    body["signals"] = []
    if random.random() < 0.2:
        body["next"] = _random_program(random, names, False, 1)
    step = [kind, name, operation, body]
    return step if kind == "operation" else [*step, names.next("t"), random.choice((0.0, 0.5, 3.0))]


def _random_step(random: Random, names: _Names, depth: int, waits_for_signals: bool) -> Step:
    kinds = ["activity"] * 5 + ["timer"] * 2 + ["marker", "attributes", "local", "race", "race"]
    if waits_for_signals:
        kinds += ["signal"] * 2
    if depth:
        kinds += ["all"] * 2 + ["guard"] * 2
    kind = random.choice(kinds)
    if kind == "activity":
        return [kind, names.next("a"), random_activity(random)]
    if kind == "timer":
        return [kind, names.next("t"), _random_seconds(random)]
    if kind == "signal":
        names.signals.append(names.next("s"))
        return [kind, names.signals[-1]]
    if kind == "marker":
        return [kind, names.next("m")]
    if kind == "attributes":
        return [kind, names.next("v")]
    if kind == "local":
        return [kind, names.next("l"), random.randint(0, 2)]
    if kind == "race":
        spec = random_activity(random)
        return [kind, names.next("a"), spec, names.next("t"), random.choice((0.5, 2.0, 5.0, 10.0))]
    if kind == "guard":
        body = [
            _random_step(random, names, depth - 1, waits_for_signals) for _ in range(random.randint(1, 2))
        ]
        return [kind, names.next("t"), random.choice((2.0, 30.0, 600.0)), body]
    branches = [
        [_random_step(random, names, depth - 1, waits_for_signals) for _ in range(random.randint(1, 2))]
        for _ in range(random.randint(2, 3))
    ]
    return [kind, branches]


def _random_seconds(random: Random) -> float:
    return random.choice((0.0, 0.1, 1.0, 3.0, 10.0, 30.0))


def random_activity(random: Random) -> dict[str, Any]:
    """How an activity behaves. Keys, all optional:

    attempts: policy's maximum (0: no limit); hangs: first attempts, which never answer; fails: attempts after them,
    which fail; non_retryable: all those fail, for good; duration_s; heartbeat_s: the timeout; start_to_close_s;
    schedule_to_close_s; schedule_to_start_s; by_id: complete by id instead of token; eager; on_cancel: "confirm" or
    "finish"; delay_s: the failure's own retry delay; priority; fairness: key and weight.
    """
    spec: dict[str, Any] = {"duration_s": random.choice((0.0, 0.01, 0.5, 2.0))}
    if random.random() < 0.4:
        spec["fails"] = random.randint(1, 3)
    if random.random() < 0.1:
        spec["hangs"] = random.randint(1, 2)
    if random.random() < 0.3:
        spec["heartbeat_s"] = random.choice((1.0, 3.0))
        spec["duration_s"] = random.choice((0.5, 2.0, 3.0))
    if random.random() < 0.2:
        spec["attempts"] = random.randint(1, 3)
    if random.random() < 0.1:
        spec["non_retryable"] = True
    if random.random() < 0.1:
        spec["schedule_to_close_s"] = random.choice((3.0, 20.0))
    if random.random() < 0.1:
        spec["schedule_to_start_s"] = random.choice((1.0, 10.0))
    if random.random() < 0.2:
        spec["by_id"] = True
    if random.random() < 0.4:
        spec["eager"] = True
    if random.random() < 0.5:
        spec["on_cancel"] = "finish"
    if random.random() < 0.2:
        spec["delay_s"] = random.choice((0.0, 2.0))
    if random.random() < 0.2:
        spec["priority"] = random.randint(1, 5)
    if random.random() < 0.3:
        spec["fairness"] = [random.choice("abc"), random.choice((0.0, 0.5, 4.0))]
    spec["start_to_close_s"] = random.choice((5.0, 8.0))
    return spec


def activity_value(activity_id: str) -> str:
    """What an activity returns when it succeeds."""
    return f"value of {activity_id}"


def final(program: Program) -> Program:
    """The program of the last run, when each run continues as new."""
    return final(program["next"]) if "next" in program else program


def predict(program: Program) -> list[Any]:
    """The result that the program has whatever faults occur; entries that depend on them are `ANY`."""
    return _predict_steps(program["steps"])


def _predict_steps(steps: list[Step]) -> list[Any]:
    return [_predict_step(step) for step in steps]


def _predict_step(step: Step) -> Any:
    kind = step[0]
    if kind == "activity":
        return _predict_activity(step[1], step[2])
    if kind == "race":
        return ANY
    if kind == "guard":
        return _predict_steps(step[3])
    if kind == "all":
        return [_predict_steps(branch) for branch in step[1]]
    if kind == "local":
        return activity_value(step[1])
    if kind == "child":
        last = final(step[2])
        return predict(last) if last["ends"] == "complete" else ["failed"]
    if kind == "operation":
        return predict_operation(*step[1:])
    if kind in ("abort", "poke", "drop"):
        return ANY
    return step[1]


def predict_operation(operation_id: str, operation: str, program: Program) -> Any:
    """The result that an operation has whatever faults occur; `["failed"]` for one that fails."""
    if operation == "value":
        return activity_value(operation_id)
    last = final(program)
    if operation == "fails" or last["ends"] != "complete":
        return ["failed"]
    return predict(last)


def _predict_activity(activity_id: str, spec: dict[str, Any]) -> Any:
    if spec.get("schedule_to_close_s") or spec.get("schedule_to_start_s"):
        return ANY
    if spec.get("attempts"):
        return ANY  # lost attempts count too
    return ["failed", FAILURE_TYPE] if spec.get("non_retryable") else activity_value(activity_id)


def agrees(predicted: Any, observed: Any) -> bool:
    """Whether an observed result is the predicted one."""
    if predicted == ANY:
        return True
    if isinstance(predicted, list) and isinstance(observed, list) and len(predicted) == len(observed):
        return all(agrees(one, other) for one, other in zip(predicted, observed, strict=True))
    return bool(predicted == observed)
