"""Finds, without running it, what usually goes wrong in workflow code. Pure: source text in, findings out.

`rules.py` is the table of rules; `names.py` knows what the names of a module mean; `check.py` walks workflow code.
The guards of the worker find the same at run time where it happens; this finds it before, also where they cannot look.
"""

from perdure.lint.check import Finding, check_paths, check_source
from perdure.lint.rules import RULES, Rule

__all__ = ["RULES", "Finding", "Rule", "check_paths", "check_source"]
