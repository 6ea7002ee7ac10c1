"""The project's `manage.py`: `python -m examples.django_shop COMMAND`."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")
    execute_from_command_line(["manage.py", *sys.argv[1:]])
