"""Flags: the kinds there are, and the groups that many commands share. Tables only; no command lives here.

A flag is a `click.Option` made once and shared by all commands that take it. Options keep no state of a call, so the
same object can stand in many commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import click

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)")
_UNIT_US: Final = {
    "ns": 0.001, "us": 1, "µs": 1, "μs": 1, "ms": 1_000, "s": 1_000_000,
    "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000,
}  # fmt: skip


def parse_duration(value: str) -> timedelta:
    """A duration as `90s`, `1h30m`, `1.5d`; units ns, us, ms, s, m, h, d.

    Raises:
        ValueError: it is none; the message says what one looks like.
    """
    sign, text = (-1, value[1:]) if value.startswith("-") else (1, value.removeprefix("+"))
    if text == "0":
        return timedelta()
    parts = list(_DURATION_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{value!r} is no duration such as 30s, 1h30m or 7d")
    length_us = sum(float(part[1]) * _UNIT_US[part[2]] for part in parts)
    if 0 < length_us < 1:
        length_us = 1  # nothing would mean no limit
    try:
        return sign * timedelta(microseconds=length_us)
    except OverflowError:
        raise ValueError(f"{value!r} is too long") from None


def parse_time(value: str) -> datetime:
    """A time as RFC 3339 has it: `2026-01-31T12:00:00Z`.

    Raises:
        ValueError: it is none, or has no time zone.
    """
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{value!r} is no time such as 2026-01-31T12:00:00Z")
    return moment


class Converted(click.ParamType):  # type: ignore[type-arg]  # generic in some releases only
    """A value that a function reads from text; its ValueError is the message."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads text; what is no text has been read already."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION: Final = Converted("duration", parse_duration)
TIME: Final = Converted("timestamp", parse_time)


def text(*names: str, help: str, metavar: str | None = None, **more: Any) -> click.Option:
    """A flag with a text."""
    return click.Option(names, help=help, metavar=metavar or "TEXT", **more)


def texts(*names: str, help: str, metavar: str | None = None, **more: Any) -> click.Option:
    """A flag with a text that can be given several times."""
    return text(*names, help=f"{help} Repeatable.", metavar=metavar, multiple=True, **more)


def switch(*names: str, help: str, **more: Any) -> click.Option:
    """A flag without a value; `--flag=true` and `--flag=false` work, too."""
    return click.Option(names, help=help, is_flag=True, **more)


def integer(*names: str, help: str, **more: Any) -> click.Option:
    """A flag with a whole number."""
    return click.Option(names, help=help, type=int, metavar="N", **more)


def number(*names: str, help: str, **more: Any) -> click.Option:
    """A flag with a number."""
    return click.Option(names, help=help, type=float, metavar="NUMBER", **more)


def duration(*names: str, help: str, **more: Any) -> click.Option:
    """A flag with a duration."""
    return click.Option(names, help=help, type=DURATION, metavar="DURATION", **more)


def moment(*names: str, help: str, **more: Any) -> click.Option:
    """A flag with a time."""
    return click.Option(names, help=help, type=TIME, metavar="TIME", **more)


def choice(*names: str, of: Sequence[str], help: str, **more: Any) -> click.Option:
    """A flag with one of several words, in any case."""
    return click.Option(names, help=help, type=click.Choice(of, case_sensitive=False), **more)


def choices(*names: str, of: Sequence[str], help: str, **more: Any) -> click.Option:
    """A flag with one of several words, that can be given several times."""
    return choice(*names, of=of, help=f"{help} Repeatable.", multiple=True, **more)


