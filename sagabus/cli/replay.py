"""`sagabus replay`: a race, step by step, with the version graph as it grows; or recorded sagas, by today's code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from sagabus.cli.output import console, emit, json_option

if TYPE_CHECKING:
    from sagabus.envelope import Envelope
    from sagabus.observe.recording import Recording
    from sagabus.observe.replay import Happened
    from sagabus.outgoing import Outgoing

_RECORD: Final = '"sagabus-record"'
"""Only the head of recorded sagas has it; see `sagabus.observe.record_lines`."""


@click.command("replay", short_help="Replay a recorded race, or recorded sagas.")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--app", metavar="APP", help="Whose code runs it, where not that of the recording.")
@click.option("--step", "stepwise", is_flag=True, help="Of a race: wait for a key after each step.")
@json_option
def command(file: TextIO, app: str | None, stepwise: bool, as_json: bool) -> None:
    """Replay what FILE holds on a clean store in memory. Nothing is connected.

    A race written by hand is shown step by step; its format is in sagabus.observe.replay. Sagas that
    `sagabus record` exported are run through today's code, and what comes out otherwise is reported:
    state, effects, decisions. Either ends with 1 where something is not as expected.

    \b
      sagabus replay examples/credit_check/race.jsonl --step
      sagabus replay trace.jsonl --app other.app:bus
    """
    from sagabus.observe.log import configure

    configure(level="WARNING")
    head, lines = _opened(file)
    if _RECORD in head:
        from sagabus.cli.rerun import rerun_all

        if stepwise:
            raise click.UsageError("--step is for races; recorded sagas are compared as a whole")
        rerun_all(lines, app, as_json)
    else:
        _race(lines, app, stepwise, as_json)


def _opened(file: TextIO) -> tuple[str, Iterable[str]]:
    """Return the head of *file*, its first line that says something, and all its lines."""
    before = []
    for line in file:
        before.append(line)
        if line.strip() and not line.startswith("#"):
            break
    return before[-1] if before else "", chain(before, file)


def _race(lines: Iterable[str], app: str | None, stepwise: bool, as_json: bool) -> None:
    """Replay a race and show each step.

    Raises:
        UnmetExpectationError: a step did not come out as the recording expects.
    """
    from sagabus.app import load_app
    from sagabus.errors import ConfigurationError
    from sagabus.observe.recording import parse
    from sagabus.observe.replay import Replay, UnmetExpectationError

    recording = parse(lines)
    app = app or recording.app
    definition = load_app(app).saga(recording.saga.name)
    if definition is None:
        raise ConfigurationError(f"no saga {recording.saga.name!r} on {app}; mend the head of the recording")
    replay = Replay(definition, recording.saga, recording.start_ms)
    show = emit_step if as_json else _Story(recording).show
    for step in recording.steps:
        happened = replay.play(step)
        show(happened)
        if happened.differences:
            raise UnmetExpectationError(step.line, happened.differences)
        if stepwise:
            click.pause("", err=True)


def emit_step(happened: Happened) -> None:
    """Print one step as a JSON object."""
    from sagabus.cli.inspect import entry_row
    from sagabus.envelope import rfc3339

    commit, result = happened.commit, happened.result
    emit(
        {
            "kind": "step",
            "line": happened.step.line,
            "worker": happened.step.worker,
            "do": happened.step.do,
            "at": rfc3339(happened.at_ms),
            "messages": [{"id": message.id, "type": message.type} for message in commit.messages],
            "outcome": happened.outcome or None,
            "reason": result.reason if result and result.reason else None,
            "version": str(result.dot) if result and result.dot else None,
            "written": happened.written,
            "lifecycle": happened.lifecycle.value,
            "states": list(happened.states),
            "released": [_outgoing(message) for message in happened.released],
            "dropped": [_outgoing(message) for message in happened.dropped],
            "history": [entry_row(entry) for entry in happened.history] if happened.outcome else None,
            "differences": list(happened.differences),
        }
    )


def _outgoing(message: Outgoing) -> dict[str, Any]:
    from sagabus.observe.replay import body_of_outgoing, type_of_outgoing

    return {
        "kind": message.kind.name.lower(),
        "type": type_of_outgoing(message),
        "to": message.to,
        "id": message.id,
        "data": body_of_outgoing(message),
    }


class _Story:
    """Tells a replay to people."""

    def __init__(self, recording: Recording) -> None:
        self._out = console()
        self._number = 0
        self._drawn = 0
        if recording.title:
            self._say(recording.title, "bold")
        self._say(f"{recording.saga} on a clean store in memory", "dim")

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(text, style=style, markup=False, soft_wrap=True)

    def show(self, happened: Happened) -> None:
        """Print one step."""
        self._number += 1
        step = happened.step
        self._out.print()
        self._say(f"{self._number}. worker {step.worker}: {step.do}", "bold")
        if step.note:
            self._say(f"   {step.note}", "italic")
        tell = {"load": _loaded, "commit": _committed, "crash": _crashed}[step.do]
        for line in tell(happened):
            self._say(f"   {line}", _style(line))
        for difference in happened.differences:
            self._say(f"   not as expected: {difference}", "bold red")
        if len(happened.history) != self._drawn or happened.step.do == "commit":
            from sagabus.cli.drawing import print_graph

            self._drawn = len(happened.history)
            self._out.print()
            print_graph(self._out, happened.history)


def _style(line: str) -> str:
    for word, style in (("forked", "yellow"), ("dropped", "red"), ("again", "yellow"), ("completed", "bold green")):
        if line.startswith(word):
            return style
    return ""


def _crashed(happened: Happened) -> list[str]:
    return [f"loses {_types(happened.commit.messages)}; it was not acked, so it comes again"]


def _loaded(happened: Happened) -> list[str]:
    snapshot, commit = happened.snapshot, happened.commit
    siblings = len(snapshot.versions)
    seen = {
        0: "no version: the saga has not started",
        1: "one version",
    }.get(siblings, f"{siblings} siblings")
    if snapshot.lifecycle.value == "completed":
        seen = "a saga that has completed"
    names = " and ".join(str(version.dot) for version in snapshot.versions)
    lines = [f"loaded {seen}" + (f" ({names})" if names else "")]
    if siblings > 1 and commit.ids and not commit.late:
        lines.append(f"merged {names}")
    lines += [f"passed over {id_}: consumed before" for id_ in snapshot.consumed]
    if commit.late:
        lines += [f"late: {_received(message)}" for message in commit.messages]
    elif commit.ids:
        lines += [f"handled {_received(message)}" for message in commit.messages]
        if commit.facts.state is not None:
            lines.append(f"facts: {_state(commit.facts.state)}")
        lines += [f"facts: {sentence}" for sentence in _sentences(commit.facts.outgoing)]
        if commit.decision is not None:
            lines.append(_decision(happened))
    lines += [f"failed {failure.incoming!r}: {failure.error!r}" for failure in commit.failures]
    for name, messages in (("early", commit.early), ("stale", commit.stale), ("left over", commit.leftover)):
        if messages:
            lines.append(f"{name}: {_types([message.envelope for message in messages])}")
    if commit.unmergeable is not None:
        lines.append(f"unmergeable: {commit.unmergeable!r}")
    return lines


def _decision(happened: Happened) -> str:
    commit = happened.commit
    assert commit.decision is not None
    words = []
    if commit.decision.state is not None and commit.decision.state != commit.facts.state:
        words.append(_state(commit.decision.state))
    words += _sentences(commit.decision.outgoing)
    if commit.completes:
        words.append("complete")
    return f"decided: {', '.join(words) or 'nothing yet'}"


def _committed(happened: Happened) -> list[str]:
    commit, result = happened.commit, happened.result
    if result is None:
        return ["nothing to commit"]
    lines = []
    match result.outcome.value:
        case "stored":
            lines.append(f"stored {result.dot or 'no new version: the state is unchanged'}; the saga is settled")
        case "forked":
            lines.append(
                f"forked: {result.dot} is stored beside what others wrote meanwhile; {result.live} siblings now"
            )
        case "again":
            lines.append(f"again ({result.reason}): nothing was stored; load and run again")
        case "duplicate":
            lines.append("duplicate: all of it was consumed before; nothing was stored")
        case "late":
            lines.append("late: the saga has completed; its state stays, and what on_late sends leaves")
    if result.outcome.value == "stored" and result.live > 1:
        lines[0] = f"stored {result.dot or 'no version'}; {result.live} siblings"
    if result.outcome.value == "stored" and commit.completes:
        lines.append("completed")
    lines += [f"released {_sentence(message)}" for message in happened.released]
    if result.outcome.value == "forked" and commit.decision is not None:
        dropped = [_sentence(message) for message in happened.dropped]
        if commit.completes:
            dropped.append("completion")
        lines.append(f"dropped the decision: {', '.join(dropped) or 'it asked for nothing'}")
    if happened.written is not None:
        lines.append(f"state: {_json(happened.written)}")
    return lines


def _received(envelope: Envelope) -> str:
    import msgspec

    body = _json(msgspec.json.decode(envelope.data))
    name = envelope.type.removeprefix("sagabus.")
    return f"{name} {envelope.id[:12]}" + (f" {body}" if body != "{}" else "")


def _types(messages: Sequence[Envelope]) -> str:
    return ", ".join(f"{message.type.removeprefix('sagabus.')} {message.id[:12]}" for message in messages)


def _sentence(message: Outgoing) -> str:
    from sagabus.observe.replay import body_of_outgoing, type_of_outgoing
    from sagabus.outgoing import OutgoingKind

    name = type_of_outgoing(message).removeprefix("sagabus.")
    body = _json(body_of_outgoing(message))
    said = f"{name} {body}" if body != "{}" else name
    match message.kind:
        case OutgoingKind.EVENT:
            return f"event {said}"
        case OutgoingKind.TIMER:
            return f"timer {said}"
        case _:
            return f"{said} to {message.to}"


def _sentences(outgoing: Mapping[str, Sequence[Outgoing]]) -> list[str]:
    return [_sentence(message) for messages in outgoing.values() for message in messages]


def _state(data: bytes) -> str:
    from sagabus.codec import plain_state

    return _json(plain_state(data))


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode().replace("\n", " ")
