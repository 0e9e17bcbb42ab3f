"""One round: what is still to be sent, to whom, and which writes replicas have not confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import redis
from attrs import define, field, frozen

from sagabus.errors import StoreRefusedError
from sagabus.link.answers import NotReplicated, Verdict, judge
from sagabus.link.command import Command, wire_args
from sagabus.link.node import Connection, Node, exchange, read, send
from sagabus.link.slots import beside

if TYPE_CHECKING:
    from sagabus.link.link import Link

_ASKING: Final = -1
_MARKER: Final = -2
_WAIT: Final = -3


@frozen
class Debt:
    """Writes that were made, and that too few replicas have confirmed.

    Attributes:
        node: where.
        epoch: in which life of which primary; in another one they may be lost.
        indices: of the commands.
    """

    node: Node
    epoch: str
    indices: tuple[int, ...]


@frozen
class Flight:
    """What is under way on one connection: wire number or index of a command, in the order of the replies."""

    node: Node
    conn: Connection
    indices: list[int]
    awaited: list[int]


@define
class Round:
    """The commands of one round on their way.

    Attributes:
        replies: those that came; where a command is still to be sent, or owed, its reply means nothing.
        failure: why the last attempt was not the last one; None where it is to be made again at once.
    """

    link: Link
    commands: Sequence[Command]
    wait_s: float
    replies: list[Any] = field(init=False)
    failure: object = field(init=False, default=None)
    _todo: list[int] = field(init=False)
    _debts: list[Debt] = field(init=False, factory=list)
    _asked: dict[int, str] = field(init=False, factory=dict)
    _whole: set[int] = field(init=False, factory=set)
    _tries: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.replies = [None] * len(self.commands)
        self._todo = list(range(len(self.commands)))

    @property
    def through(self) -> bool:
        """Return whether every command has its reply, and replicas what it wrote."""
        return not self._todo and not self._debts

    @property
    def answered(self) -> bool:
        """Return whether every command has its reply."""
        return not self._todo

    def owe(self) -> None:
        """Give up on the replicas: the commands that they have not confirmed get that as their reply."""
        wanted = self.link.terms.replicas
        for debt in self._debts:
            confirmed = self.failure.confirmed if isinstance(self.failure, NotReplicated) else 0
            for i in debt.indices:
                self.replies[i] = NotReplicated(debt.node.url, confirmed, wanted)
        self._debts = []

    def attempt(self) -> None:
        """Send what is still to do, and hear what became of it.

        Raises:
            StoreRefusedError: a server that is new here is not fit.
        """
        self.failure = None
        self._tries += 1
        debts, self._debts = self._debts, []
        for debt in debts:
            self._collect(debt)
        if not self._todo:
            return
        self.link.round_trips += 1
        todo, self._todo = self._todo, []
        try:
            groups = self.link.group(self.commands, todo, self._asked)
        except (redis.RedisError, OSError) as error:
            self.failure, self._todo = error, todo
            return
        flights: list[Flight] = []
        unfit: StoreRefusedError | None = None
        for node, indices in groups:
            try:
                if (flight := self._start(node, indices)) is not None:
                    flights.append(flight)
            except StoreRefusedError as error:
                unfit = error
                self._todo += indices
            except (redis.RedisError, OSError) as error:
                self._lost(node, indices, error)
        for flight in flights:
            self._land(flight)
        self._todo.sort()
        if unfit is not None:
            raise unfit

    # -- out and back --------------------------------------------------------------------------------------------

    def _start(self, node: Node, indices: list[int]) -> Flight | None:
        lasting = [i for i in indices if self.commands[i].lasting] if self.link.terms.replicas else []
        conn = node.acquire()
        if lasting and node.owing:
            # What is known to reach no replica is not written: it could only be lost, and be written again.
            failure = self._cover(node, conn)
            if failure is not None:
                self.failure = failure
                self._todo += indices
                return None
        flight = Flight(node, conn, indices, [])
        wire: list[tuple[Any, ...]] = []
        for i in indices:
            if i in self._asked:
                flight.awaited.append(_ASKING)
                wire.append(("ASKING",))
            flight.awaited.append(i)
            wire.append(wire_args(self.commands[i], conn, i in self._whole))
            if lasting and i == lasting[-1]:
                # Before what follows, which may block.
                flight.awaited.extend((_MARKER, _WAIT))
                wire += self._covering(node)
        try:
            send(conn, wire)
        except (redis.RedisError, OSError):
            conn.raw.disconnect()
            raise
        return flight

    def _land(self, flight: Flight) -> None:
        terms, conn = self.link.terms, flight.conn
        marked: Any = None
        confirmed: Any = None
        try:
            for what in flight.awaited:
                wait_s = self.wait_s if what >= 0 else terms.wait_ms / 1000
                reply = read(conn, terms.timeout_s + wait_s if wait_s else None)
                if what >= 0:
                    self.replies[what] = reply
                elif what == _MARKER:
                    marked = reply
                elif what == _WAIT:
                    confirmed = reply
        except (redis.RedisError, OSError) as error:
            conn.raw.disconnect()
            self._lost(flight.node, flight.indices, error)
            return
        here = True
        for i in flight.indices:
            self._asked.pop(i, None)
            if isinstance(self.replies[i], redis.ResponseError):
                here = self._hear(i, flight.node.address) and here
        if _WAIT in flight.awaited:
            here = self._owed(flight, marked, confirmed) and here
        if here:
            flight.node.release(conn)
        else:
            conn.raw.disconnect()
            flight.node.close()
            self.link.forget()

    def _hear(self, i: int, address: str) -> bool:
        """Judge an error; return whether the server is still the one for us."""
        reply = self.replies[i]
        verdict = judge(self.commands[i], reply)
        if verdict is Verdict.STANDS:
            return True
        self._todo.append(i)
        if verdict is Verdict.WHOLE:
            self._whole.add(i)
        elif verdict is Verdict.ASKED:
            self._asked[i] = beside(address, reply.host, reply.port)
        elif verdict is Verdict.MOVED:
            self.link.moved(reply.slot_id, beside(address, reply.host, reply.port))
        else:
            self.failure = reply
            if isinstance(reply, redis.exceptions.ClusterDownError):
                self.link.forget()
        return verdict is not Verdict.ELSEWHERE

    def _lost(self, node: Node, indices: Sequence[int], error: Exception) -> None:
        """Have *indices* sent again, to whoever is there then."""
        self.failure = error
        self.link.lost()
        self._todo += indices
        for i in indices:
            self._asked.pop(i, None)
        node.close()
        self.link.forget()

    # -- replicas ------------------------------------------------------------------------------------------------

    def _covering(self, node: Node) -> list[tuple[Any, ...]]:
        """Return the commands that say how many replicas have all that was written to a node before.

        WAIT asks only about the last write of its own connection, so there has to be one.
        """
        terms = self.link.terms
        return [("SET", self.link.marker(node.address, self._tries), ""), ("WAIT", terms.replicas, terms.wait_ms)]

    def _owed(self, flight: Flight, marked: Any, confirmed: Any) -> bool:
        """Note what replicas have not confirmed; return whether the server is still a primary."""
        written = tuple(
            i
            for i in flight.indices
            if i not in self._todo and self.commands[i].lasting and not isinstance(self.replies[i], redis.ResponseError)
        )
        if isinstance(confirmed, redis.ResponseError):
            self._todo += written
            self.failure = confirmed
            return False
        enough = confirmed >= self.link.terms.replicas and not isinstance(marked, redis.ResponseError)
        if written and not enough:
            flight.node.owing = True
            self._debts.append(Debt(flight.node, flight.conn.epoch, written))
            self.failure = NotReplicated(flight.node.url, confirmed, self.link.terms.replicas)
        return True

    def _collect(self, debt: Debt) -> None:
        """Ask again for the replicas; where the primary is another one by now, have the writes made again."""
        try:
            conn = debt.node.acquire()
            if conn.epoch == debt.epoch:
                failure = self._cover(debt.node, conn)
                if failure is None:
                    debt.node.release(conn)
                    return
                if isinstance(failure, NotReplicated):
                    self.failure = failure
                    self._debts.append(debt)
                    return
            else:
                debt.node.release(conn)
                failure = None
        except StoreRefusedError:
            self._todo += debt.indices
            raise
        except (redis.RedisError, OSError) as error:
            self._lost(debt.node, debt.indices, error)
            return
        self.failure = failure
        self._todo += debt.indices

    def _cover(self, node: Node, conn: Connection) -> redis.ResponseError | None:
        """Return None where replicas have all, and *conn* is still in hand; else why not, and it is given back."""
        terms = self.link.terms
        marked, confirmed = exchange(conn, self._covering(node), terms.timeout_s + terms.wait_ms / 1000)
        if isinstance(confirmed, redis.ResponseError):
            conn.raw.disconnect()
            node.close()
            self.link.forget()
            return confirmed
        if confirmed >= terms.replicas and not isinstance(marked, redis.ResponseError):
            node.owing = False
            return None
        node.release(conn)
        return NotReplicated(node.url, confirmed, terms.replicas)
