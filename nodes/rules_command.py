"""`cellwatch rules`: try the rules of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

rules = typer.Typer(no_args_is_help=True, add_completion=False, help="Rules: test a rule file.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@rules.command("test")
def run_tests(
    file: Annotated[Path, typer.Argument(help="Rule file (YAML), see docs/rule-language.md.")],
    as_json: AsJson = False,
) -> None:
    """Check a rule file and run the tests in it; exit code 1 if one fails, 2 if the file is not in order."""
    from rich.table import Table
    from rich.text import Text

    from cellwatch.models.rules.rule_file import RuleFile
    from cellwatch.models.rules.rule_tests import run_test, untested
    from cellwatch.nodes.cli import fail, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.text_file import read_text

    try:
        declared = RuleFile.parse(read_text(file), str(file))
    except ValueError as error:
        raise fail(error) from None
    results = [run_test(declared, test) for test in declared.tests]
    failed = [r for r in results if r.trouble]
    without = untested(declared, results)
    if as_json:
        print_json(
            {
                "file": str(file),
                "limits": len(declared.limits),
                "physics": len(declared.physics),
                "rules": len(declared.rules),
                "tests": len(results),
                "passed": len(results) - len(failed),
                "failed": len(failed),
                "untested": list(without),
                "results": [
                    {
                        "name": r.name,
                        "line": r.line,
                        "passed": not r.trouble,
                        "trouble": r.trouble,
                        "expected": [v.name for v in r.expected],
                        "got": [v.name for v in r.got],
                        "fired": list(r.fired),
                    }
                    for r in results
                ],
            }
        )
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for r in results:
            mark = "[red]✗[/]" if r.trouble else "[green]✓[/]"
            table.add_row(mark, Text(r.name), Text(r.trouble and f"line {r.line}: {r.trouble}"))
        if results:
            screen.print(table, highlight=False)
        counts = (len(declared.limits), len(declared.physics), len(declared.rules))
        said = f"{file}: {counts[0]} limits, {counts[1]} physics, {counts[2]} rules"
        screen.print(
            Text(f"{said}; {len(results) - len(failed)} of {len(results)} tests passed"), soft_wrap=True
        )
        if without:
            screen.print(Text(f"no test makes these fire: {', '.join(without)}"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@rules.command()
def evaluate(
    profiles: Annotated[Path, typer.Option(help="Profile of `cellwatch commission`, .yaml or .json.")],
    data: Annotated[Path, typer.Option(help="Table of windows: .csv, .csv.tar.xz, .parquet.")],
    since: Annotated[
        float, typer.Option("--from", min=0.0, max=1.0, help="Judge from this share of the time on.")
    ] = 0.0,
    until: Annotated[
        float, typer.Option("--to", min=0.0, max=1.0, help="Up to this share of the time.")
    ] = 1.0,
    apart: Annotated[
        str, typer.Option(help="Addresses, with commas: rows that name one are counted apart.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge the windows of a table and count the verdicts; with labels say how right they are."""
    from rich.table import Table

    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.cli import fail, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.rules_evaluate import evaluate as judge
    from cellwatch.nodes.text_file import read_text
    from cellwatch.nodes.window_table import read

    try:
        profile = Profile.parse(read_text(profiles), str(profiles))
        addresses = frozenset(a.strip() for a in apart.split(",") if a.strip())
        found = judge(profile, read(data).part(since, until), apart=addresses)
    except ValueError as error:
        raise fail(error) from None
    if as_json:
        print_json(found)
        return
    rows = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "windows", "ALLOW", "SUSPICIOUS", "BLOCK", "accuracy", "F1", "MCC"):
        rows.add_column(column, justify="right" if column else "left")
    for name, one in (("judged", found), ("apart", found.get("apart"))):
        if one is not None:
            total = max(one["windows"], 1)
            shares = [f"{one[k]:,} ({one[k] / total:.2%})" for k in ("allow", "suspicious", "block")]
            quality = ["-" if one[k] is None else f"{one[k]:.4f}" for k in ("accuracy", "f1", "mcc")]
            rows.add_row(name, f"{one['windows']:,}", *shares, *quality)
    screen.print(rows, highlight=False)
