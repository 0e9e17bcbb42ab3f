"""The arena: what one run of a row has, and that all of it is gone afterwards."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field

from tests.chaos.lab.proxy import Proxy
from tests.chaos.lab.server import Server
from tests.chaos.load.driver import Load
from tests.chaos.load.errand import Mix
from tests.chaos.load.settings import Settings

T = TypeVar("T")


@define
class Arena:
    """One run.

    Attributes:
        seed: of everything that is drawn.
        size: how many errands to send at least.
        faults: how many faults to make.
        quick: whether this is the fast version.
        folder: a short path; it is deleted afterwards.
    """

    seed: int
    size: int
    faults: int
    quick: bool
    folder: Path
    _stack: ExitStack = field(factory=ExitStack)
    _count: int = field(default=0, init=False)

    def use(self, thing: AbstractContextManager[T]) -> T:
        """Enter *thing*, to be left in reverse order when the run is over."""
        return self._stack.enter_context(thing)

    def server(self, **config: str | int) -> Server:
        """Return a server that runs, with settings as `Server` takes them."""
        self._count += 1
        return self.use(Server(self.folder / f"server-{self._count}", dict(config)))

    def proxy(self, server: Server) -> Proxy:
        """Return a proxy before *server*."""
        return self.use(Proxy(server.port))

    def load(
        self,
        store: str,
        transport: str = "",
        *,
        workers: int = 2,
        mix: Mix | None = None,
        window: int = 0,
        seen_at: tuple[str, str] | None = None,
        prefix: Sequence[str] = (),
        held: Callable[[], int] | None = None,
        name: str = "load",
        **settings: Any,
    ) -> Load:
        """Return a load whose workers are at work; nothing is sent yet.

        Args:
            store, transport: URLs, as the workers see them; the transport is the store's server by default.
            workers: how many.
            mix: which errands; the fast version gathers sooner by default.
            window: how many errands are under way at once; 40 by default, 10 in the fast version.
            seen_at: URLs of both as the driver and the judge see them, where not the same.
            prefix: what to put before the workers' command lines.
            held: as of `Load`.
            name: tells the loads of one run apart.
            settings: further `Settings`.
        """
        told = Settings(
            store,
            transport or store,
            namespace=f"chaos-{uuid.uuid4().hex[:8]}",
            ledger=str(self.folder / f"ledger-{name}"),
            seed=self.seed,
            **settings,
        )
        mix = mix or (Mix(gather_every=30, watch_every=6) if self.quick else Mix())
        window = window or (10 if self.quick else 40)
        own = seen_at or ("", "")
        return self.use(Load(told, workers, self.folder, mix, window, own[0], own[1], prefix, held))


@contextmanager
def arena(seed: int, size: int, faults: int, *, quick: bool) -> Iterator[Arena]:
    """Yield an arena; what was made in it has ended, and is gone, when the block is left."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        yield Arena(seed, size, faults, quick, Path(folder), stack)
