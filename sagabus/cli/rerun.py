"""What `sagabus replay` does with recorded sagas: today's code runs them again, and each saga gets a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from sagabus.cli.output import console, emit
from sagabus.cli.progress import watched

if TYPE_CHECKING:
    from rich.console import Console

    from sagabus.definition import SagaDefinition
    from sagabus.envelope import Envelope
    from sagabus.observe.differences import Difference
    from sagabus.observe.record import RecordedSaga
    from sagabus.observe.rerun import Comparison, Rerun

_STYLES: Final = {"same": "green", "differs": "bold red", "not replayed": "yellow"}
_COUNTED: Final = {"same": "same", "differs": "different", "not replayed": "not replayed"}


def rerun_all(lines: Iterable[str], app: str | None, as_json: bool) -> None:
    """Run the recorded sagas in *lines* again, and print what differs.

    Args:
        app: the bus whose code runs them; None for the one they were recorded from.

    Raises:
        ChangedSagasError: some came out otherwise than recorded.
        NothingReplayedError: none could be replayed.
    """
    from sagabus.observe.record_lines import read
    from sagabus.observe.rerun import ChangedSagasError, NothingReplayedError, rerun

    show = _emit if as_json else _Report().show
    verdicts: Counter[str] = Counter()
    changed = []
    for recorded in watched(read(lines), None, "replayed", prints=True):
        comparison = rerun(_definition(recorded, app or recorded.app), recorded)
        verdicts[comparison.verdict] += 1
        if comparison.verdict == "differs":
            changed.append(str(recorded.key))
        show(comparison)
    if not as_json:
        counts = ", ".join(f"{verdicts[verdict]} {word}" for verdict, word in _COUNTED.items() if verdicts[verdict])
        console().print(f"{counted(verdicts.total(), 'saga')}: {counts}", markup=False)
    if changed:
        raise ChangedSagasError(changed)
    if not verdicts["same"]:
        raise NothingReplayedError(verdicts.total())


def counted(number: int, name: str) -> str:
    """Return *number* of what is called *name*, in the plural where that is due."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def _definition(recorded: RecordedSaga, app: str) -> SagaDefinition:
    from sagabus.app import load_app
    from sagabus.errors import ConfigurationError

    definition = load_app(app).saga(recorded.key.name)
    if definition is None:
        raise ConfigurationError(
            f"no saga {recorded.key.name!r} on {app}, which line {recorded.line} of the record needs; "
            f"name the app that has it with --app"
        )
    return definition


def _emit(comparison: Comparison) -> None:
    recorded = comparison.recorded
    emit(
        {
            "kind": "saga",
            "saga": str(recorded.key),
            "line": recorded.line,
            "verdict": comparison.verdict,
            "commits": len(recorded.history),
            "replayed": len(comparison.commits),
            "differences": list(_rows(comparison)),
            "notes": list(comparison.notes),
            "refusal": comparison.refusal or None,
        }
    )


def _rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for rerun in comparison.differing:
        for difference in rerun.differences:
            yield {
                "commit": rerun.number,
                "version": str(rerun.entry.dot) if rerun.entry.dot else None,
                "messages": [message.id for message in rerun.entry.messages],
                "about": difference.about,
                "text": difference.text,
                "follows": rerun.follows,
            }
    for difference in comparison.end:
        yield {
            "commit": None,
            "version": None,
            "messages": [],
            "about": difference.about,
            "text": difference.text,
            "follows": bool(comparison.differing),
        }


class _Report:
    """Tells people what differs: per saga a line, and where it differs the commits, with their lines of the graph."""

    def __init__(self) -> None:
        self._out: Console = console()

    def show(self, comparison: Comparison) -> None:
        """Print one saga."""
        from rich.text import Text

        recorded, differing = comparison.recorded, comparison.differing
        total = len(recorded.history)
        self._out.print(
            Text.assemble(
                (f"{recorded.key}  ", "bold"),
                (comparison.verdict, _STYLES[comparison.verdict]),
                f" at commit {differing[0].number} of {total}" if differing else "",
                " at the end" if comparison.end and not differing else "",
                f": {counted(total, 'commit')}" if comparison.verdict == "same" else "",
                f": {comparison.refusal}" if comparison.refusal and not differing else "",
            ),
            soft_wrap=True,
        )
        graph = _graph_lines(recorded)
        for rerun in differing:
            if not rerun.follows:
                self._show_commit(rerun, graph)
        following = [str(rerun.number) for rerun in differing if rerun.follows]
        if following:
            what = f"commits {', '.join(following)} differ" if len(following) > 1 else f"commit {following[0]} differs"
            self._say(f"  {what} too, which may follow from what differs before")
        for difference in comparison.end:
            self._say(f"  at the end  {difference.text}")
        if comparison.refusal and differing:
            self._say(f"  replayed no further: {comparison.refusal}", "yellow")
        for note in comparison.notes:
            self._say(f"  note: {note}", "dim")

    def _show_commit(self, rerun: Rerun, graph: dict[int, str]) -> None:
        self._say(f"  {rerun.number}. {graph[rerun.number]}", "cyan")
        for envelope in rerun.entry.messages:
            self._say(f"     {_received(envelope)}")
        for difference in rerun.differences:
            self._say(f"     {_sentence(difference)}", "yellow")

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(text, style=style, markup=False, soft_wrap=True)


def _sentence(difference: Difference) -> str:
    if difference.about == "state":
        return difference.text
    return f"{difference.about}: {difference.text}"


def _received(envelope: Envelope) -> str:
    import msgspec

    from sagabus.observe.changes import text
    from sagabus.observe.differences import named

    body = text(msgspec.json.decode(envelope.data))
    return named(envelope) + (f" {body}" if body != "{}" else "")


def _graph_lines(recorded: RecordedSaga) -> dict[int, str]:
    """Return the line of each commit in the version graph, by its number."""
    from sagabus.observe.graph import align, rows

    drawn = (item for item in align(rows(recorded.history)) if item[2].entry is not None)
    return {number: "  ".join((lanes, *cells)).rstrip() for number, (lanes, cells, _) in enumerate(drawn, 1)}
