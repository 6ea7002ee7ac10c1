"""Walks workflow code: the classes marked as workflows, and the functions of the same module that they call."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.lint.names import Function, Names, read_names
from perdure.lint.rules import (
    AWAITED,
    LOCK_NAME,
    NEEDS_TIMEOUT,
    RULES,
    TIMEOUTS,
    WAITING_KINDS,
    Rule,
    find_call,
)

_IGNORE = re.compile(r"#\s*perdure:\s*ignore(?:\[([A-Z0-9, ]+)\])?")
_LIFTED = ("workflow.unsafe.sandbox_unrestricted", "workflow.unsafe.imports_passed_through")
_SKIPPED_FOLDERS = frozenset(
    (".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", "site-packages")
)
_MAX_FILE_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing found.

    Attributes:
        path, line, column: where; the column counts from 1.
        code: of the rule; `PW000` when the file cannot be read as Python.
        message: what was found, and what to do instead.
    """

    path: str
    line: int
    column: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message}"


def check_paths(paths: Iterable[Path]) -> Iterator[Finding]:
    """Checks files, and every Python file below folders, in order of their names.

    Raises:
        OSError: a path cannot be read.
    """
    for path in paths:
        for file in _files(path):
            if file.stat().st_size <= _MAX_FILE_BYTES:
                yield from check_source(file.read_bytes(), str(file))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        found = (Path(folder, name) for name in sorted(files) if name.endswith(".py"))
        # An editor's lock is a link that leads nowhere.
        yield from (file for file in found if file.is_file())


def check_source(source: bytes | str, path: str = "<string>") -> list[Finding]:
    """Checks one module.

    Args:
        source: its text.
        path: what findings call it.

    Returns:
        the findings, in order of their lines.
    """
    text = source.decode(errors="replace") if isinstance(source, bytes) else source
    try:
        tree = ast.parse(source, path)
        # Python ends lines here; `str.splitlines` would also do it at form feeds and the like.
        checker = _Checker(read_names(tree), path, re.split(r"\r\n|\r|\n", text))
        checker.check()
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        column = getattr(error, "offset", None) or 1
        return [Finding(path, line, column, "PW000", f"this is not Python that can be read: {error}")]
    except (RecursionError, MemoryError):
        # MemoryError is what the parser raises for it.
        return [Finding(path, 1, 1, "PW000", "this is nested too deeply to be read: leave the file out")]
    return sorted(set(checker.findings))


