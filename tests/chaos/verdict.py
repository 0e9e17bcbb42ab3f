"""What a run came to: the verdict of the judge, and the values it is made of."""

from __future__ import annotations

from typing import Any, Final

from attrs import evolve, field, frozen

_SHOWN: Final = 12


@frozen
class Verdict:
    """What became of everything that was accepted.

    Attributes:
        messages: how many messages had to have an effect, those that were sent included.
        faults: how often the fault really happened; a run without one proves nothing, and fails.
        lost: effects that did not happen, and sagas that did not complete.
        twice: effects that happened under more than one message id.
        contradictory: results that are not allowed.
        left_over: siblings, undispatched effects, messages in queues, dead letters, timers of completed sagas.
        unaccounted: consumed ids that are not those of the effects, and effects whose ids were not consumed.
        repeats: second copies of one message id; allowed, and counted.
        stale_timers: timers of completed sagas that stay in the store until they are due; nobody hears them then.
        seconds: from the first message to the verdict.
        texts: what is wrong, one line each.
        notes: what else a reader of the table may want to know.
    """

    messages: int = 0
    faults: int = 0
    lost: int = 0
    twice: int = 0
    contradictory: int = 0
    left_over: int = 0
    unaccounted: int = 0
    repeats: int = 0
    stale_timers: int = 0
    seconds: float = 0.0
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether the fault happened and did no harm."""
        harm = self.lost or self.twice or self.contradictory or self.left_over or self.unaccounted or self.texts
        return self.faults > 0 and not harm

    def with_faults(self, faults: int, *notes: str) -> Verdict:
        """Return this verdict with how often the fault happened."""
        return evolve(self.noting(*notes), faults=faults)

    def noting(self, *notes: str) -> Verdict:
        """Return this verdict with further notes; empty ones are left out."""
        return evolve(self, notes=(*self.notes, *(note for note in notes if note)))

    def objecting(self, *texts: str) -> Verdict:
        """Return this verdict with further objections; empty ones are left out."""
        return evolve(self, texts=(*self.texts, *(text for text in texts if text)))

    def complaint(self) -> str:
        """Return all that is wrong, for people; empty where nothing is."""
        if self.ok:
            return ""
        counts = ("lost", "twice", "contradictory", "left_over", "unaccounted")
        found = [f"{name}={count}" for name in counts if (count := getattr(self, name))]
        lines = [] if self.faults else ["the fault did not happen, so nothing was shown"]
        more = len(self.texts) - _SHOWN
        return "\n  ".join([" ".join(found), *lines, *self.texts[:_SHOWN], *([f"... {more} more"] if more > 0 else [])])


@frozen
class Run:
    """One run of a row, as the table and its file beside keep it.

    Attributes:
        row: its number.
        seed: of the run.
        excused: why the machine did not permit it; "" where it did.
    """

    row: int
    seed: int
    verdict: Verdict = field(factory=Verdict)
    excused: str = ""

    @property
    def ok(self) -> bool:
        """Return whether it passed, or could not be made."""
        return bool(self.excused) or self.verdict.ok

    def as_json(self) -> dict[str, Any]:
        """Return it as the file keeps it; what is wrong only where something is."""
        v = self.verdict
        return {
            "row": self.row,
            "seed": self.seed,
            "messages": v.messages,
            "faults": v.faults,
            "lost": v.lost,
            "twice": v.twice,
            "repeats": v.repeats,
            "stale_timers": v.stale_timers,
            "seconds": round(v.seconds, 1),
            "notes": list(v.notes),
            "excused": self.excused,
            "complaint": "" if self.ok else v.complaint(),
        }
