"""Writes docs/state-machines.md from the tables in `perdure.core.run.machines`: `python docs/make_diagrams.py`.

A test compares the file with what this makes, so a table that changes without its diagram fails.
"""

from __future__ import annotations

from pathlib import Path

from perdure.core.run.machines import MACHINES, Machine

TARGET = Path(__file__).with_name("state-machines.md")
_HEAD = """\
# State machines

Drawn by `docs/make_diagrams.py` from the tables in `perdure.core.run.machines`; do not edit. Tests hold every call of
the functions named on the arrows against these tables, and demand that each arrow is seen.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(machine) for machine in MACHINES)])


def _section(machine: Machine) -> str:
    lines = [f"## {machine.name.capitalize()}", "", machine.about, "", "```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{name.replace("_", " ")}" as {name}' for name in machine.states if "_" in name]
    lines.append(f"    [*] --> {machine.initial}")
    order = list(machine.states)
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, name, after in sorted(machine.edges):
        arrows.setdefault((before, after), []).append(name.rpartition(".")[2].strip("_").replace("_", " "))
    for before, after in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {before} --> {after} : {', '.join(arrows[before, after])}")
    lines += [f"    {name} --> [*]" for name in machine.final]
    lines += ["```", "", "| state | meaning |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {meaning} |" for name, meaning in machine.states.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    TARGET.write_text(page())
