"""The checkers of the rules about our own code.

Each takes one file as text and returns findings, so that each can be shown a bad sample and prove that it
fails.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70

# fmt: off
_PURE_FORBIDDEN = frozenset({
    "aiohttp", "asyncio", "click", "concurrent", "contextvars", "fcntl", "getpass", "glob", "grpc",
    "grpc_health", "grpc_reflection", "http", "importlib", "io", "logging", "mmap", "multiprocessing",
    "os", "pathlib", "platform", "queue", "random", "rich", "sched", "secrets", "select", "selectors",
    "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "temporalio", "threading", "time", "urllib", "uuid",
})
# fmt: on
_CORE_MAY_IMPORT = ("perdure.api", "perdure.core")
_PURE_PARTS = frozenset({"urllib.parse"})
"""Modules of packages that do I/O elsewhere."""
_IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
_CLOCK_METHODS = frozenset({"now", "utcnow", "today", "GetCurrentTime"})
_ORDER_DOES_NOT_MATTER = frozenset({"sorted", "set", "frozenset", "any", "all", "sum", "min", "max"})
_KEEPS_ORDER = frozenset({"list", "tuple", "enumerate", "iter"})
_OPERATORS_OF_SETS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)
_BROAD = frozenset({"Exception", "BaseException"})
_APPLICATION = frozenset({"workflow.defn", "activity.defn"})
_SLEEPERS = frozenset({"time.sleep", "asyncio.sleep"})

# Written so that this file does not contain what it looks for.
_MACHINE_PATHS = re.compile(
    "|".join(
        re.escape("/" + start) + end
        for start, end in (("work", r"/\w"), ("root", r"/[\w.]"), ("tmp", "/lab"))
    )
    + r"|/ho"
    + r"me/(?!user\b)\w"
)


@dataclass(frozen=True, order=True)
class Finding:
    """One place that breaks a rule."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def long_file(path: str, text: str) -> list[Finding]:
    """A file has at most `MAX_FILE_LINES` lines."""
    lines = text.count("\n") + (not text.endswith("\n"))
    return [Finding(path, 1, f"{lines} lines, at most {MAX_FILE_LINES}")] if lines > MAX_FILE_LINES else []


def long_functions(path: str, text: str) -> list[Finding]:
    """A function has at most `MAX_FUNCTION_LINES` lines, decorators and docstring included."""
    findings = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = (node.end_lineno or begin) - begin + 1
            if lines > MAX_FUNCTION_LINES:
                message = f"{node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
                findings.append(Finding(path, node.lineno, message))
    return findings


def impurities(path: str, text: str) -> list[Finding]:
    """The core does no input or output and reads no clock and no randomness."""
    findings = []
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", 0)
        for module in _imported(node):
            if not _core_may_import(module):
                findings.append(Finding(path, line, f"the core must not import {module}"))
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in _IMPURE_CALLS:
                findings.append(Finding(path, line, f"the core must not call {node.func.id}"))
            if isinstance(node.func, ast.Attribute) and node.func.attr in _CLOCK_METHODS:
                findings.append(Finding(path, line, f"the core must not read a clock ({node.func.attr})"))
    return findings


def _core_may_import(module: str) -> bool:
    if module in _PURE_PARTS:
        return True
    top = module.split(".")[0]
    if top == "perdure":
        return any(f"{module}.".startswith(f"{allowed}.") for allowed in _CORE_MAY_IMPORT)
    return top not in _PURE_FORBIDDEN


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            return
        base = node.module or ""
        # `from perdure import server` names a module as well as `import perdure.server` does.
        yield from (f"perdure.{alias.name}" for alias in node.names) if base == "perdure" else (base,)


def set_orders(path: str, text: str) -> list[Finding]:
    """Nothing is done in the order of a set: with strings inside it is another one in every process.

    Sees sets by how they are written, not by their types. What becomes a set, is sorted or counted may be unordered.
    """
    tree = ast.parse(text)
    unordered = {
        id(argument)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _dotted(call.func) in _ORDER_DOES_NOT_MATTER
        for argument in call.args
    }
    findings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor):
            sources = [node.iter]
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.DictComp) and id(node) not in unordered:
            sources = [generator.iter for generator in node.generators]
        elif isinstance(node, ast.Call) and _dotted(node.func) in _KEEPS_ORDER:
            sources = node.args
        else:
            continue
        findings += [Finding(path, each.lineno, "in the order of a set") for each in sources if _is_set(each)]
    return findings


