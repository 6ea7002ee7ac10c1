"""The table of rules: what is looked for in workflow code, why it is wrong, and what to do instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perdure.core.replay.networks import NETWORK_MODULES


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: its name in output and in `# perdure: ignore[...]`.
        title: what was found; `{name}` stands for the name in the code.
        instead: what to do.
        calls: dotted names of functions that workflow code must not call; a trailing `*` stands for anything below.
    """

    code: str
    title: str
    instead: str
    calls: tuple[str, ...] = ()


_FILES = ("open", "io.open", "os.listdir", "os.scandir", "os.walk", "os.remove", "os.unlink", "os.rename", "os.replace",
          "os.mkdir", "os.makedirs", "os.rmdir", "os.stat", "os.path.exists", "os.path.isfile", "os.path.isdir",
          "os.path.getsize", "os.path.getmtime", "shutil.*", "tempfile.*", "glob.*",
          "sqlite3.*", "pathlib.Path.*")  # fmt: skip
_NETWORK = (*(f"{module}*" for module in NETWORK_MODULES), "asyncio.open_connection", "asyncio.start_server")
_PROCESSES = ("subprocess.*", "os.system", "os.popen", "os.fork", "os.kill", "threading.*", "multiprocessing.*",
              "concurrent.futures.*", "asyncio.to_thread", "asyncio.run", "asyncio.create_subprocess_exec",
              "asyncio.create_subprocess_shell", "asyncio.new_event_loop")  # fmt: skip
_RANDOM = ("os.urandom", "uuid.uuid1", "secrets.*", "random.SystemRandom", "random.seed", "random.setstate",
           "platform.node", "platform.uname", "os.uname")  # fmt: skip

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("PW101", "{name}() reads the real clock", "use workflow.now()", (
            "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
            "time.process_time", "time.thread_time")),
        Rule("PW102", "{name}() blocks the worker", "use `await asyncio.sleep(seconds)`, a durable timer",
             ("time.sleep",)),
        Rule("PW103", "{name}() gives another value when the workflow is replayed",
             "use workflow.random() or workflow.uuid4()", _RANDOM),
        Rule("PW104", "{name}() reads or changes files", "do it in an activity", _FILES),
        Rule("PW105", "{name}() uses the network", "do it in an activity", _NETWORK),
        Rule("PW106", "{name}() starts a thread, a process or an event loop",
             "use an activity, or asyncio.create_task for concurrency", _PROCESSES),
        Rule("PW107", "{name} reads the environment of one worker",
             "pass the value to the workflow as an argument, or read it in an activity",
             ("os.getenv", "os.environ.*", "os.getcwd", "os.getpid", "os.cpu_count", "socket.gethostname")),
        Rule("PW108", "{name}() acts again at every replay", "use workflow.logger", ("print", "input", "breakpoint")),
        Rule("PW109", "the order of a set differs between processes", "use sorted(...), a list or a dict"),
        Rule("PW110", "{name}() hands tasks out in the order of a set", "use workflow.wait or workflow.as_completed",
             ("asyncio.wait", "asyncio.as_completed")),
        Rule("PW111", "the generator {name} belongs to the module: all workflows draw from it",
             "use workflow.random()"),
        Rule("PW112", "{name} waits for other threads, and with it all workflows of the worker",
             "use what asyncio has for it (`async with asyncio.Lock()`), or do it in an activity"),
        Rule("PW201", "activity {name} is called as a function: it would run inside the workflow",
             "use `await workflow.execute_activity({name}, ...)`"),
        Rule("PW202", "{name}(...) is not awaited, so nothing waits for it and its error is lost",
             "write `await`, or keep the handle"),
        Rule("PW203", "{name}(...) has no timeout, and the server refuses that",
             "pass start_to_close_timeout or schedule_to_close_timeout"),
        Rule("PW204", "workflow class {name} has no single async method with @workflow.run",
             "mark exactly one `async def` with @workflow.run"),
        Rule("PW205", "query handler {name} is a coroutine", "make it a plain `def` that only reads"),
        Rule("PW206", "`global {name}`: state outside the workflow is not replayed and is shared by all workflows",
             "keep it on self"),
        Rule("PW207", "this `except` swallows the cancellation of the workflow",
             "catch Exception, or raise it again"),
        Rule("PW208", "this loop never waits: it blocks the worker until the deadlock limit",
             "await something in it, such as workflow.wait_condition"),
    )
}  # fmt: skip

AWAITED: frozenset[str] = frozenset(
    ("asyncio.sleep", "asyncio.gather", "asyncio.wait_for", "workflow.sleep", "workflow.wait_condition",
     "workflow.wait", "workflow.execute_activity", "workflow.execute_activity_method",
     "workflow.execute_activity_class",
     "workflow.execute_local_activity", "workflow.execute_local_activity_method",
     "workflow.execute_local_activity_class", "workflow.execute_child_workflow", "workflow.start_child_workflow")
)  # fmt: skip
"""Calls that do nothing for the workflow unless they are awaited."""

NEEDS_TIMEOUT: frozenset[str] = frozenset(
    f"workflow.{verb}_{kind}activity{suffix}"
    for verb in ("execute", "start")
    for kind in ("", "local_")
    for suffix in ("", "_method", "_class")
)
"""Calls that need one of two timeouts."""

WAITING_KINDS: dict[str, frozenset[str]] = {
    **{
        f"{module}.{kind}": frozenset(("with", "acquire"))
        for module in ("threading", "multiprocessing")
        for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore")
    },
    "threading.Condition": frozenset(("with", "acquire", "wait", "wait_for")),
    "threading.Event": frozenset(("wait",)),
    "threading.Barrier": frozenset(("wait",)),
    **{f"queue.{kind}": frozenset(("get", "put", "join")) for kind in ("Queue", "LifoQueue", "PriorityQueue")},
    "queue.SimpleQueue": frozenset(("get",)),
}  # fmt: skip
"""What waits for other threads: the methods that do, and `with`."""

LOCK_NAME = re.compile(
    r"(?:^|_)(?:[rR]?[lL]ock|LOCK|mutex|MUTEX|semaphore)(?:s?$|s?_)|[a-z](?:R?Lock|Mutex)$"
)
"""A name for a lock of which no more is known: it belongs to another module or to an object. A plain `with`, and
`acquire()` without `await`, are then those of threads: the locks of asyncio are awaited."""

TIMEOUTS: frozenset[str] = frozenset(("start_to_close_timeout", "schedule_to_close_timeout"))


def find_call(dotted: str) -> Rule | None:
    """The rule that forbids calling this dotted name, None if none does."""
    return _EXACT.get(dotted) or next((rule for prefix, rule in _BELOW if dotted.startswith(prefix)), None)


_EXACT: dict[str, Rule] = {
    name: rule for rule in RULES.values() for name in rule.calls if not name.endswith("*")
}
_BELOW: tuple[tuple[str, Rule], ...] = tuple(
    (name[:-1], rule) for rule in RULES.values() for name in rule.calls if name.endswith("*")
)
