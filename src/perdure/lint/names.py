"""What the names of a module mean: imports resolved to dotted names, activities and workflows found by decorators."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from perdure.lint.rules import WAITING_KINDS

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SDKS = ("perdure.", "temporalio.")


@dataclass(slots=True)
class Names:
    """The names of one module.

    Attributes:
        imports: local name to dotted name; the SDK's modules without their package, so `workflow.defn`.
            Names of the module for an attribute of an import (`now = datetime.now`) are here too.
        generators: names of the module for a generator of random numbers.
        waiting: names of the module for what waits for threads, such as a lock, to what it is (`threading.Lock`).
        functions, classes: defined at the module's top level.
        activities: names of functions that are activities.
    """

    imports: dict[str, str] = field(default_factory=dict)
    generators: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    activities: set[str] = field(default_factory=set)

    def dotted(self, node: ast.expr) -> str | None:
        """The dotted name an expression stands for, None when it is not one or its first part is not imported.

        Built-in functions stand for themselves. A method of a call is named after the class that is called:
        `Path("x").read_text` is `pathlib.Path.read_text`.
        """
        if isinstance(node, ast.Name):
            if node.id in self.imports:
                return self.imports[node.id]
            return None if node.id in self.functions or node.id in self.classes else node.id
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner is not None else None
        if isinstance(node, ast.Call):
            return self.dotted(node.func)
        return None

    def has_decorator(self, node: Function | ast.ClassDef, dotted: str) -> bool:
        """Whether it is decorated by this, with or without arguments."""
        return any(self.dotted(decorator) == dotted for decorator in node.decorator_list)


def read_names(tree: ast.Module) -> Names:
    """Reads a module's imports, wherever they stand, and its top-level definitions."""
    names = Names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                names.imports[alias.asname or target] = _without_sdk(target)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                local = alias.asname or alias.name
                names.imports[local] = _without_sdk(f"{node.module}.{alias.name}")
    for node in tree.body:
        if isinstance(node, Function):
            names.functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            names.classes[node.name] = node
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            _read_assignment(names, node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            _read_assignment(names, node.target, node.value)
    for function in names.functions.values():
        if names.has_decorator(function, "activity.defn"):
            names.activities.add(function.name)
    return names


def _read_assignment(names: Names, target: ast.expr, value: ast.expr) -> None:
    dotted = names.dotted(value)
    if not isinstance(target, ast.Name) or dotted is None:
        return
    if isinstance(value, ast.Attribute):
        names.imports[target.id] = dotted
    elif isinstance(value, ast.Call) and dotted in ("random.Random", "random.SystemRandom"):
        names.generators.add(target.id)
    elif isinstance(value, ast.Call) and dotted in WAITING_KINDS:
        names.waiting[target.id] = dotted


def _without_sdk(dotted: str) -> str:
    for package in _SDKS:
        if dotted.startswith(package):
            return dotted[len(package) :]
    return dotted
