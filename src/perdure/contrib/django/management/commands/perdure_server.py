"""`manage.py perdure_server`: a development server on the settings' address, which keeps everything in one file."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from perdure.contrib.django.settings import perdure_settings

_COMMAND_LINE = "import sys; from perdure.cli import main; sys.exit(main())"


class Command(BaseCommand):
    """The command."""

    help = "Run a Perdure server on PERDURE['ADDRESS'] that keeps everything in PERDURE['DATABASE']."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What stands behind the command's name."""
        parser.add_argument("--db-filename", default="", help="instead of PERDURE['DATABASE']")
        parser.add_argument(
            "options", nargs="*", help="further options of `perdure server start-dev`, after --"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs it until it is told to stop."""
        given = perdure_settings()
        host, separator, port = given.address.rpartition(":")
        if "//" in given.address or not separator:
            raise CommandError(
                f"PERDURE['ADDRESS'] is {given.address!r}: with that the engine runs inside the process that "
                "uses it, and there is no server to start. Set it to HOST:PORT, such as 127.0.0.1:7233."
            )
        command = [sys.executable, "-c", _COMMAND_LINE, "server", "start-dev", "--ip", host, "--port", port]
        command += ["--namespace", given.namespace, "--db-filename", options["db_filename"] or given.database]
        try:
            done = subprocess.run([*command, *options["options"]], check=False)
        except KeyboardInterrupt:
            return  # it was sent to the server too
        if done.returncode:
            raise CommandError(
                f"The server ended with exit code {done.returncode}.", returncode=done.returncode
            )