class _Checker:
    def __init__(self, names: Names, path: str, lines: list[str]) -> None:
        self.names = names
        self.path = path
        self.lines = lines
        self.findings: list[Finding] = []
        self._checked: set[str] = set()
        self._awaited: set[ast.expr] = set()

    def check(self) -> None:
        for node in self.names.classes.values():
            if self.names.has_decorator(node, "workflow.defn"):
                self._check_workflow(node)

    def _check_workflow(self, node: ast.ClassDef) -> None:
        methods = [member for member in node.body if isinstance(member, Function)]
        runs = [method for method in methods if self.names.has_decorator(method, "workflow.run")]
        if (
            len(runs) > 1
            or (not runs and not node.bases)
            or any(isinstance(run, ast.FunctionDef) for run in runs)
        ):
            self._report(RULES["PW204"], node, node.name)
        for method in methods:
            if isinstance(method, ast.AsyncFunctionDef) and self.names.has_decorator(
                method, "workflow.query"
            ):
                self._report(RULES["PW205"], method, method.name)
            self._check_body(method)

    def _check_body(self, function: Function) -> None:
        for statement in function.body:
            self._visit(statement)

    def _visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.With, ast.AsyncWith)) and any(
            self.names.dotted(item.context_expr) in _LIFTED for item in node.items
        ):
            return
        check = _CHECKS.get(type(node))
        if check is not None:
            check(self, node)
        if isinstance(node, ast.Await):
            self._awaited.add(node.value)
        elif isinstance(node, ast.Call):  # handed on, as in `asyncio.wait_for(lock.acquire(), 10)`
            self._awaited.update(node.args)
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    def _check_call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node not in self._awaited:
            self._check_waiting(node, node.func.value, node.func.attr)
        dotted = self.names.dotted(node.func)
        if dotted is None:
            self._follow(node)
            return
        rule = find_call(dotted)
        if rule is not None and _is_found_inside(self.names, node.func, rule):
            return
        if rule is not None:
            self._report(rule, node, dotted)
        elif dotted == "random.Random" and not node.args and not node.keywords:
            self._report(RULES["PW103"], node, dotted)
        elif (generator := self._generator_of(node.func)) is not None:
            self._report(RULES["PW111"], node, generator)
        elif dotted in NEEDS_TIMEOUT:
            given = {keyword.arg for keyword in node.keywords}
            if None not in given and not given & TIMEOUTS:
                self._report(RULES["PW203"], node, dotted)

    def _check_with(self, node: ast.With) -> None:
        for item in node.items:
            self._check_waiting(item.context_expr, item.context_expr, "with")

    def _check_waiting(self, node: ast.expr, owner: ast.expr, method: str) -> None:
        """`with lock:` and `lock.acquire()`, if the owner is a lock, or as much as its name says so."""
        name = ast.unparse(owner) if isinstance(owner, (ast.Name, ast.Attribute)) else ""
        kind = self.names.waiting.get(name)
        if kind is not None:
            waits = method in WAITING_KINDS[kind]
        else:
            waits = method in ("with", "acquire") and LOCK_NAME.search(name.rpartition(".")[2]) is not None
        if waits:
            called = f"`with {name}`" if method == "with" else f"{name}.{method}()"
            self._report(RULES["PW112"], node, called)

    def _generator_of(self, function: ast.expr) -> str | None:
        """The name of the module's own generator of random numbers whose method this is."""
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            name = function.value.id
            return name if name in self.names.generators else None
        return None

    def _follow(self, node: ast.Call) -> None:
        """A call of a function of this module: an activity, or more workflow code."""
        if not isinstance(node.func, ast.Name):
            return
        name = node.func.id
        if name in self.names.activities:
            self._report(RULES["PW201"], node, name)
        elif name in self.names.functions and name not in self._checked:
            self._checked.add(name)
            self._check_body(self.names.functions[name])

    def _check_subscript(self, node: ast.Subscript) -> None:
        if self.names.dotted(node.value) == "os.environ":
            self._report(RULES["PW107"], node, "os.environ")

    def _check_statement(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            dotted = self.names.dotted(node.value.func)
            if dotted in AWAITED:
                self._report(RULES["PW202"], node, dotted)

    def _check_loop(self, node: ast.For) -> None:
        if isinstance(node.iter, (ast.Set, ast.SetComp)) or (
            isinstance(node.iter, ast.Call) and self.names.dotted(node.iter.func) in ("set", "frozenset")
        ):
            self._report(RULES["PW109"], node.iter, "set")

    def _check_while(self, node: ast.While) -> None:
        is_endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        leaves = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Break, ast.Return, ast.Raise, ast.Yield)
        if is_endless and not any(isinstance(inner, leaves) for inner in ast.walk(node)):
            self._report(RULES["PW208"], node, "while")

    def _check_global(self, node: ast.Global) -> None:
        for name in node.names:
            self._report(RULES["PW206"], node, name)

    def _check_handler(self, node: ast.ExceptHandler) -> None:
        caught = node.type
        kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
        catches_all = any(kind is None or self.names.dotted(kind) == "BaseException" for kind in kinds)
        if catches_all and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            self._report(RULES["PW207"], node, "except")

    def _report(self, rule: Rule, node: ast.AST, name: str | None) -> None:
        line: int = getattr(node, "lineno", 1)
        column: int = getattr(node, "col_offset", 0) + 1
        ignored = _IGNORE.search(self.lines[line - 1]) if line <= len(self.lines) else None
        if ignored and (ignored[1] is None or rule.code in re.split(r"[, ]+", ignored[1])):
            return
        message = f"{rule.title.format(name=name)}; {rule.instead.format(name=name)}."
        self.findings.append(Finding(self.path, line, column, rule.code, message))


def _is_found_inside(names: Names, function: ast.expr, rule: Rule) -> bool:
    """Whether the call whose method this is, as in `Thread(...).start`, breaks the same rule by itself."""
    inner = function.value if isinstance(function, ast.Attribute) else None
    if not isinstance(inner, ast.Call):
        return False
    dotted = names.dotted(inner.func)
    return dotted is not None and find_call(dotted) is rule


_CHECKS: dict[type[ast.AST], Callable[[_Checker, Any], None]] = {
    ast.Call: _Checker._check_call,
    ast.With: _Checker._check_with,
    ast.Subscript: _Checker._check_subscript,
    ast.Expr: _Checker._check_statement,
    ast.For: _Checker._check_loop,
    ast.While: _Checker._check_while,
    ast.Global: _Checker._check_global,
    ast.ExceptHandler: _Checker._check_handler,
}
