"""`sagabus doctor`: what is wrong with a bus, its servers and what lies in them, and how to mend it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from sagabus.cli.output import console, emit, json_option
from sagabus.cli.session import opened

if TYPE_CHECKING:
    from sagabus.health.facts import Facts
    from sagabus.health.finding import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command("doctor", short_help="Check all of it; say how to mend what is wrong.")
@click.argument("app")
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many sagas are looked at, at most."
)
@json_option
def command(app: str, limit: int, as_json: bool) -> None:
    """Check APP: its servers, queues, sagas, dead letters and timers.

    Each finding is ok, warn or fail, and says what to do. Exits with 0 where nothing fails, with 1 where something
    does, with 4 where store or broker do not answer. Nothing is changed but that the queues of APP are declared.

    \b
      sagabus doctor shop.app:bus
      sagabus doctor shop.app:bus --json | jq 'select(.verdict != "ok")'
    """
    from sagabus.health.checks import check_all
    from sagabus.health.gather import gather

    with opened(app) as bus:
        facts = gather(bus, limit)
    findings = check_all(facts)
    if as_json:
        for finding in findings:
            emit(
                {
                    "check": finding.check,
                    "verdict": finding.verdict.value,
                    "found": finding.found,
                    "mend": finding.mend or None,
                }
            )
    else:
        _print(findings)
    if facts.sagas_left:
        click.echo(f"only {facts.sagas_seen} sagas were looked at; there are more (--limit)", err=True)
    sys.exit(_exit_code(facts, findings))


def _exit_code(facts: Facts, findings: list[Finding]) -> int:
    from sagabus.cli.exit_codes import FAILURE, UNREACHABLE
    from sagabus.health.finding import Verdict

    if facts.unreachable:
        return UNREACHABLE
    return FAILURE if any(finding.verdict is Verdict.FAIL for finding in findings) else 0


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    from sagabus.health.finding import Verdict

    out = console()
    for finding in findings:
        word = finding.verdict.value
        out.print(Text.assemble((f"{word:4}", _STYLES[word]), f"  {finding.check}: {finding.found}"), soft_wrap=True)
        if finding.mend:
            out.print(Text(f"      {finding.mend}", "dim"), soft_wrap=True)
    counts = {verdict: sum(1 for f in findings if f.verdict is verdict) for verdict in Verdict}
    out.print()
    out.print(", ".join(f"{count} {verdict.value}" for verdict, count in counts.items()), markup=False)