def _is_set(expression: ast.expr) -> bool:
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, _OPERATORS_OF_SETS):
        sides = (expression.left, expression.right)
        return any(_is_set(side) or _is_call_of(side, "keys") for side in sides)
    is_made = isinstance(expression, ast.Call) and _dotted(expression.func) in {"set", "frozenset"}
    return is_made or isinstance(expression, ast.Set | ast.SetComp)


def _is_call_of(expression: ast.expr, method: str) -> bool:
    function = _called(expression)
    return isinstance(function, ast.Attribute) and function.attr == method


def asserts(path: str, text: str) -> list[Finding]:
    """Production code checks with `invariant`, because `assert` disappears under `-O`."""
    return [
        Finding(path, node.lineno, "use perdure.core.invariant instead of assert")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert)
    ]


def silent_handlers(path: str, text: str) -> list[Finding]:
    """A broad or empty `except` states its reason in a comment on that line or before what it does."""
    commented = _comment_lines(text)
    findings = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            is_empty = all(
                isinstance(statement, ast.Pass)
                or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
                for statement in node.body
            )
            lines = set(range(node.lineno, node.body[0].lineno + 1))
            if (is_empty or _is_broad(node.type)) and not lines & commented:
                findings.append(
                    Finding(path, node.lineno, "broad or empty except without a reason beside it")
                )
        elif isinstance(node, ast.Call) and _dotted(node.func) in {"suppress", "contextlib.suppress"}:
            if any(_is_broad(argument) for argument in node.args) and node.lineno not in commented:
                findings.append(Finding(path, node.lineno, "broad suppress without a reason beside it"))
    return findings


def _is_broad(expression: ast.expr | None) -> bool:
    if isinstance(expression, ast.Tuple):
        return any(_is_broad(element) for element in expression.elts)
    return expression is None or _dotted(expression) in _BROAD


def _comment_lines(text: str) -> set[int]:
    """Return lines whose comment says something to a reader, not only to a linter."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        comment = re.sub(r"#\s*(noqa|type: ignore|pragma)[^#]*", "", token.string)
        if token.type == tokenize.COMMENT and comment.strip("# "):
            found.add(token.start[0])
    return found


def sleeps(path: str, text: str, allowed: Mapping[str, str]) -> list[Finding]:
    """Tests wait for conditions; a sleep needs an entry `path::function` among those allowed.

    Workflows and activities are the application under test: how long they take is input, not a way to wait.
    """
    findings: list[Finding] = []
    tree = ast.parse(text)
    sleep_names = _sleep_names(tree)

    def visit(node: ast.AST, scope: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}" if scope else node.name
            if any(_dotted(_called(decorator)) in _APPLICATION for decorator in node.decorator_list):
                return
        if isinstance(node, ast.Call) and _dotted(node.func) in sleep_names:
            yields_only = (
                bool(node.args) and isinstance(node.args[0], ast.Constant) and not node.args[0].value
            )
            is_blocking = sleep_names[_dotted(node.func)] == "time.sleep"
            if (is_blocking or not yields_only) and f"{path}::{scope}" not in allowed:
                findings.append(
                    Finding(path, node.lineno, f"sleep in {scope or 'module'}: wait for a condition")
                )
        for child in ast.iter_child_nodes(node):
            visit(child, scope)

    visit(tree, "")
    return findings


def _sleep_names(tree: ast.AST) -> dict[str, str]:
    """Return every spelling of a sleep in a file: `time.sleep`, an alias of the module, an imported name."""
    names = {name: name for name in _SLEEPERS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and f"{alias.name}.sleep" in _SLEEPERS:
                    names[f"{alias.asname}.sleep"] = f"{alias.name}.sleep"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in _SLEEPERS:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def missing_docstring(path: str, text: str) -> list[Finding]:
    """Every module says in its first lines what lives there."""
    return [] if ast.get_docstring(ast.parse(text)) else [Finding(path, 1, "module without a docstring")]


def machine_paths(path: str, text: str) -> list[Finding]:
    """No tracked file names a folder of one particular machine."""
    return [
        Finding(path, number, f"path of one machine: {match.group()}")
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := _MACHINE_PATHS.search(line))
    ]


def _called(expression: ast.expr) -> ast.expr:
    return expression.func if isinstance(expression, ast.Call) else expression


def _dotted(expression: ast.expr) -> str:
    if isinstance(expression, ast.Name):
        return expression.id
    if isinstance(expression, ast.Attribute):
        return f"{_dotted(expression.value)}.{expression.attr}"
    return ""