def complete_workflow_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of workflows that begin like this, for the shell."""
    from perdure.cli.completion import workflow_ids

    found: list[str] = workflow_ids(ctx, incomplete)
    return found


FlagGroup = tuple[click.Option, ...]

WORKFLOW_ID: Final[dict[str, Any]] = {
    "metavar": "ID",
    "help": "Id of the workflow.",
    "shell_complete": complete_workflow_ids,
}
"""What a flag for the id of an existing workflow has besides its name."""
_RUN_ID: Final = text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest.")
QUERY: Final = text(
    "--query", "-q", metavar="FILTER", help="List filter, such as \"WorkflowType = 'Order'\"."
)
YES: Final = switch("--yes", "-y", help="Do it without asking.")
LIMIT: Final = integer("--limit", help="Show at most this many; without it all.")
PAGE_SIZE: Final = integer("--page-size", help="How many to ask for at once.")
WATCH: Final[FlagGroup] = (
    switch("--watch", help="Show it again and again, until Ctrl-C or the end of what is shown."),
    duration("--watch-interval", help="Pause between two showings.", default="2s", show_default=True),
)
WAIT: Final = switch("--wait", help="For a batch: wait until it has ended, and show its progress.")
RAW: Final = switch("--raw", help="Show the server's answer as it is.")

WORKFLOW_REFERENCE: Final[FlagGroup] = (
    text("--workflow-id", "-w", required=True, **WORKFLOW_ID),
    _RUN_ID,
)
_HEADERS: Final = texts("--headers", metavar="KEY=JSON", help="Header of the call that the workflow sees.")
_SELECTED: Final[FlagGroup] = (
    text("--workflow-id", "-w", **WORKFLOW_ID),
    text("--query", "-q", metavar="FILTER", help="Do it as a batch to all workflows that this finds."),
    _RUN_ID,
    text("--reason", help="Why; kept with the event or the batch."),
    YES,
    number("--rps", help="For a batch: at most this many operations a second."),
)
TERMINATED: Final[FlagGroup] = (*_SELECTED, WAIT)
SINGLE_OR_BATCH: Final[FlagGroup] = (*_SELECTED, _HEADERS, WAIT)
ACTIVITY_REFERENCE: Final[FlagGroup] = (
    text("--activity-id", "-a", required=True, metavar="ID", help="Id of the activity."),
    _RUN_ID,
)
ACTIVITY_OR_BATCH: Final[FlagGroup] = (
    text("--activity-id", "-a", metavar="ID", help="Id of the activity."),
    _RUN_ID,
    text("--query", "-q", metavar="FILTER", help="Do it as a batch to all activities that this finds."),
    number("--rps", help="For a batch: at most this many operations a second."),
    text("--reason", help="Why; kept with the activity or the batch."),
    YES,
    WAIT,
)
ACTIVITY_OF_WORKFLOW: Final[FlagGroup] = (
    text("--activity-id", "-a", metavar="ID", help="Id of the activity."),
    *SINGLE_OR_BATCH,
)

PAYLOAD_INPUT: Final[FlagGroup] = (
    texts("--input", "-i", metavar="JSON", help="An argument."),
    texts("--input-file", metavar="PATH", help="File with an argument."),
    texts(
        "--input-meta",
        metavar="KEY=VALUE",
        help="Metadata of the payloads; encoding is json/plain otherwise.",
    ),
    switch("--input-base64", help="The inputs are base64."),
)


def prefixed_input(prefix: str, what: str) -> FlagGroup:
    """The flags of `PAYLOAD_INPUT` for another value that the same command sends."""
    return (
        texts(f"--{prefix}-input", metavar="JSON", help=f"An argument of the {what}."),
        texts(f"--{prefix}-input-file", metavar="PATH", help=f"File with an argument of the {what}."),
        texts(f"--{prefix}-input-meta", metavar="KEY=VALUE", help=f"Metadata of the {what}'s payloads."),
        switch(f"--{prefix}-input-base64", help=f"The {what}'s inputs are base64."),
    )


PRIORITY: Final[FlagGroup] = (
    integer("--priority-key", help="Priority, 1 (first) to 5; 3 is usual."),
    text("--fairness-key", metavar="KEY", help="Tasks of different keys take turns."),
    number("--fairness-weight", help="Share of this fairness key; 1 is usual."),
)
_SUMMARY: Final[FlagGroup] = (
    text("--static-summary", help="One line for people, shown in lists and UIs."),
    text("--static-details", help="Text for people, shown with the run; Markdown."),
)
SHARED_START: Final[FlagGroup] = (
    text("--workflow-id", "-w", metavar="ID", help="Id of the workflow; a random one without it."),
    text("--type", "--name", required=True, metavar="NAME", help="Workflow type."),
    text("--task-queue", "-t", required=True, metavar="NAME", help="Task queue of its workers."),
    duration("--run-timeout", help="Limit of one run."),
    duration("--execution-timeout", help="Limit of the whole chain of runs."),
    duration("--task-timeout", help="Limit of one workflow task.", default="10s", show_default=True),
    texts("--search-attribute", metavar="KEY=JSON", help="Search attribute of the workflow."),
    texts("--headers", metavar="KEY=JSON", help="Header that the workflow sees."),
    texts("--memo", metavar="KEY=JSON", help="Memo of the workflow."),
    *_SUMMARY,
    *PRIORITY,
)
_ID_REUSE: Final = ("AllowDuplicate", "AllowDuplicateFailedOnly", "RejectDuplicate", "TerminateIfRunning")
WORKFLOW_START: Final[FlagGroup] = (
    text("--cron", metavar="CRON", help="Run again by this cron string. Schedules do this better."),
    switch("--fail-existing", help="Fail if the workflow runs already."),
    duration("--start-delay", help="First task not before this time has passed."),
    choice("--id-reuse-policy", of=_ID_REUSE, help="What a closed workflow of this id means."),
    choice(
        "--id-conflict-policy",
        of=("Fail", "UseExisting", "TerminateExisting"),
        help="What an open workflow of this id means.",
    ),
)
ACTIVITY_TIMEOUTS: Final[FlagGroup] = (
    duration("--schedule-to-close-timeout", help="Limit of all attempts together."),
    duration("--schedule-to-start-timeout", help="Limit of waiting in the task queue."),
    duration("--start-to-close-timeout", help="Limit of one attempt."),
    duration("--heartbeat-timeout", help="Limit between two heartbeats."),
    duration("--start-delay", help="First attempt not before this time has passed."),
    duration("--retry-initial-interval", help="Pause before the second attempt."),
    duration("--retry-maximum-interval", help="Longest pause between attempts."),
    number("--retry-backoff-coefficient", help="Each pause is this many times the one before."),
    integer("--retry-maximum-attempts", help="Attempts in all; 1 means no retry."),
)
ACTIVITY_START: Final[FlagGroup] = (
    text("--activity-id", "-a", required=True, metavar="ID", help="Id of the activity."),
    text("--type", required=True, metavar="NAME", help="Activity type."),
    text("--task-queue", "-t", required=True, metavar="NAME", help="Task queue of its workers."),
    *ACTIVITY_TIMEOUTS,
    choice("--id-reuse-policy", of=_ID_REUSE[:3], help="What a closed activity of this id means."),
    choice("--id-conflict-policy", of=("Fail", "UseExisting"), help="What an open one of this id means."),
    texts("--search-attribute", metavar="KEY=JSON", help="Search attribute of the activity."),
    texts("--headers", metavar="KEY=JSON", help="Header that the activity sees."),
    *_SUMMARY,
    *PRIORITY,
)
UPDATE_START: Final[FlagGroup] = (
    text("--name", "--type", required=True, metavar="NAME", help="Name of the update."),
    text("--first-execution-run-id", metavar="ID", help="Only to this chain of runs."),
    text("--workflow-id", "-w", required=True, **WORKFLOW_ID),
    text("--update-id", metavar="ID", help="Id of the update; a random one without it."),
    _RUN_ID,
    _HEADERS,
)
UPDATE_REFERENCE: Final[FlagGroup] = (
    text("--workflow-id", "-w", required=True, **WORKFLOW_ID),
    text("--update-id", required=True, metavar="ID", help="Id of the update."),
    _RUN_ID,
)
_REJECT: Final = choice(
    "--reject-condition",
    of=("not_open", "not_completed_cleanly"),
    help="Refuse if the workflow is like this.",
)
QUERY_MODIFIERS: Final[FlagGroup] = (_REJECT, _HEADERS)
STACK_MODIFIERS: Final[FlagGroup] = (_REJECT,)
TASK_QUEUE: Final = text("--task-queue", "-t", required=True, metavar="NAME", help="Name of the task queue.")

COMMON: Final[FlagGroup] = (
    text(
        "--env", metavar="NAME", help="Environment of the env file whose flags apply. Variable: TEMPORAL_ENV."
    ),
    text("--env-file", metavar="PATH", help="Env file (YAML). Variable: TEMPORAL_ENV_FILE."),
    text("--config-file", metavar="PATH", help="Configuration file (TOML). Variable: TEMPORAL_CONFIG_FILE."),
    text("--profile", metavar="NAME", help="Profile of the configuration file. Variable: TEMPORAL_PROFILE."),
    switch("--disable-config-file", help="Read no configuration file.", default=None),
    switch("--disable-config-env", help="Read no TEMPORAL_* variables.", default=None),
    choice(
        "--log-level",
        of=("debug", "info", "warn", "error", "fatal", "never"),
        help="Least level that is logged.",
    ),
    choice("--log-format", of=("text", "json", "pretty"), help="Form of the log, which goes to stderr."),
    choice("--output", "-o", of=("text", "json", "jsonl", "none"), help="Form of the data on stdout."),
    choice("--time-format", of=("relative", "iso", "raw"), help="Form of times in text."),
    choice("--color", of=("always", "never", "auto"), help="Colour; auto means on a terminal."),
    switch("--no-json-shorthand-payloads", help="Payloads in JSON as they are on the wire.", default=None),
    duration("--command-timeout", help="End the command with an error after this time."),
    duration("--client-connect-timeout", help="How long connecting may take."),
)
"""Flags that every command takes."""

CONNECTION: Final[FlagGroup] = (
    text("--address", metavar="ADDRESS", help="host:port, or sqlite:///FILE. Variable: TEMPORAL_ADDRESS."),
    text("--client-authority", help="Name of the server that is sent to it, instead of its host."),
    text("--namespace", "-n", metavar="NAME", help="Namespace. Variable: TEMPORAL_NAMESPACE."),
    text("--api-key", metavar="KEY", help="API key. Variable: TEMPORAL_API_KEY."),
    texts(
        "--grpc-meta", metavar="KEY=VALUE", help="Metadata of each call. Variables: TEMPORAL_GRPC_META_KEY."
    ),
    switch("--tls/--no-tls", help="Use TLS, or not. Variable: TEMPORAL_TLS.", default=None),
    text(
        "--tls-cert-path",
        metavar="PATH",
        help="Certificate of the client. Variable: TEMPORAL_TLS_CLIENT_CERT_PATH.",
    ),
    text(
        "--tls-cert-data", metavar="PEM", help="The same, as it is. Variable: TEMPORAL_TLS_CLIENT_CERT_DATA."
    ),
    text(
        "--tls-key-path",
        metavar="PATH",
        help="Key of that certificate. Variable: TEMPORAL_TLS_CLIENT_KEY_PATH.",
    ),
    text("--tls-key-data", metavar="PEM", help="The same, as it is. Variable: TEMPORAL_TLS_CLIENT_KEY_DATA."),
    text("--tls-ca-path", metavar="PATH", help="Who is trusted. Variable: TEMPORAL_TLS_SERVER_CA_CERT_PATH."),
    text(
        "--tls-ca-data", metavar="PEM", help="The same, as it is. Variable: TEMPORAL_TLS_SERVER_CA_CERT_DATA."
    ),
    switch("--tls-disable-host-verification", help="Not offered: names the safe way instead.", default=None),
    text(
        "--tls-server-name",
        metavar="NAME",
        help="Name it must have. Variable: TEMPORAL_TLS_SERVER_NAME.",
    ),
    text(
        "--codec-endpoint",
        metavar="URL",
        help="Codec server of payloads. Variable: TEMPORAL_CODEC_ENDPOINT.",
    ),
    text("--codec-auth", metavar="TEXT", help="Authorization header for it. Variable: TEMPORAL_CODEC_AUTH."),
    texts("--codec-header", metavar="KEY=VALUE", help="Header for it."),
    text("--identity", metavar="TEXT", help="Who the server is told that asks; user and host without it."),
)
"""Flags of the commands that talk to a server."""
