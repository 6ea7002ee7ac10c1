"""`perdure worker run`: a worker for the workflows and activities of a module, started again when a file changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from perdure.cli import flags as f
from perdure.cli.code import CodeOfModule, load
from perdure.cli.command import Command, Flags
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session

LOOK_S: Final = 0.5
"""How often --reload looks at files."""
STOP_S: Final = 10.0
"""How long a worker that is to be replaced may take to finish."""
_CHILD: Final = "PERDURE_WORKER_RELOADED"
"""For the worker of --reload: the descriptor of a pipe that ends when the process that replaces it does."""


async def _run(session: Session, flags: Flags) -> None:
    """Run the workflows and activities of a module until Ctrl-C.

    The argument is a module, or MODULE:NAME for a class, a function or a list of them. What @workflow.defn,
    @activity.defn and @nexusrpc.handler.service_handler have decorated is found. Modules of this folder are found, too.
    """
    # Taken away, so that no process which the user's code starts believes to be such a worker.
    parent = os.environ.pop(_CHILD, "")
    if flags.reload and not parent:
        await _reloading(session)
        return
    found = load(flags.code)
    if not found.workflows and not found.activities and not found.services:
        raise WrongUsageError(f"{flags.code} has neither workflows nor activities")
    _say(session, flags, found)
    from perdure.worker import Worker

    worker = Worker(await session.client(), **_arguments(flags, found))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    if parent:
        loop.add_reader(int(parent), _orphaned, int(parent), stopping)
    async with worker:
        await stopping.wait()
        session.out.note("Stopping")


def _orphaned(pipe: int, stopping: asyncio.Event) -> None:
    """The process that replaces this one has ended, killed perhaps: nobody else would end this one."""
    asyncio.get_running_loop().remove_reader(pipe)
    stopping.set()


def _arguments(flags: Flags, found: CodeOfModule) -> dict[str, Any]:
    from perdure.common import VersioningBehavior, WorkerDeploymentVersion
    from perdure.worker import WorkerDeploymentConfig

    if bool(flags.deployment_name) != bool(flags.build_id):
        raise WrongUsageError("--deployment-name and --build-id belong together")
    more: dict[str, Any] = {}
    if flags.deployment_name:
        more["deployment_config"] = WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(deployment_name=flags.deployment_name, build_id=flags.build_id),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
        )
    if found.services:
        more["nexus_service_handlers"] = [service() for service in found.services]
    if found.needs_threads:
        from concurrent.futures import ThreadPoolExecutor

        more["activity_executor"] = ThreadPoolExecutor(flags.max_concurrent_activities)
    return {
        "task_queue": flags.task_queue,
        "workflows": found.workflows,
        "activities": found.activities,
        "max_concurrent_activities": flags.max_concurrent_activities,
        "graceful_shutdown_timeout": flags.graceful_shutdown_timeout,
        "debug_mode": flags.debug,
        **more,
    }


def _say(session: Session, flags: Flags, found: CodeOfModule) -> None:
    counts = (
        (len(found.workflows), "workflow", "workflows"),
        (len(found.activities), "activity", "activities"),
        (len(found.services), "Nexus service", "Nexus services"),
    )
    names = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    address = session.connection.config.target_host
    session.out.note(
        f"Worker on task queue {flags.task_queue} of {address}: {', '.join(names)}; Ctrl-C ends it"
    )


async def _reloading(session: Session) -> None:
    """Runs the worker in a process of its own, and another one whenever a file changes."""
    command = [sys.executable, "-c", "from perdure.cli import main; main()", *sys.argv[1:]]
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    # The worker is in a session of its own: nobody but this process tells it that the terminal is gone.
    loop.add_signal_handler(signal.SIGHUP, stopping.set)
    # Nothing is ever written. The end for writing is closed with this process, however it ends.
    of_worker, _ = os.pipe()
    while not stopping.is_set():
        before = dict(_files())
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, _CHILD: str(of_worker)},
            pass_fds=(of_worker,),
            start_new_session=True,
        )
        try:
            changed = await _changed(before, process, stopping)
        finally:
            await _stop(process)
        if changed:
            session.out.note(f"{changed} has changed, the worker starts again")


async def _changed(
    before: dict[Path, float], process: asyncio.subprocess.Process, stopping: asyncio.Event
) -> Path | None:
    """Waits for a change of a file; None if the worker is to end."""
    has_ended = False
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), LOOK_S)
        except TimeoutError:
            pass  # nothing has happened: look at the files
        now = dict(_files())
        if now != before:
            return next(path for path in {**now, **before} if now.get(path) != before.get(path))
        if process.returncode is not None and not has_ended:
            has_ended = True
            click.echo("The worker has ended; it starts again when a file changes", err=True)
    return None


def _files() -> Iterator[tuple[Path, float]]:
    """Python files below this folder with the time of their last change."""
    for folder, inner, names in os.walk("."):
        inner[:] = [
            name for name in inner if not name.startswith(".") and name not in ("node_modules", "__pycache__")
        ]
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                try:
                    yield path, path.stat().st_mtime
                except FileNotFoundError:
                    continue  # an editor that writes beside and renames


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Lets a worker finish what it does, for a while."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


run: Final = Command(
    "run",
    _run,
    (
        click.Argument(("code",), metavar="MODULE[:NAME]"),
        f.text("--task-queue", "-t", required=True, metavar="NAME", help="Task queue to poll."),
        f.switch("--reload", help="Start again when a Python file below this folder changes."),
        f.integer("--max-concurrent-activities", help="Activities at once.", default=100, show_default=True),
        f.duration("--graceful-shutdown-timeout", help="Time of activities to finish.", default="5s"),
        f.text("--deployment-name", metavar="NAME", help="Deployment that the worker belongs to."),
        f.text("--build-id", metavar="ID", help="Build of that deployment."),
        f.switch("--debug", help="Never interrupt workflow code, for a debugger."),
    ),
    "perdure worker run orders --task-queue orders --reload",
)
