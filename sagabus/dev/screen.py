"""What `sagabus dev` says: where everything is, what to try, and a line or two whenever files change."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from sagabus.cli.output import console

if TYPE_CHECKING:
    from rich.console import Console

    from sagabus.dev.survey import Survey

_MOST_FILES: Final = 3


@frozen
class Screen:
    """Prints for whoever sits before it; on stdout.

    Attributes:
        app: `package.module:bus`.
        folder: that of the project.
    """

    app: str
    folder: Path
    _out: Console = field(factory=console)

    def welcome(self, survey: Survey, processes: int, how: str, dashboard: str) -> None:
        """Say what runs where, and what to try."""
        store = f"embedded Valkey in {survey.folder}" if survey.folder else survey.store
        if survey.transport != survey.store:
            store += f", messages on {survey.transport}"
        count = "1 process" if processes == 1 else f"{processes} processes"
        self._out.print()
        self._row("app", self.app, "bold")
        self._row("store", store)
        self._row("workers", f"{count}, each for {', '.join(survey.endpoints)}")
        self._row("reload", f"*.py below {self.folder} ({how})")
        self._row("dashboard", dashboard, "cyan" if dashboard.startswith("http") else "")
        if survey.store.startswith("memory:"):
            self._row("beware", "a memory: store is another one in each process; leave store= out here", "yellow")
        self._out.print()
        if survey.example:
            self._row("try", survey.example, "cyan")
            if survey.saga:
                self._row("", shlex.join(("sagabus", "inspect", self.app, survey.saga)), "cyan")
            self._row("", f"sagabus tail {self.app}", "cyan")
        self._row("end", "Ctrl-C; what is in hand is finished first")
        self._out.print()

    def broken(self, changed: Sequence[str], problem: str, *, runs: bool) -> None:
        """Say why the app cannot be loaded, and what that means for the workers."""
        left = "the workers go on with what they have" if runs else "no worker runs"
        self._line(f"{self._files(changed) or self.app}: cannot be loaded; {left} until it is mended", "bold red")
        for line in problem.splitlines():
            self._out.print(f"  {line}", style="red", markup=False, soft_wrap=True)

    def reloading(self, changed: Sequence[str]) -> None:
        """Say that workers are about to end."""
        self._line(f"{self._files(changed)} changed: the workers finish what they have in hand", "dim")

    def ready(self, *, took_s: float) -> None:
        """Say that all workers are at work on the app as it is now."""
        self._line(f"workers ready, after {took_s:.1f} s", "green")

    def idle(self) -> None:
        """Say that no worker runs, and none will before something changes."""
        self._line("the workers have ended, as starting them again would not help; waiting for a change", "bold red")

    def without_dashboard(self, code: int) -> None:
        """Say that the dashboard has ended by itself."""
        self._line(f"the dashboard has ended, with exit code {code}; it comes back with the next change", "bold red")

    def ending(self) -> None:
        """Say that all of it ends."""
        self._line("ending; Ctrl-C again ends at once", "dim")

    def _row(self, name: str, text: str, style: str = "") -> None:
        from rich.text import Text

        self._out.print(Text.assemble(f"  {name:10} ", (text, style)), soft_wrap=True)

    def _line(self, text: str, style: str) -> None:
        self._out.print(f"{time.strftime('%H:%M:%S')}  {text}", style=style, markup=False, soft_wrap=True)

    def _files(self, changed: Sequence[str]) -> str:
        shown = ", ".join(changed[:_MOST_FILES])
        more = len(changed) - _MOST_FILES
        return f"{shown} and {more} more" if more > 0 else shown
