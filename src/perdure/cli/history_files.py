"""Histories in files: the form that replayers read, with the workflow's id beside the events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.cli import show
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError


@dataclass(frozen=True)
class History:
    """The events of one run, and which run it is."""

    workflow_id: str
    run_id: str
    events: Sequence[Any]


def text_of(found: History) -> str:
    """A history as the text of a file. Readers of other tools ignore the ids that stand beside the events."""
    from perdure.api.history import v1 as history

    events = show.to_json(history.History(events=found.events), has_short_payloads=False)
    return json.dumps(
        {"workflowId": found.workflow_id, "runId": found.run_id, **events}, indent=1, ensure_ascii=False
    )


def read_history(path: Path, workflow_id: str) -> History:
    """The history in a file, in any spelling that tools write.

    Args:
        path: the file.
        workflow_id: for a file that does not say it.

    Raises:
        CommandError: it is not there, is no history, or is not whole.
    """
    from perdure.client._saved_history import read_saved_history

    try:
        found = read_saved_history(path.read_text(encoding="utf-8"), workflow_id)
    except FileNotFoundError:
        raise CommandError(f"there is no file {path}", EXIT_NOT_FOUND) from None
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{path} is no history: {error}") from error
    except ValueError as error:
        raise CommandError(f"{path} {error}") from error
    return History(found.workflow_id or path.name.split(".")[0], found.run_id, found.events)
