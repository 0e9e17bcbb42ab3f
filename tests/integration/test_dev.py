"""`sagabus dev` as people use it: files are edited while messages come, broken, and mended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener
from zlib import crc32

import pytest
from attrs import frozen

from sagabus import Bus, message
from tests.documents import ROOT, run
from tests.servers import until

ORDERS = 200


@message("shop.ship-order")
class ShipOrder:
    """Another service's idea of the message that starts the generated saga."""

    order: str


def dearest(order: str) -> str:
    """Return what is said where the dearest of the generated carriers is chosen."""
    cents, carrier = max((300 + crc32(f"{c}/{order}".encode()) % 400, c) for c in ("hare", "snail", "tortoise"))
    return f"order {order} goes with {carrier} for {cents} cents"


@frozen
class Dev:
    """A running `sagabus dev`, and the project that it runs."""

    process: subprocess.Popen[bytes]
    project: Path
    log: Path

    def said(self) -> str:
        """Return what was said so far, by it and by its workers."""
        return self.log.read_text(errors="replace")

    def await_said(self, text: str, *, times: int = 1) -> None:
        """Return once *text* was said so many times."""
        until(lambda: self.said().count(text) >= times or self.process.poll() is not None, text)
        assert self.said().count(text) >= times, self.said()

    def chosen(self) -> set[str]:
        """Return the orders for which a carrier was chosen."""
        return set(re.findall(r"order (\w+) goes with", self.said()))

    def send(self, *orders: str) -> None:
        """Send orders as another service does: it knows the message, and not the app, which may be broken."""
        url = f"embedded:{self.project / '.sagabus'}"
        with Bus(url, url, namespace="shop") as bus:
            bus.send_many([ShipOrder(order) for order in orders], to="shipping")

    def rewrite(self, name: str, old: str, new: str) -> None:
        """Save a source file with *new* for *old*."""
        path = self.project / "shop" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def environment() -> dict[str, str]:
    """Return an environment without servers, with this checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAGABUS_")}
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def developing(project: Path, *options: str) -> Iterator[Dev]:
    """Run `sagabus dev` in *project* for as long as the block."""
    log = project.parent / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "sagabus", "dev", *options],
            cwd=project,
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            # Its own group, as of a terminal's foreground job.
            start_new_session=True,
        )
    try:
        yield Dev(process, project, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a new project."""
    done = run(tmp_path, "-m", "sagabus", "init", "shop")
    assert done.returncode == 0, done.stderr
    return tmp_path / "shop"


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started and that are still there."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def is_alive(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")


def page(browser: OpenerDirector, address: str) -> bool:
    """Return whether a page is there."""
    try:
        with browser.open(address, timeout=10) as answer:
            return "shop.app:bus" in answer.read().decode()
    except OSError:
        return False


def test_dev_reloads_a_changed_saga_and_loses_no_message(project: Path) -> None:
    """Orders come in while a saga changes: each gets its carrier; what is broken stops nobody; Ctrl-C ends all."""
    with developing(project, "--no-dashboard") as dev:
        dev.await_said("workers ready")
        assert "sagabus send shop.app:bus shop.ship-order" in dev.said()
        orders = [f"a{number}" for number in range(ORDERS)]
        dev.send(*orders)
        dev.rewrite("shipping.py", "carrier, cents = min(", "carrier, cents = max(")
        dev.await_said("shop/shipping.py changed")
        dev.await_said("workers ready", times=2)
        until(lambda: dev.chosen() >= set(orders), "a carrier for every order")

        dev.send("42")
        dev.await_said(dearest("42"))

        dev.rewrite("shipping.py", "class Shipping(Saga", "class Shipping Saga")
        dev.await_said("shop/shipping.py: cannot be loaded; the workers go on with what they have")
        dev.await_said("SyntaxError: ")
        assert "importlib" not in dev.said()
        dev.send("43")
        dev.await_said(dearest("43"))

        dev.rewrite("shipping.py", "class Shipping Saga", "class Shipping(Saga")
        dev.await_said("workers ready", times=3)
        dev.send("44")
        dev.await_said(dearest("44"))

        workers = children(dev.process.pid)
        os.killpg(dev.process.pid, signal.SIGINT)
        assert dev.process.wait(60) == 0, dev.said()
        assert not any(map(is_alive, workers))
        assert dev.said().count("Traceback") == 1


def test_dev_of_an_app_that_is_broken_waits_for_it_and_leaves_nothing_behind(project: Path) -> None:
    """Nothing runs before the app can be loaded. The dashboard stays at its address, with its cookie, when the app is
    loaded again; where the session itself is killed, nothing that it has started stays.
    """
    (project / "shop" / "app.py").rename(project / "app.txt")
    with developing(project, "--poll") as dev:
        dev.await_said("cannot be loaded; no worker runs until it is mended")
        dev.await_said("no module 'shop.app'")
        assert "Traceback" not in dev.said()
        (project / "app.txt").rename(project / "shop" / "app.py")
        dev.await_said("workers ready")
        address = re.search(r"dashboard +(http://\S+)", dev.said())
        assert address is not None
        browser = build_opener(HTTPCookieProcessor())
        until(lambda: page(browser, address[1]), "a page of the dashboard")
        dev.rewrite("consumers.py", "goes with", "is shipped by")
        dev.await_said("workers ready", times=2)
        until(lambda: page(browser, address[1].partition("?")[0]), "the same page, without the token")
        started = children(dev.process.pid)
        assert len(started) == 3
        dev.process.kill()
        dev.process.wait()
        until(lambda: not any(map(is_alive, started)), "the end of all that it has started")


def test_dev_without_an_app_or_a_project_exits_2(tmp_path: Path) -> None:
    """Whoever starts it elsewhere is told what is missing."""
    done = run(tmp_path, "-m", "sagabus", "dev")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no pyproject.toml" in done.stderr
