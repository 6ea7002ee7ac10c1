"""Where the server's time goes: py-spy over a server under the raw load, and the functions that cost most."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Json, RunOptions, load_command
from benchmarks.targets import TARGETS, running

TOP = 35
ATTACH_S = 2.0


@dataclass(frozen=True)
class Profile:
    """Samples by function (in the function itself, and in it or below it) and by part of Perdure.

    A sample belongs to the part whose function is innermost on the stack: what it calls in libraries is its cost.
    """

    samples: int
    own: Counter[str]
    inclusive: Counter[str]
    parts: Counter[str]


def read_collapsed(text: str) -> Profile:
    """Count samples from collapsed stacks (`frame;frame;frame count`), leaving line numbers out."""
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    total = 0
    for line in text.splitlines():
        stack, _, number = line.rpartition(" ")
        if not stack:
            continue
        count, frames = int(number), [_function(frame) for frame in stack.split(";")]
        total += count
        own[frames[-1]] += count
        for name in set(frames):
            inclusive[name] += count
        parts[_part(frames)] += count
    return Profile(total, own, inclusive, parts)


def _part(frames: list[str]) -> str:
    """The folder of Perdure that a stack's innermost function of Perdure is in."""
    for frame in reversed(frames):
        place = frame.partition(" (")[2].rstrip(")")
        if "perdure/" in place:
            return place[place.rindex("perdure/") :].rpartition("/")[0]
    return "event loop and threads"


def _function(frame: str) -> str:
    """`name (path/file.py:12)` to `name (file.py)`: one row a function, whatever its line."""
    name, _, place = frame.partition(" (")
    return f"{name} ({place.rstrip(')').rpartition(':')[0] or place.rstrip(')')})" if place else name


def record(target: str, options: RunOptions, output: Path, rate: int, native: bool) -> Json:
    """Load `target` and record its stacks into `output` (collapsed, as flame graph tools read them)."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with running(TARGETS[target]) as server:
        load = subprocess.Popen(
            load_command(server, options, "raw", options.concurrency), stdout=subprocess.PIPE, text=True
        )
        spy = [
            str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(server.pid), "--format", "raw",
            "--output", str(output), "--rate", str(rate),
            "--duration", str(max(1, round(options.seconds + options.warmup_s - ATTACH_S))),
        ]  # fmt: skip
        # Reading the C stacks needs the process stopped for a moment; without them it may run on.
        subprocess.run([*spy, "--native" if native else "--nonblocking"], check=True, capture_output=True)
        text, _ = load.communicate()
    outcome: Json = json.loads(text)
    return outcome


def show(profile: Profile, console: Console) -> None:
    """Print the functions with the most samples of their own."""
    table = Table(title=f"{profile.samples} samples", title_justify="left")
    for heading in ("own %", "with callees %", "function"):
        table.add_column(heading, justify="left" if heading == "function" else "right", no_wrap=True)
    for name, count in profile.own.most_common(TOP):
        share, whole = count / profile.samples * 100, profile.inclusive[name] / profile.samples * 100
        table.add_row(f"{share:.1f}", f"{whole:.1f}", name)
    console.print(table)
    parts = Table(title="by part of Perdure (with the libraries it calls)", title_justify="left")
    for heading in ("%", "part"):
        parts.add_column(heading, justify="left" if heading == "part" else "right")
    for name, count in profile.parts.most_common():
        parts.add_row(f"{count / profile.samples * 100:.1f}", name)
    console.print(parts)
