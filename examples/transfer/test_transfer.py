"""What the run promises: that it ends well while workers die, and that it would say if it had not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import evolve

from examples.transfer.findings import findings
from examples.transfer.ledger import Ledger, Outcome
from examples.transfer.tidy import forget
from examples.transfer.town import Town, make_town
from sagabus import Bus, DocumentKey
from sagas.transfer import (
    Account,
    Books,
    Coin,
    MoneyTransferred,
    Moved,
    Reason,
    Transfer,
    TransferMoney,
    TransferRefused,
    move,
    open_bank,
)

ROOT: Final = Path(__file__).parents[2]
ALICE, BOB, EVE = (DocumentKey(name, "street") for name in ("alice", "bob", "eve"))
TOWN: Final = Town(
    {
        ALICE: Account.of(50, 20, prefix="a", tainted=[9]),
        BOB: Account({}),
        EVE: Account.of(5, prefix="e", blocked=True),
    },
    [TransferMoney("t1", ALICE, BOB, 60), TransferMoney("t2", ALICE, EVE, 1)],
)


@pytest.mark.chaos
def test_transfers_while_workers_are_killed_keep_every_promise(tmp_path: Path) -> None:
    """On real workers and an embedded store of their own: all end, and nothing is lost, doubled, merged or left."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SAGABUS_", "TRANSFER_"))}
    run = subprocess.run(
        [sys.executable, "-m", "examples.transfer", "--transfers", "400", "--accounts", "30", "--kill-every", "0.3"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    *_, last = run.stdout.splitlines()
    assert last.startswith("transfers=400 ended=400 ")
    assert int(re.findall(r"kills=(\d+)", last)[0]) >= 1
    assert "BROKEN" not in run.stdout


def test_town_of_a_seed_is_always_the_same_and_has_all_kinds() -> None:
    """Both ways, blocked accounts, tainted coins, and wishes that nobody can pay."""
    town = make_town(50, 1000, seed=1)
    assert town == make_town(50, 1000, seed=1)
    assert town != make_town(50, 1000, seed=2)
    assert len(town.groups) == 5
    assert {wish.order.within_one_group for wish in town.wishes} == {True, False}
    assert {account.blocked for account in town.accounts.values()} == {True, False}
    assert any(coin.tainted for account in town.accounts.values() for coin in account.coins.values())
    richest = max(account.cents for account in town.accounts.values())
    assert any(wish.cents > richest for wish in town.wishes)


@pytest.mark.parametrize("accounts", [4, 5, 19])
def test_town_of_few_accounts_still_goes_both_ways(accounts: int) -> None:
    """Everybody has a neighbour and a stranger."""
    town = make_town(accounts, 200, seed=1)
    assert len(town.groups) == 2
    assert all(wish.source != wish.target for wish in town.wishes)


# -- what is told of a run that did not end well -------------------------------------------------------------------


def ended() -> tuple[dict[DocumentKey, Account], dict[str, Sequence[Outcome]]]:
    """Return the accounts and the outcomes of a run of TOWN that ended well."""
    after = move(TOWN.accounts[ALICE], TOWN.accounts[BOB], 60, "t1")
    assert isinstance(after, Moved)
    accounts = {**TOWN.accounts, ALICE: after.source, BOB: after.target}
    refused = TransferRefused("t2", ALICE, EVE, 1, Reason.TARGET_BLOCKED)
    return accounts, {"t1": [MoneyTransferred("t1", ALICE, BOB, 60)], "t2": [refused]}


def broken(accounts: Mapping[DocumentKey, Account], outcomes: Mapping[str, Sequence[Outcome]]) -> set[str]:
    """Return the promises that were not kept."""
    return {found.promise for found in findings(TOWN, Books(accounts), outcomes) if not found.kept}


def test_findings_of_a_run_that_ended_well_are_all_kept() -> None:
    """Nothing is wrong where nothing is wrong."""
    assert broken(*ended()) == set()


def with_coin(account: Account, id_: str, coin: Coin) -> Account:
    return evolve(account, coins={**account.coins, id_: coin})


CONSERVED: Final = "money is conserved to the cent, coin by coin"


@pytest.mark.parametrize(
    ("change", "promises"),
    [
        (lambda a, o: o.pop("t2"), {"every transfer has one outcome"}),
        (lambda a, o: o.update(t2=o["t2"] * 2), {"every transfer has one outcome"}),
        (lambda a, o: o.update(t3=o["t2"]), {"every transfer has one outcome"}),
        (
            lambda a, o: a.update({BOB: with_coin(a[BOB], "new", Coin(1))}),
            {CONSERVED, "every balance is what the outcomes come to", "no coin was merged"},
        ),
        (
            lambda a, o: a.update({BOB: with_coin(a[BOB], "a2", Coin(9, tainted=True))}),
            {
                CONSERVED,
                "every balance is what the outcomes come to",
                "no coin is in two places, and books agree",
                "no tainted coin has moved",
            },
        ),
        (
            lambda a, o: a.update({ALICE: evolve(a[ALICE], reservations={"t9": {}})}),
            {"no reservation is left", "no coin is in two places, and books agree"},
        ),
        (lambda a, o: a.update({EVE: evolve(a[EVE], blocked=False)}), {"blocked accounts are untouched"}),
        (
            lambda a, o: o.update(t2=[MoneyTransferred("t2", ALICE, BOB, 1)]),
            {"every balance is what the outcomes come to"},
        ),
    ],
    ids=["lost", "twice", "unasked", "made", "doubled", "reserved", "unblocked", "untrue"],
)
def test_findings_of_a_run_that_did_not_end_well_name_the_promise(change: Any, promises: set[str]) -> None:
    """Each promise would be seen broken; none is a line that always says ok."""
    accounts, outcomes = ended()
    change(accounts, outcomes)
    assert broken(accounts, outcomes) == promises


def test_ledger_told_of_outcomes_counts_by_message_id() -> None:
    """A second copy of one message says nothing new; another message is a second outcome."""
    with Bus(store="memory:") as bus:
        ledger = Ledger(bus)
        outcome = MoneyTransferred("t1", ALICE, BOB, 60)
        for id_ in ("1", "1", "2"):
            bus.publish(outcome, id=id_)
        bus.worker().run_until_idle()
    assert ledger.transfers == 1
    assert ledger.outcomes() == {"t1": [outcome, outcome]}


def test_town_of_one_process_ends_well_and_leaves_nothing(sagabus_bus: Bus) -> None:
    """On a real store, in this process: every promise, and not a document is left."""
    town = make_town(8, 60, seed=3)
    sagabus_bus.endpoint("transfers", Transfer)
    open_bank(sagabus_bus)
    ledger = Ledger(sagabus_bus)
    for group in town.groups:
        accounts = {key: (None, account) for key, account in town.accounts.items() if key.group == group}
        sagabus_bus.documents.compare_exchange(accounts)
    sagabus_bus.send_many(town.wishes, to="transfers")
    sagabus_bus.worker().run_until_idle()
    found = findings(town, Books.read(sagabus_bus.documents, town.groups), ledger.outcomes())
    assert [str(finding) for finding in found if not finding.kept] == []
    forget(sagabus_bus, town.groups)
    assert Books.read(sagabus_bus.documents, town.groups) == Books()
