"""The mutants, by rule: what was changed, the configuration that shows it, and what it shows as.

Where the explorer's own checks and the ballot's invariants see the damage, the kind is theirs. Damage that only a
crash, an operator or a bill would show is seen by a law of single commits (`rules_laws.py`): `law NAME`.

Three changes are left out, because they change nothing that can be told apart:
- Of two tests that both end in `again`, which comes first (rules 2 and 3; rule 5 and the limits of rule 4): both change
  nothing, and the message is loaded again either way. `test_swapped_refusals_...` shows it.
- That a new life begins without the old versions: its first write covers them.
- Rule 7 for a commit that completes and has no facts: the functional core makes none.
"""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants import Mutant
from tests.simulation.rules_cases import Case
from tests.simulation.rules_saga import Ballot, Count, Graceful, Narrow, Prompt, Quiet, Restarting, Serial, Wider

_TWICE: Final = Case(Quiet, duplicates=1)
_BATCHES: Final = Case(Quiet, duplicates=1, batch=2)
_LATE: Final = Case(Ballot, needs=1, duplicates=1)
_RACE: Final = Case(Quiet)
_THREE: Final = Case(Quiet, votes=3, needs=3, workers=3)
_STARTS: Final = Case(Quiet, opens=2)

_CONSUMED: Final = """    if consumed:  # 1
        outcome = Outcome.DUPLICATE if len(consumed) == len(commit.ids) else Outcome.AGAIN
        reason = "" if outcome is Outcome.DUPLICATE else "consumed"
        return Result(outcome, reason, live=len(live), consumed=consumed), None
"""
_REFUSED: Final = """    again = _refusal(record, commit)
    if again:
        return Result(Outcome.AGAIN, again, live=len(live)), None
"""
_LATE_BLOCK: Final = """    if commit.late:  # 2
        after = _copy(record, commit)
        _consume(after, commit, commit.facts.outgoing, {}, now_ms)
        _remember(after, commit, Outcome.LATE, None, now_ms, by)
        return Result(Outcome.LATE, live=len(live)), after
"""
_LATE_FIRST: Final = _LATE_BLOCK.replace(
    "    if commit.late:  # 2\n",
    "    if commit.late and not _refusal(record, commit):\n",
)
_MERGED: Final = """    if commit.merged and not all(dot in live for dot in commit.parents):  # 5
        return Result(Outcome.AGAIN, "merged", live=len(live)), None
"""
_SETTLES: Final = "    settles = all(covers(commit.context, dot) for dot in live)\n"
_LIMITS: Final = """    if not settles and commit.facts.state is not None:  # 4
        if commit.must_settle:
            return Result(Outcome.AGAIN, "settle", live=len(live)), None
        if not commit.merged and len(live) >= commit.limits.siblings:
            return Result(Outcome.AGAIN, "siblings", live=len(live)), None
"""
_CLEARED: Final = """    if record.pending_merge in commit.ids:
        record.pending_merge = ""
"""
_POSTED: Final = """    if len(record.versions.live) > 1 and not record.pending_merge:  # 6
        record.pending_merge = merge_id(commit.key, commit.life, commit.ids[-1])
        return True
"""
_COMPLETES: Final = "    if settles and commit.completes:  # 7\n"
_SAME_BYTES: Final = (
    "    if len(live) == 1 and commit.parents == tuple(live) and next(iter(live.values())).state == half.state:  # 8\n"
)


def _mutant(rule: int, name: str, old: str, new: str, case: Case, kind: str) -> Mutant:
    return Mutant(rule, name, ((old, new),), case, kind)


