"""What the messages of the bridge's tests mean.

Starts need no worker: a workflow that nobody runs has been started all the same. Signals go to one that nobody runs
either.
"""

from __future__ import annotations

from perdure.contrib.bridge import Decision, Message, SignalWorkflow, StartWorkflow

TASK_QUEUE = "nobody-works-here"


def decide(message: Message) -> Decision:
    """Start `<what>`, or signal the workflow that collects; see the tests for the other kinds."""
    given = message.json()
    what = given["what"]
    match given["kind"]:
        case "start":
            return StartWorkflow("Order", what, task_queue=TASK_QUEUE)
        case "signal":
            start = StartWorkflow("Collector", task_queue=TASK_QUEUE)
            return SignalWorkflow(given["to"], "collect", what, start=start)
        case "signal-nobody":
            return SignalWorkflow("nobody", "collect", what)
        case "nothing":
            return None
    raise ValueError(f"unknown kind {given['kind']}")


def message_id(message: Message) -> str:
    """The producer's id where it gives one beside the broker's."""
    return message.headers.get("message_id", message.id)
