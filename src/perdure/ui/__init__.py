"""The web UI: pages about workflows, schedules, queues and workers, made on the server, and actions on them.

May live here: pages, forms, their templates, style and script. May not: anything but calls of the public API
(`perdure.service`), so that the same UI serves any server; nothing here knows what is behind it.
"""

from perdure.ui.app import UiApp
from perdure.ui.config import UiConfig

__all__ = ["UiApp", "UiConfig"]
