"""Where a run of today's code differs from a recorded commit: messages, outcome, state, effects, decision. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from attrs import frozen

from sagabus.codec import StateCodec, plain_state
from sagabus.commit import Commit, Half, HistoryEntry, Outcome, Result
from sagabus.digest import EffectDigest, HalfDigest, digests, hashed
from sagabus.envelope import Envelope, rfc3339
from sagabus.errors import CodecError
from sagabus.observe.changes import MISSING, changes, text
from sagabus.outgoing import Outgoing, OutgoingKind

_SHORT_ID: Final = 12


@frozen
class Difference:
    """One thing that came out otherwise than recorded.

    Attributes:
        about: `messages`, `outcome`, `state`, `effects`, `decision`; `end` for where the saga stands at last.
        text: what was recorded and what comes now.
        lasting: whether later commits may differ because of it alone.
    """

    about: str
    text: str
    lasting: bool = False


def compare(
    entry: HistoryEntry, commit: Commit, result: Result | None, stored: bytes | None, *, by_bytes: bool
) -> Iterator[Difference]:
    """Yield where *commit*, and what the commit rules made of it, differ from *entry*.

    Args:
        result: None where there was nothing to commit.
        stored: the state that *entry* wrote, where it is known.
        by_bytes: whether equal states still have the bytes that they had.
    """
    yield from _messages(entry, commit)
    outcome = "nothing to commit" if result is None else result.outcome.value
    if outcome != entry.outcome.value:
        reason = f" ({result.reason})" if result and result.reason else ""
        yield Difference("outcome", f"recorded {entry.outcome.value}, now {outcome}{reason}", lasting=True)
    if result is None:
        return
    completed = result.outcome is Outcome.STORED and commit.completes
    if completed != entry.completed:
        words = "recorded completed, now the saga goes on" if entry.completed else "recorded going on, now completed"
        yield Difference("decision", words, lasting=True)
    if entry.facts is None:
        if result.outcome is entry.outcome and (result.dot is None) != (entry.dot is None):
            yield Difference("state", f"recorded {_written(entry.dot)}, now {_written(result.dot)}", lasting=True)
        return
    facts, decision = digests(commit)
    if by_bytes:
        yield from _state("state", entry.facts, facts, commit.facts, stored, lasting=True)
    yield from _effects("effects", entry.facts, facts, commit.facts)
    yield from _decision(entry, commit, decision)
    if by_bytes and entry.decision and decision and commit.decision:
        released = entry.outcome is Outcome.STORED
        yield from _state("decision", entry.decision, decision, commit.decision, stored, lasting=released)


def _written(dot: object) -> str:
    return "no version" if dot is None else "a version"


def _messages(entry: HistoryEntry, commit: Commit) -> Iterator[Difference]:
    if commit.unmergeable is not None:
        yield Difference("messages", f"the versions cannot be opened now: {_error(commit.unmergeable)}", lasting=True)
    handled = set(commit.ids)
    failed = {failure.incoming.id: _error(failure.error) for failure in commit.failures}
    early, stale = {m.id for m in commit.early}, {m.id for m in commit.stale}
    for envelope in entry.messages if commit.unmergeable is None else ():
        if envelope.id in handled:
            continue
        if envelope.id in failed:
            what = f"fails now: {failed[envelope.id]}"
        elif envelope.id in early:
            what = "does not start the saga now"
        elif envelope.id in stale:
            what = "is passed over now, as what was cancelled, replaced, or came after the end"
        else:
            what = "is not handled in this run any more"
        yield Difference("messages", f"{named(envelope)} {what}", lasting=True)


def _error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def named(envelope: Envelope) -> str:
    """Return a message as reports name it: its type and the beginning of its id."""
    return f"{envelope.type.removeprefix('sagabus.')} {envelope.id[:_SHORT_ID]}"


# -- states ------------------------------------------------------------------------------------------------------


def _state(
    about: str, recorded: HalfDigest, now: HalfDigest, half: Half, stored: bytes | None, *, lasting: bool
) -> Iterator[Difference]:
    if recorded.state == now.state:
        return
    if half.state is None or not recorded.state:
        yield Difference(about, f"recorded {_has(recorded.state)}, now {_has(now.state)}", lasting)
    elif stored is not None and hashed(stored) == recorded.state:
        for line in unequal(plain(stored), plain(half.state)):
            yield Difference(about, f"state.{line}", lasting)
    else:
        yield Difference(about, f"state: the recorded digest is of another one; now {text(plain(half.state))}", lasting)


def _has(state: bytes) -> str:
    return "a state" if state else "no state"


def plain(state: bytes) -> Any:
    """Return a stored state as plain data: what JSON has."""
    return msgspec.json.decode(msgspec.json.encode(plain_state(state)))


def read_again(codec: StateCodec[Any], stored: bytes) -> bytes:
    """Return a stored state as today's code reads it.

    Raises:
        CodecError: it cannot.
    """
    return codec.encode(codec.decode(stored))


def unequal(recorded: Any, now: Any) -> Iterator[str]:
    """Yield a line for each member that differs, as `scores.equifax: recorded 710, now 700`."""
    for change in changes(recorded, now, whole=True):
        if change.before is MISSING:
            yield f"{change.place}: not recorded, now {text(change.after)}"
        elif change.after is MISSING:
            yield f"{change.place}: recorded {text(change.before)}, now missing"
        else:
            yield f"{change.place}: recorded {text(change.before)}, now {text(change.after)}"


# -- effects and decisions ---------------------------------------------------------------------------------------


def _decision(entry: HistoryEntry, commit: Commit, now: HalfDigest | None) -> Iterator[Difference]:
    recorded, released = entry.decision, entry.outcome is Outcome.STORED
    if recorded is None and now is not None:
        assert commit.decision is not None
        yield Difference("decision", f"recorded none, now {_asked(now, commit.decision)}", released)
    elif now is None and recorded is not None:
        yield Difference("decision", f"recorded {_asked(recorded)}, now none", released)
    elif recorded is not None and now is not None:
        assert commit.decision is not None
        if recorded.completes != now.completes and not released:
            kept = ("without", "with") if now.completes else ("with", "without")
            yield Difference("decision", f"recorded {kept[0]} completion, now {kept[1]} (dropped by the fork)")
        yield from _effects("decision", recorded, now, commit.decision)


def _asked(digest: HalfDigest, half: Half | None = None) -> str:
    words = [said for _, said in _told(digest, half)] if half else [_name(effect) for effect in digest.effects]
    return ", ".join((*words, *(["completion"] if digest.completes else []))) or "a change of the state"


def _effects(about: str, recorded: HalfDigest, now: HalfDigest, half: Half) -> Iterator[Difference]:
    missing = list((Counter(recorded.effects) - Counter(now.effects)).elements())
    told = _told(now, half)
    new = Counter(now.effects) - Counter(recorded.effects)
    if not missing and not new and recorded.effects != now.effects:
        yield Difference(about, f"in another order: now {', '.join(said for _, said in told)}")
    for effect, said in told:
        if not new[effect]:
            continue
        new[effect] -= 1
        like = next((m for m in missing if (m.kind, m.to, m.type) == (effect.kind, effect.to, effect.type)), None)
        if like is None:
            yield Difference(about, f"new: {said}")
        else:
            missing.remove(like)
            yield Difference(about, f"changed: the recorded digest is of another body; now {said}")
    for effect in missing:
        yield Difference(about, f"missing: {_name(effect)}")


def _told(digest: HalfDigest, half: Half) -> list[tuple[EffectDigest, str]]:
    """Return each effect with what to say of it: its name and its body."""
    messages = [message for sent in half.outgoing.values() for message in sent]
    # A digest has the messages first, then the cancellations.
    said = [f"{_name(e)}{_body(m)}" for e, m in zip(digest.effects, messages, strict=False)]
    said += [_name(effect) for effect in digest.effects[len(messages) :]]
    return list(zip(digest.effects, said, strict=True))


def _body(message: Outgoing) -> str:
    data = msgspec.json.decode(msgspec.json.decode(message.body, type=Envelope).data)
    body = f" {text(data)}" if data else ""
    return f"{body}, due {rfc3339(message.due_ms)}" if message.kind is OutgoingKind.TIMER else body


def _name(effect: EffectDigest) -> str:
    match effect.kind:
        case OutgoingKind.COMMAND:
            return f"{effect.type} to {effect.to}"
        case OutgoingKind.EVENT:
            return f"event {effect.type}"
        case OutgoingKind.TIMER:
            return f"timer {effect.type}"
        case None:
            return f"cancel of timer {effect.to}"


# -- where it ends -----------------------------------------------------------------------------------------------


def compare_states(codec: StateCodec[Any], recorded: Sequence[bytes], now: Sequence[bytes]) -> Iterator[Difference]:
    """Yield where the states that a saga ends with differ, member by member, as today's code reads both.

    Members that no recorded state has are new, and nothing to compare with.
    """
    if len(recorded) != len(now):
        yield Difference("end", f"recorded {_versions(recorded)}, now {_versions(now)}", lasting=True)
        return
    for number, (stored, state) in enumerate(zip(recorded, now, strict=True), 1):
        name = "state" if len(recorded) == 1 else f"state of sibling {number}"
        try:
            before = plain(read_again(codec, stored))
        except Exception as error:  # validators and upcasts are the user's, and may raise anything
            yield Difference("end", f"{name}: today's code cannot read what is stored: {error}")
            continue
        after = plain(state)
        for member in new_members(stored, state):
            before.pop(member, None)
            after.pop(member, None)
        for line in unequal(before, after):
            yield Difference("end", f"{name}.{line}")


def _versions(states: Sequence[bytes]) -> str:
    return f"{len(states)} version{'s' if len(states) != 1 else ''}"


def new_members(stored: bytes, state: bytes) -> list[str]:
    """Return the members of *state* that the stored one has not, of the same version of its class.

    Where what is stored is damaged nothing is new: it is told where it is read.
    """
    if stored[1:2] != state[1:2]:
        return []
    try:
        known = plain(stored)
    except (CodecError, TypeError, ValueError, RecursionError):
        return []
    return [name for name in plain(state) if name not in known] if isinstance(known, dict) else []
