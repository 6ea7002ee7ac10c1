"""The executor of workflow code: an event loop of its own, and around it everything that a run asks and is told.

`WorkflowProgram` implements `perdure.core.replay.instructions.Program`: activations in, instructions out, synchronous,
in whatever thread the worker chooses. Nothing here does I/O or knows a server.
"""

from perdure.worker.workflow_code.program import WorkflowProgram
from perdure.worker.workflow_code.settings import PatchActivationInput, WorkflowCodeSettings

__all__ = ["PatchActivationInput", "WorkflowCodeSettings", "WorkflowProgram"]
