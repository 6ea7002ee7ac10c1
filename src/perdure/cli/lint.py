"""`perdure lint`: finds what usually goes wrong in workflow code without running it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from perdure.cli.command import Level
from perdure.cli.root import global_flag, global_options
from perdure.lint import RULES, check_paths


@click.command(cls=Level)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--rules", "show_rules", is_flag=True, help="List the rules and exit.")
@global_options
@click.pass_context
def lint(context: click.Context, paths: tuple[Path, ...], show_rules: bool) -> None:
    """Find the usual mistakes in workflow code below PATHS (default: this folder).

    Checked are classes with @workflow.defn and the functions of their module that they call. One finding per line
    on stdout; the exit code is 1 when there are any. `# perdure: ignore[PW101]` at the end of a line allows it.

    Example: perdure lint src
    """
    if show_rules:
        for rule in RULES.values():
            click.echo(f"{rule.code}  {rule.title.format(name='...')}; {rule.instead.format(name='...')}.")
        return
    output = global_flag(context, "output", "text")
    try:
        findings = list(check_paths(paths or (Path(),)))
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or ''} cannot be read: {error.strerror or error}"
        ) from error
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif output != "none":
        for finding in findings:
            click.echo(json.dumps(asdict(finding)) if output == "jsonl" else str(finding))
    if findings:
        if output == "text":
            click.echo(f"{len(findings)} found", err=True)
        context.exit(1)