MUTANTS: Final = (
    # -- 1: ids first ------------------------------------------------------------------------------------------------
    _mutant(1, "no id is looked at", _CONSUMED, "", _TWICE, "invariant"),
    _mutant(
        1,
        "a batch that was partly consumed is handled again whole",
        "    if consumed:  # 1\n",
        "    if consumed and len(consumed) == len(commit.ids):\n",
        _BATCHES,
        "invariant",
    ),
    _mutant(
        1,
        "a batch that was partly consumed is a duplicate",
        "outcome = Outcome.DUPLICATE if len(consumed) == len(commit.ids) else Outcome.AGAIN",
        "outcome = Outcome.DUPLICATE",
        _BATCHES,
        "stuck",
    ),
    _mutant(
        1,
        "only the first id of a batch is remembered",
        "fromkeys(commit.ids,",
        "fromkeys(commit.ids[:1],",
        _BATCHES,
        "invariant",
    ),
    _mutant(
        1,
        "ids of a completed saga are not looked at",
        "for id_ in commit.ids if id_ in record.consumed} if record else {}",
        "for id_ in commit.ids if id_ in record.consumed} if record and not record.completed else {}",
        _LATE,
        "invariant",
    ),
    _mutant(
        1,
        "a new life forgets the ids of the old one",
        "after.versions, after.timers = VersionSet(record.versions.clock), {}",
        "after.versions, after.timers, after.consumed = VersionSet(record.versions.clock), {}, {}",
        Case(Restarting, votes=1, opens=2, duplicates=1, patient=True),
        "invariant",
    ),
    Mutant(
        1,
        "swapped with 2: late before ids",
        ((_CONSUMED, _LATE_FIRST + _CONSUMED), (_LATE_BLOCK, "")),
        _LATE,
        "invariant",
    ),
    Mutant(
        1,
        "swapped with 3: the clock before ids",
        ((_CONSUMED, ""), (_REFUSED, _REFUSED + _CONSUMED)),
        _TWICE,
        "law duplicate",
    ),
    # -- 2: completed ------------------------------------------------------------------------------------------------
    _mutant(
        2,
        "a run is written into a completed saga",
        "    if record.completed:  # 2\n",
        "    if False:\n",
        _STARTS,
        "completed-twice",
    ),
    _mutant(2, "what is late is stored", _LATE_BLOCK, "", _LATE, "completed-twice"),
    _mutant(
        2,
        "a run that comes too late is late with its facts, instead of again",
        _REFUSED,
        _REFUSED.replace(
            "    if again:\n",
            '    if again == "completed":\n'
            "        after = _copy(record, replace(commit, late=True))\n"
            "        _consume(after, commit, commit.facts.outgoing, {}, now_ms)\n"
            "        _remember(after, commit, Outcome.LATE, None, now_ms, by)\n"
            "        return Result(Outcome.LATE, live=len(live)), after\n"
            "    if again:\n",
        ),
        Case(Ballot, needs=1),
        "finally",
    ),
    _mutant(
        2,
        "a run that comes too late is dropped, instead of again",
        _REFUSED,
        _REFUSED.replace(
            "    if again:\n",
            '    if again == "completed":\n'
            "        return Result(Outcome.DUPLICATE, live=len(live)), None\n"
            "    if again:\n",
        ),
        Case(Ballot, needs=1),
        "finally",
    ),
    _mutant(
        2,
        "the id of a late message is not remembered",
        "    _consume(after, commit, commit.facts.outgoing, {}, now_ms)\n        _remember",
        "    _remember",
        _LATE,
        "invariant",
    ),
    _mutant(
        2,
        "what on_late sends is not recorded",
        "_consume(after, commit, commit.facts.outgoing, {}, now_ms)",
        "_consume(after, commit, {}, {}, now_ms)",
        Case(Ballot, needs=1),
        "law outbox",
    ),
    _mutant(
        2,
        "a message is late though a failover revived its saga",
        'return "" if record.completed or commit.life != record.life else "life"',
        'return ""',
        Case(Ballot, needs=1, rollbacks=1),
        "invariant",
    ),
    # -- 3: the clock ------------------------------------------------------------------------------------------------
    _mutant(
        3,
        "what a failover lost is built upon",
        'return "" if includes(record.versions.clock, commit.context) else "clock"',
        'return ""',
        Case(Quiet, rollbacks=1),
        "lost-effect",
    ),
    _mutant(
        3,
        "what a failover lost altogether is built upon",
        'return "clock" if commit.late or commit.life != 1 or not commit.begins_life or commit.context else ""',
        'return ""',
        Case(Quiet, rollbacks=1),
        "lost-effect",
    ),
    # -- 4: facts and decisions --------------------------------------------------------------------------------------
    _mutant(
        4,
        "an unsettled run keeps its decision's state",
        "_write(after, commit, last, actor)",
        "_write(after, commit, commit.decision or last, actor)",
        _STARTS,
        "finally",
    ),
    _mutant(
        4,
        "an unsettled run keeps its decision's effects",
        "last.outgoing if decided else {}",
        "commit.decision.outgoing if commit.decision else {}",
        _RACE,
        "law outbox",
    ),
    _mutant(
        4,
        "an unsettled run keeps its decision's timers",
        "[commit.facts, last] if decided else [commit.facts]",
        "[commit.facts, commit.decision or last]",
        Case(Graceful, patient=True),
        "law timers",
    ),
    _mutant(4, "every run counts as settled", _SETTLES, "    settles = True\n", _RACE, "unsettled"),
    _mutant(4, "no run counts as settled", _SETTLES, "    settles = not live\n", _RACE, "stuck"),
    _mutant(
        4,
        "an unsettled run writes no version",
        "dot = _write(after, commit, last, actor)",
        "dot = _write(after, commit, last, actor) if settles else None",
        _RACE,
        "lost-effect",
    ),
    _mutant(
        4,
        "the facts of an unsettled run send nothing",
        "_consume(after, commit, commit.facts.outgoing, last",
        "_consume(after, commit, commit.facts.outgoing if settles else {}, last",
        _RACE,
        "law outbox",
    ),
    _mutant(4, "no run ever forks", "        if commit.must_settle:\n", "        if True:\n", _RACE, "law concurrent"),
    _mutant(
        4,
        "a saga without a merger forks",
        "        if commit.must_settle:\n",
        "        if False:\n",
        Case(Serial),
        "unmergeable",
    ),
    _mutant(
        4,
        "a handler that completes forks",
        "        if commit.must_settle:\n",
        "        if False:\n",
        Case(Prompt, patient=True),
        "stuck",
    ),
    _mutant(
        4,
        "what must settle is always run again",
        _LIMITS,
        '    if commit.must_settle:\n        return Result(Outcome.AGAIN, "settle", live=len(live)), None\n' + _LIMITS,
        Case(Serial),
        "livelock",
    ),
    _mutant(
        4,
        "no limit of siblings",
        "len(live) >= commit.limits.siblings",
        "False",
        Case(Narrow, votes=3, needs=3, workers=3),
        "siblings",
    ),
    _mutant(
        4,
        "one sibling too many",
        "len(live) >= commit.limits.siblings",
        "len(live) > commit.limits.siblings",
        Case(Narrow, votes=3, needs=3, workers=3),
        "siblings",
    ),
    _mutant(
        4,
        "merges are refused at the limit",
        "if not commit.merged and len(live)",
        "if len(live)",
        Case(Wider, votes=3, needs=3, workers=3),
        "law merge-limit",
    ),
    # -- 5: merged siblings ------------------------------------------------------------------------------------------
    _mutant(
        5,
        "siblings are merged that are live no more",
        _MERGED,
        "",
        Case(Count, votes=3, needs=3, workers=3),
        "lost-effect",
    ),
    _mutant(
        5,
        "siblings are merged of which one is live no more",
        "not all(dot in live for dot in commit.parents)",
        "not any(dot in live for dot in commit.parents)",
        Case(Count, votes=3, needs=3, workers=3),
        "lost-effect",
    ),
    _mutant(5, "merging twice forks", _MERGED, "", _THREE, "law merge-forks"),
    # -- 6: one MergeSagaState ---------------------------------------------------------------------------------------
    _mutant(6, "none is posted", _POSTED, "", _RACE, "unsettled"),
    _mutant(6, "one is noted and not posted", "        return True\n", "        return False\n", _RACE, "stuck"),
    _mutant(6, "the one that was handled stays under way", _CLEARED, "", Case(Quiet, votes=3, needs=3), "stuck"),
    _mutant(
        6, "one is posted with every fork", "and not record.pending_merge:  # 6", "and True:", _THREE, "law one-merge"
    ),
    _mutant(
        6,
        "one with nothing to merge stays under way",
        "posted = _post_merge(after, commit)",
        "posted = dot is not None and _post_merge(after, commit)",
        Case(Quiet, votes=3, needs=3, opens=2),
        "stuck",
    ),
    _mutant(
        6,
        "its id is that of another",
        "commit.life, commit.ids[-1])\n        return True",
        'commit.life, "")\n        return True',
        Case(Quiet, votes=3, needs=3),
        "stuck",
    ),
    _mutant(
        6,
        "its id is of the first message of a batch",
        "commit.life, commit.ids[-1])\n        return True",
        "commit.life, commit.ids[0])\n        return True",
        Case(Quiet, votes=3, needs=3, opens=2, batch=2),
        "stuck",
    ),
    Mutant(
        6,
        "swapped: posted before the one that was handled is cleared",
        ((_CLEARED, ""), (_POSTED, _POSTED.replace("        return True\n", "        return True\n" + _CLEARED))),
        _THREE,
        "unsettled",
    ),
    Mutant(
        6,
        "swapped with 4: posted before the version is written",
        (
            (
                "    dot = _write(after, commit, last, actor)\n",
                "    posted = _post_merge(after, commit)\n    dot = _write(after, commit, last, actor)\n",
            ),
            ("    posted = _post_merge(after, commit)\n    _consume", "    _consume"),
        ),
        _RACE,
        "unsettled",
    ),
    _mutant(
        6,
        "the id of a MergeSagaState that is posted again counts as handled",
        "        after.consumed.pop(after.pending_merge, None)\n",
        "",
        Case(Quiet, votes=3, needs=3, rollbacks=1),
        "stuck",
    ),
    # -- 7: completion -----------------------------------------------------------------------------------------------
    _mutant(
        7,
        "an unsettled run completes",
        _COMPLETES,
        "    if commit.completes:\n",
        Case(Quiet, votes=1, opens=2),
        "unsettled",
    ),
    _mutant(7, "nothing completes", _COMPLETES, "    if False:\n", _RACE, "stuck"),
    _mutant(
        7,
        "timers outlive their saga",
        'after.completed, after.timers, after.pending_merge = True, {}, ""',
        'after.completed, after.pending_merge = True, ""',
        Case(Count, votes=1, patient=True),
        "law tombstone",
    ),
    _mutant(
        7,
        "a merge under way outlives its saga",
        'after.completed, after.timers, after.pending_merge = True, {}, ""',
        "after.completed, after.timers = True, {}",
        Case(Restarting, votes=3, needs=2, opens=2, patient=True),
        "stuck",
    ),
    _mutant(
        7,
        "a tombstone is kept for ever",
        "        after.expires_ms = now_ms + round(commit.limits.retention_s * 1000)\n",
        "",
        _RACE,
        "law tombstone",
    ),
    _mutant(
        7,
        "a start that raced revives a completed saga",
        "if not (commit.begins_life and commit.life == record.life + 1):  # 7",
        "if not commit.begins_life:",
        Case(Quiet, votes=1, opens=2),
        "lost-effect",
    ),
    _mutant(
        7,
        "a run of an earlier life is stored in the next",
        "    elif commit.life != record.life:  # 7\n",
        "    elif False:\n",
        Case(Restarting, votes=2, needs=1, opens=2, patient=True),
        "stuck",
    ),
    _mutant(
        7,
        "a new life is still completed",
        "= commit.life, False, None, commit.starter",
        "= commit.life, True, None, commit.starter",
        Case(Restarting, votes=1, opens=2, patient=True),
        "law tombstone",
    ),
    _mutant(
        7,
        "a new life is counted as the old one",
        "after.life, after.completed, after.expires_ms",
        "after.life, after.completed, after.expires_ms = record.life, False, None\n"
        "        _, after.completed, after.expires_ms",
        Case(Restarting, votes=1, opens=2, patient=True),
        "stuck",
    ),
    # -- 8: equal bytes ----------------------------------------------------------------------------------------------
    _mutant(
        8,
        "equal bytes make a version",
        _SAME_BYTES,
        "    if False:\n",
        Case(Quiet, votes=0, nudges=3, patient=True, needs=1, forks=False),
        "invariant",
    ),
    _mutant(
        8,
        "equal bytes of somebody else make no version",
        _SAME_BYTES,
        "    if len(live) == 1 and next(iter(live.values())).state == half.state:\n",
        Case(Count),
        "lost-effect",
    ),
    _mutant(
        8,
        "equal bytes of one sibling make no version",
        _SAME_BYTES,
        "    if commit.parents == tuple(live) and any(v.state == half.state for v in live.values()):\n",
        Case(Quiet, nudges=1),
        "law merged",
    ),
)

_COMPLETED: Final = "    if record.completed:  # 2\n"

SWAPPED_REFUSALS: Final = {
    "3 before 2": (
        (
            _COMPLETED,
            '    if not includes(record.versions.clock, commit.context):\n        return "clock"\n' + _COMPLETED,
        ),
    ),
    "4 before 5": ((_MERGED, ""), (_LIMITS, _LIMITS + _MERGED)),
}
"""Swaps of two tests that both end in `again`: name -> the changes."""
