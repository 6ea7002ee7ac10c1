"""The env file: flags by environment name, as the official command keeps them (`env set`), in a plain form of YAML.

    env:
      prod:
        address: prod.example.org:7233

Read are mappings of three levels with scalar values, plain or quoted, and JSON, which is YAML as well. Everything else
is refused rather than guessed. Written are quoted values only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from perdure.cli.errors import CommandError

Environments = dict[str, dict[str, str]]
DEFAULT_ENVIRONMENT: Final = "default"

_LINE = re.compile(
    r"(?P<indent> *)"
    r"(?P<key>\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^\s:#\"'{\[&*!|>%@-][^:#]*?)"
    r"\s*:(?:\s+(?P<value>.*))?"
)
_DEPTH: Final = 3


def default_path() -> Path | None:
    """Where the file is unless somebody says otherwise; None without a home folder."""
    try:
        return Path.home() / ".config" / "temporalio" / "temporal.yaml"
    except RuntimeError:
        return None


def path_and_name(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[Path | None, str]:
    """The env file and the environment that a command line names, before it is parsed."""
    path = _flag(arguments, "--env-file") or variables.get("TEMPORAL_ENV_FILE")
    name = _flag(arguments, "--env") or variables.get("TEMPORAL_ENV") or DEFAULT_ENVIRONMENT
    return (Path(path) if path else default_path()), name


def _flag(arguments: Sequence[str], name: str) -> str | None:
    found = None
    for index, word in enumerate(arguments):
        if word == "--":
            break
        if word == name and index + 1 < len(arguments):
            found = arguments[index + 1]
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found


def read(path: Path | None) -> Environments:
    """All environments of a file; empty if there is none.

    Raises:
        CommandError: the file cannot be read.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the env file {path} cannot be read: {error}") from error
    parsed = _parsed(text, path)
    environments = parsed.get("env") or {}
    if not isinstance(environments, dict) or not all(
        isinstance(each, dict) for each in environments.values()
    ):
        raise CommandError(f"the env file {path} must hold env: NAME: FLAG: VALUE")
    return {name: {key: str(value) for key, value in flags.items()} for name, flags in environments.items()}


def write(path: Path | None, environments: Environments) -> None:
    """Writes a file, readable by its owner only, as one step.

    Raises:
        CommandError: there is no place for it, or it cannot be written.
    """
    if path is None:
        raise CommandError("there is no home folder for the env file; name one with --env-file")
    lines = ["env:" if environments else "env: {}"]
    for name, flags in sorted(environments.items()):
        lines.append(f"  {json.dumps(name)}:" + ("" if flags else " {}"))
        lines += [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(flags.items())]
    replace_file(path, "\n".join(lines) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Writes a file that holds secrets: complete or not at all, for its owner only.

    Raises:
        CommandError: it cannot be written.
    """
    beside = None
    try:
        path = path.resolve()  # a link stays one: people keep their configuration elsewhere
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made anew and for the owner only, whatever may stand in the folder.
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            beside = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error}") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise CommandError(f"the env file {path} cannot be read: {error}") from error
        return found if isinstance(found, dict) else {}
    root: dict[str, Any] = {}
    open_at: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise CommandError(f"the env file {path} has a line {number} that is not NAME: VALUE")
        indent, key = len(match["indent"]), _scalar(match["key"], path, number)
        while indent <= open_at[-1][0]:
            open_at.pop()
        if len(open_at) > _DEPTH:
            raise CommandError(
                f"the env file {path} has deeper levels than env: NAME: FLAG: in line {number}"
            )
        value = (match["value"] or "").strip()
        if value and not value.startswith("#"):
            open_at[-1][1][key] = {} if value == "{}" else _scalar(value, path, number)
        else:
            inner: dict[str, Any] = {}
            open_at[-1][1][key] = inner
            open_at.append((indent, inner))
    return root


def _scalar(text: str, path: Path, number: int) -> str:
    if text.startswith('"'):
        try:
            found, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            found, end = None, 0
        if isinstance(found, str) and (not text[end:].strip() or text[end:].lstrip().startswith("#")):
            return found
    elif text.startswith("'"):
        match = re.match(r"'((?:[^']|'')*)'\s*(?:#.*)?$", text)
        if match:
            return match[1].replace("''", "'")
    elif text[0] not in "{[&*!|>%@`":
        return re.split(r"\s+#", text, maxsplit=1)[0]
    raise CommandError(f"the env file {path} has a value in line {number} that is no plain text")
