"""What the dashboard draws: lanes, nodes and lines, before any page shows them."""

from __future__ import annotations

import pytest

from sagabus import Bus
from sagabus.commit import HistoryEntry, Outcome
from sagabus.dashboard.shown import age, json_text, when
from sagabus.dashboard.sparkline import HEIGHT, WIDTH, sparkline
from sagabus.dashboard.topology import topology
from sagabus.dashboard.version_graph import LANE, ROW, version_graph
from sagabus.envelope import Envelope
from sagabus.transport import QueueInfo
from sagabus.versions import Dot
from tests.sagas_for_tests import CheckCredit, CreditCheck


def dot(n: int) -> Dot:
    return Dot("memory", n)


def entry(n: int, *parents: int, forked: bool = False, completed: bool = False) -> HistoryEntry:
    envelope = Envelope(specversion="1.0", id=f"m{n}", source="/client", type="cc.check")
    outcome = Outcome.FORKED if forked else Outcome.STORED
    return HistoryEntry(dot(n), outcome, n * 10, tuple(map(dot, parents)), "A", (envelope,), completed, forked, 1)


FORK = (entry(1), entry(2, 1), entry(3, 1, forked=True), entry(4, 2, 3, completed=True))


def test_fork_opens_a_lane_and_the_merge_joins_it() -> None:
    """Each commit has a row; the sibling stands a lane to the right; the merge stands in the first lane again."""
    graph = version_graph(FORK)
    assert [node.x for node in graph.nodes] == [16, 16, 16 + LANE, 16]
    assert [node.y for node in graph.nodes] == [ROW // 2 + i * ROW for i in range(4)]
    assert [node.kind for node in graph.nodes] == ["version", "version", "version", "completed"]
    assert graph.nodes[3].merged == ("memory:2", "memory:3")
    assert [edge.joins for edge in graph.edges] == [False, False, True, True]
    assert graph.height == 4 * ROW


def test_lines_begin_and_end_at_their_versions() -> None:
    """A fork bends right below its parent, a merge right above its child, so that no line crosses a node."""
    paths = [edge.path for edge in version_graph(FORK).edges]
    assert paths[0] == f"M16 23V{23 + ROW}"
    assert paths[1].startswith("M16 23C")
    assert paths[1].endswith(f"40 {23 + ROW}V{23 + 2 * ROW}")
    assert paths[3].startswith(f"M40 {23 + 2 * ROW}V{23 + 2 * ROW}C")
    assert paths[3].endswith(f"16 {23 + 3 * ROW}")


def test_trimmed_parent_has_a_node_of_its_own() -> None:
    """A history that does not reach back still shows from where it goes on."""
    graph = version_graph((entry(8, 7),))
    assert [(node.kind, node.name) for node in graph.nodes] == [("trimmed", "memory:7"), ("version", "memory:8")]
    assert len(graph.edges) == 1


def test_no_history_is_no_graph() -> None:
    graph = version_graph(())
    assert graph.nodes == graph.edges == ()


def test_topology_has_a_line_for_each_way_of_a_message() -> None:
    """Types to endpoints, endpoints to handlers; what other apps subscribe to is dashed."""
    bus = Bus("memory:", "memory:")
    bus.endpoint("credit", CreditCheck)
    bus.endpoint("mail")
    bus.route(CheckCredit, to="mail")
    others = QueueInfo("audit", 0, 1, ("cc.decided",))
    shapes = topology(bus.endpoints.values(), bus.routes, [others])
    names = {kind: [box.text for box in shapes.boxes if box.kind == kind] for kind in ("type", "endpoint", "handler")}
    assert {"credit", "mail", "audit"} == set(names["endpoint"])
    assert names["handler"] == ["saga CreditCheck"]
    assert "cc.decided" in names["type"]
    assert [line.kind for line in shapes.lines].count("event") == 1
    assert all(box.y + box.height <= shapes.height and box.x + box.width <= shapes.width for box in shapes.boxes)


def test_sparkline_stays_within_its_plane() -> None:
    """From zero to the greatest value; too few values draw nothing."""
    assert sparkline([1.0]).line == ""
    drawn = sparkline([0.0, None, 4.0, 2.0])
    points = [tuple(map(float, point.split())) for point in drawn.line[1:].split("L")]
    assert len(points) == 4
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert min(points, key=lambda point: point[1]) == points[2]


def test_json_is_escaped_and_marks_what_differs() -> None:
    """What somebody put into a state can do nothing on a page."""
    text = json_text({"a": "<script>", "b": {"c": 1, "d": []}, "e": [1, 2]}, {"b.c"})
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert '<mark class="differs">    &#34;c&#34;: 1,</mark>' in text
    assert "\u202e" not in json_text({"x": "a\u202eb"})


@pytest.mark.parametrize(
    ("span_ms", "said"), [(None, "\u2013"), (5, "5 ms"), (12_000, "12 s"), (90_000, "1.5 min"), (7_200_000, "2.0 h")]
)
def test_age_is_said_as_people_say_it(span_ms: float | None, said: str) -> None:
    assert age(span_ms) == said


def test_time_of_another_day_has_its_date() -> None:
    """A saga that hangs since last week does not look as if it were of this morning."""
    now_ms = 1_700_000_000_000
    assert when(now_ms - 1, now_ms) == "22:13:19.999"
    assert when(now_ms - 86_400_000, now_ms) == "2023-11-13 22:13:20"
