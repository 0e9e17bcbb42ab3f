"""Draw the pictures of the documentation: `python docs/pictures/draw.py` writes the SVG files beside it.

Each follows light and dark: as a file the viewer's, inside a page of the site the page's. The one that moves stands
still, whole, where somebody prefers reduced motion.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

FOLDER: Final = Path(__file__).parent

_COLOURS: Final = {
    "LIGHT": {
        "a": "#1d4ed8",
        "b": "#b45309",
        "good": "#15803d",
        "bad": "#b91c1c",
        "ink": "#1b1f24",
        "soft": "#57606a",
        "line": "#8c959f",
        "box": "#f6f8fa",
        "on": "#fff",
    },
    "DARK": {
        "a": "#7aa2f7",
        "b": "#e0af68",
        "good": "#6cc58b",
        "bad": "#f7768e",
        "ink": "#e6edf3",
        "soft": "#a3adb8",
        "line": "#6e7681",
        "box": "#161b22",
        "on": "#0d1117",
    },
}
_TIP: Final = (
    '<marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0 8 4 0 8z"/></marker>'
)


def _style() -> str:
    """Return the style sheet with the colours of both themes in it."""
    style = (FOLDER / "picture.css").read_text(encoding="utf-8")
    for theme, colours in _COLOURS.items():
        style = style.replace(theme, "; ".join(f"--{name}: {value}" for name, value in colours.items()))
    return style.strip()


class Picture:
    """One drawing under way: shapes in the order in which they were drawn."""

    def __init__(self, name: str, width: int, height: int, title: str, told: str, style: str = "") -> None:
        self.name = name
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="sb {name}" viewBox="0 0 {width} {height}" role="img" '
            f'aria-labelledby="{name}-title {name}-told">',
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-told">{escape(told)}</desc>',
            f"<style>{_style()}\n{style}</style>",
            f"<defs>{_TIP.format(name=name)}</defs>",
        ]

    def text(self, x: float, y: float, said: str, classes: str = "") -> None:
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{classes}">{escape(said)}</text>')

    def box(self, x: float, y: float, width: float, height: float, classes: str = "box", round_: float = 6) -> None:
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}" class="{classes}"/>'
        )

    def dot(self, x: float, y: float, radius: float, classes: str) -> None:
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{classes}"/>')

    def way(self, path: str, classes: str = "edge", *, tip: bool = True) -> None:
        end = f' marker-end="url(#{self.name}-tip)"' if tip else ""
        self._parts.append(f'<path d="{path}" class="{classes}"{end}/>')

    def open(self, classes: str) -> None:
        self._parts.append(f'<g class="{classes}">')

    def shut(self) -> None:
        self._parts.append("</g>")

    def step(self, x: float, y: float, number: int) -> None:
        """Draw a number in a disc."""
        self.dot(x, y, 10, "good")
        self.text(x, y + 4.5, str(number), "on small bold mid")

    def svg(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def race() -> Picture:
    """Two replies reach one saga at the same moment."""
    steps = 7
    share = 100 / (steps + 2)
    style = "".join(
        f"@keyframes race-{n}{{0%,{n * share:.0f}%{{opacity:.08}}{(n + 0.4) * share:.0f}%,100%{{opacity:1}}}}\n"
        f".race .s{n}{{animation:race-{n} 16s infinite}}\n"
        for n in range(1, steps + 1)
    )
    style += "@media(prefers-reduced-motion:reduce){.race g{animation:none!important}}"
    p = Picture(
        "race",
        820,
        400,
        "Two replies race",
        "Workers A and B load the same version. Each handles its replies and commits. The store keeps both as siblings "
        "and drops the decision of B. It posts MergeSagaState once; A merges both and decides; one event leaves.",
        style,
    )
    for y, name in ((70, "worker A"), (205, "store"), (340, "worker B")):
        p.text(12, y + 5, name, "bold")
        p.way(f"M96 {y}H806", "edge dash", tip=False)
    p.dot(140, 205, 9, "good")
    p.text(140, 236, "v1", "code mid")
    p.open("s1")  # both load
    p.way("M146 198 196 84", "way a")
    p.way("M146 212 196 326", "way b")
    p.text(160, 132, "load", "small soft end")
    p.text(160, 290, "load", "small soft end")
    p.step(112, 176, 1)
    p.shut()
    p.open("s2")  # both handle
    p.box(200, 48, 142, 44, "box")
    p.text(271, 67, "equifax answers 540", "small mid")
    p.text(271, 84, "scores {equifax}", "small a mid")
    p.box(200, 318, 142, 44, "box")
    p.text(271, 337, "two answer: 760, 720", "small mid")
    p.text(271, 354, "740: accept, complete", "small b mid")
    p.step(200, 48, 2)
    p.step(200, 318, 2)
    p.shut()
    p.open("s3")  # A commits
    p.way("M320 94 372 190", "way a")
    p.way("M150 204C230 186 300 190 364 198", "edge", tip=False)
    p.dot(376, 200, 9, "a")
    p.text(376, 228, "v2", "code mid")
    p.text(362, 140, "commit: stored", "small soft")
    p.step(334, 122, 3)
    p.shut()
    p.open("s4")  # B commits
    p.way("M330 316 428 236", "way b")
    p.way("M146 212C230 262 330 262 426 230", "edge", tip=False)
    p.dot(440, 226, 9, "b")
    p.text(440, 254, "v3", "code mid")
    p.text(398, 290, "commit: forked, beside v2", "small soft")
    p.text(398, 308, "accept, complete", "small bad gone")
    p.step(384, 276, 4)
    p.shut()
    p.open("s5")  # the store posts
    p.way("M448 218C474 180 486 130 508 92", "way good dash")
    p.text(508, 150, "MergeSagaState,", "small")
    p.text(508, 166, "posted once", "small")
    p.step(488, 128, 5)
    p.shut()
    p.open("s6")  # A merges and decides
    p.box(510, 48, 150, 44, "box")
    p.text(585, 67, "merge v2 and v3", "small mid")
    p.text(585, 84, "673 on average: decline", "small good mid")
    p.way("M640 94 668 188", "way good")
    p.way("M385 200C480 186 580 190 662 198", "edge", tip=False)
    p.way("M449 228C530 232 600 222 664 208", "edge", tip=False)
    p.dot(674, 202, 10, "good")
    p.text(674, 234, "v4", "code mid")
    p.text(664, 146, "commit: settled", "small soft")
    p.step(510, 48, 6)
    p.shut()
    p.open("s7")
    p.way("M686 208C712 220 724 240 730 268", "way good")
    p.text(730, 290, "CreditDecided", "small good bold mid")
    p.text(730, 307, "leaves, once", "small mid")
    p.step(756, 246, 7)
    p.shut()
    return p


def choices() -> Picture:
    """What a runtime can do when two replies race; time runs to the right."""
    p = Picture(
        "choices",
        820,
        300,
        "Four ways to take two replies at once",
        "With a lock the second waits. With a version number and a retry the second does its work twice. With last "
        "write wins the first one's change is lost. With forks both work at once, and a merge follows.",
    )
    rows: tuple[tuple[str, str, Callable[[float], None]], ...] = (
        ("a lock", "B waits, and every message pays for the lock", lambda y: _lock(p, y)),
        ("a version and a retry", "B does its work again, and may lose again", lambda y: _retry(p, y)),
        ("last write wins", "nobody waits, and what A wrote is lost", lambda y: _last(p, y)),
        ("a fork and a merge", "nobody waits, nothing is lost, one merge more", lambda y: _fork(p, y)),
    )
    for number, (name, comes, draw) in enumerate(rows):
        y = 14 + number * 72
        p.text(12, y + 22, name, "bold")
        p.text(12, y + 42, comes, "small soft")
        p.text(318, y + 19, "A", "a bold")
        p.text(318, y + 45, "B", "b bold")
        draw(y)
    return p


def _work(p: Picture, x: float, y: float, width: float, who: str, said: str) -> None:
    p.box(x, y, width, 22, who, 4)
    p.text(x + width / 2, y + 15.5, said, "on small mid")


def _lock(p: Picture, y: float) -> None:
    _work(p, 340, y + 4, 130, "a", "work")
    p.box(340, y + 30, 134, 22, "wait b", 4)
    p.text(407, y + 45.5, "wait", "small mid b")
    _work(p, 478, y + 30, 130, "b", "work")


def _retry(p: Picture, y: float) -> None:
    _work(p, 340, y + 4, 130, "a", "work")
    _work(p, 348, y + 30, 130, "b", "work")
    p.text(488, y + 46, "✕", "bad bold mid")
    _work(p, 500, y + 30, 130, "b", "work again")


def _last(p: Picture, y: float) -> None:
    _work(p, 340, y + 4, 130, "a", "work")
    p.text(486, y + 20, "lost", "bad small bold gone")
    _work(p, 348, y + 30, 130, "b", "work")


def _fork(p: Picture, y: float) -> None:
    _work(p, 340, y + 4, 130, "a", "work")
    _work(p, 348, y + 30, 130, "b", "work")
    p.way(f"M472 {y + 15}C490 {y + 15} 490 {y + 24} 502 {y + 27}", "way a", tip=False)
    p.way(f"M480 {y + 41}C492 {y + 41} 492 {y + 32} 502 {y + 29}", "way b", tip=False)
    _work(p, 502, y + 17, 60, "good", "merge")


def halves() -> Picture:
    """A commit has two halves."""
    p = Picture(
        "halves",
        820,
        236,
        "Facts and decisions",
        "What the message handlers did are facts: always kept. What decide did is the decision: kept where the commit "
        "settles the saga, dropped whole where it forks, and taken again after the merge.",
    )
    p.text(150, 24, "one run of a saga", "bold mid")
    p.box(12, 38, 276, 84)
    p.text(28, 62, "message handlers", "bold a")
    p.text(28, 84, "state, and what they ask for", "small soft")
    p.text(28, 104, "self.state.scores[…] = 540", "code")
    p.box(12, 134, 276, 84)
    p.text(28, 158, "decide()", "bold b")
    p.text(28, 180, "state, what it asks for, completion", "small soft")
    p.text(28, 200, "self.publish(…); self.complete()", "code")
    for x, name in ((330, "the commit is stored"), (590, "the commit forks")):
        p.text(x + 105, 24, name, "bold mid")
        p.box(x, 38, 210, 84)
        p.text(x + 105, 76, "the facts are kept", "mid a bold")
        p.box(x, 134, 210, 84)
    p.text(435, 98, "they are the new version", "small soft mid")
    p.text(695, 98, "they are a sibling", "small soft mid")
    p.text(435, 172, "the decision is kept", "mid b bold")
    p.text(435, 194, "and leaves, once", "small soft mid")
    p.text(695, 172, "the decision is dropped", "mid bad bold gone")
    p.text(695, 194, "and taken again after the merge", "small soft mid")
    p.way("M290 80H324")
    p.way("M290 176H324")
    return p


def house() -> Picture:
    """What happens to one batch, folder by folder."""
    p = Picture(
        "house",
        820,
        560,
        "What happens to a message, folder by folder",
        "A lane receives a batch from a queue, sorts it, loads its sagas from the store, merges siblings, runs "
        "handlers and decide in the functional core, commits atomically, dispatches and acks. Consumers run beside.",
    )
    p.box(12, 52, 150, 330)
    p.text(87, 30, "transports/", "code bold mid")
    p.text(87, 78, "queues", "bold mid")
    p.text(87, 96, "one for each endpoint", "small soft mid")
    for n, y in enumerate((150, 160, 170)):
        p.box(40 + n * 5, y, 84, 46, "box", 4)
    p.text(92, 198, "batch", "small mid")
    p.text(87, 300, "acked last", "small soft mid")
    p.box(658, 52, 150, 330)
    p.text(733, 30, "sagabus/store/", "code bold mid")
    p.text(733, 78, "versions", "bold mid")
    p.text(733, 96, "one record a saga", "small soft mid")
    p.dot(733, 150, 8, "good")
    p.dot(706, 190, 8, "a")
    p.dot(760, 190, 8, "b")
    p.way("M729 158 710 182", "edge", tip=False)
    p.way("M737 158 756 182", "edge", tip=False)
    p.text(733, 222, "siblings", "small mid")
    p.text(733, 262, "consumed ids", "small soft mid")
    p.text(733, 282, "outbox, timers", "small soft mid")
    p.text(733, 302, "history", "small soft mid")
    p.text(733, 336, "commit.lua", "code mid")
    p.text(733, 354, "one atomic write", "small soft mid")
    p.box(210, 52, 400, 330)
    p.text(410, 30, "sagabus/runtime/: a lane of a worker", "bold mid")
    rows = (
        (76, 1, "receive, and sort", "lane.py  intake.py"),
        (128, 2, "load", "saga_runner.py"),
        (292, 5, "commit", "saga_runner.py"),
        (344, 6, "dispatch, mark, ack", "dispatch.py"),
    )
    for y, number, name, where in rows:
        p.step(234, y + 4, number)
        p.text(254, y + 9, name, "bold")
        p.text(594, y + 9, where, "code soft end")
    p.box(224, 152, 372, 122, "box")
    p.text(410, 172, "the functional core: sagabus/advance.py", "small soft mid")
    p.step(248, 196, 3)
    p.text(268, 201, "merge siblings", "bold")
    p.text(584, 201, "mergers/", "code soft end")
    p.step(248, 228, 4)
    p.text(268, 233, "handle, then decide()", "bold")
    p.text(584, 233, "your saga", "code soft end")
    p.text(410, 262, "no I/O, no clock, no randomness: a Commit comes out", "small soft mid")
    p.way("M162 80H218", "way a")
    p.way("M610 132H652", "edge")
    p.way("M652 142H610", "edge")
    p.way("M610 296H652", "way good")
    p.way("M210 348H168", "way a")
    p.box(210, 404, 400, 44)
    p.text(226, 431, "consumers: your I/O", "bold")
    p.text(594, 431, "crew.py  consumer.py", "code soft end")
    p.way("M410 384V400", "edge")
    p.text(12, 488, "The same core has four drivers:", "bold")
    drivers = (
        ("the worker", "sagabus/runtime/"),
        ("the simulator", "sagabus/testing/"),
        ("the replayer", "sagabus/observe/"),
        ("what-if", "sagabus/observe/"),
    )
    for n, (name, where) in enumerate(drivers):
        x = 12 + n * 202
        p.box(x, 502, 190, 48)
        p.text(x + 95, 522, name, "mid")
        p.text(x + 95, 540, where, "code soft mid")
    return p


PICTURES: Final = (race, choices, halves, house)


def main() -> None:
    """Write every picture."""
    for draw in PICTURES:
        picture = draw()
        (FOLDER / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
