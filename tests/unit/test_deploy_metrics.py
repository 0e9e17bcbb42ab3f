"""The dashboard and the alerts that come with sagabus: every metric and command that they name is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from sagabus.telemetry.families import FAMILIES
from tests.unit.test_named import problems

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sagabus.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SERIES = {
    f"{family.name}{suffix}": family
    for family in FAMILIES
    for suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}
GIVEN = {"job", "instance", "le"}
"""Labels that Prometheus adds, and that of buckets."""


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each expression stands, and what it is."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def filled(expression: str) -> str:
    """Return an expression of Grafana's as Prometheus gets it."""
    return expression.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$endpoint", ".*")


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_expression_is_one_and_names_metrics_that_are_exposed(where: str, expression: str) -> None:
    """With labels that they have."""
    promql_parser.parse(filled(expression))
    names = re.findall(r"\bsagabus_\w+", expression)
    assert names, where
    assert set(names) <= set(SERIES)
    for name, matchers in re.findall(r"\b(sagabus_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)=~?\"", matchers)) <= {*SERIES[name].labels, *GIVEN}, where
    known = {label for name in names for label in SERIES[name].labels} | GIVEN
    for labels in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= known, where


def test_every_metric_is_on_the_dashboard() -> None:
    """Nothing is counted that nobody looks at."""
    shown = " ".join(expression for where, expression in expressions() if where.startswith("panel"))
    missing = [family.name for family in FAMILIES if not re.search(rf"\b{family.name}(_bucket)?\b", shown)]
    assert missing == []


def test_dashboard_can_be_imported() -> None:
    """Panels have ids of their own, lie beside each other and not over each other, and ask the chosen Prometheus."""
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {name for _, expression in expressions() for name in re.findall(r"\$(?!__|labels|value)(\w+)", expression)}
    assert used <= variables == {"datasource", "job", "endpoint"}
    assert DASHBOARD["uid"] == "sagabus"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_which_command_shows_more(rule: dict[str, Any]) -> None:
    """And that command is there, with its options; whoever is woken need not look for it."""
    summary = rule["annotations"]["summary"]
    assert re.search(r"`sagabus [\w ]+ APP\b", summary)
    assert problems(re.sub(r"\{\{ .*? \}\}", "NAME", summary)) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"\d+[mhd]", rule["for"])


def test_page_lists_the_alerts() -> None:
    """Each of them, and no other."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    listed = re.findall(r"`(Sagabus\w+)`", page)
    assert sorted(listed) == sorted(rule["alert"] for rule in RULES)


def test_panels_name_commands_that_there_are() -> None:
    """Where a panel says which."""
    for panel in DASHBOARD["panels"]:
        for command in re.findall(r"sagabus [a-z ]+ APP[^.]*$", panel.get("description", "")):
            assert problems(f"`{command}`") == []
