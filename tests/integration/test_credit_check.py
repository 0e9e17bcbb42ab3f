"""The credit check as a newcomer runs it: real worker processes, each of the transports, and some are killed."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from attrs import frozen

from tests import servers

ROOT = Path(__file__).parents[2]
APPLICANTS = 400
RACE = ("--applicants", str(APPLICANTS), "--processes", "3")
LAST_LINE = re.compile(
    r"applicants=(\d+) decided=\1 lost=0 twice=0 contradictory=0 forks=([1-9]\d*) merges=([1-9]\d*) seconds=\d+\.\d"
)


def command(*arguments: str) -> list[str]:
    """Return the command line of a run."""
    return [sys.executable, "-m", "examples.credit_check", *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with *variables*, and no URL but those among them."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("SAGABUS_", "CREDIT_CHECK_"))
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return inherited | {"PYTHONPATH": path} | variables


def credit_check(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in *folder*."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def check_ended_well(run: subprocess.CompletedProcess[str], applicants: int) -> None:
    """Make sure that everybody got one decision and that sagas forked."""
    last = run.stdout.splitlines()[-1] if run.stdout else ""
    found = LAST_LINE.fullmatch(last)
    assert found, f"{last!r}\n{run.stdout}\n{run.stderr}"
    assert int(found[1]) == applicants
    assert run.returncode == 0, run.stderr


@frozen
class Finished:
    """A run that is over, what it wrote, and what it left on its server: each key's time to live, in seconds."""

    run: subprocess.CompletedProcess[str]
    folder: Path
    left: dict[bytes, int]


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a run of three processes that had a server to itself."""
    folder = tmp_path_factory.mktemp("raced")
    with servers.valkey() as url, redis.Redis.from_url(url) as client:
        run = credit_check(folder, *RACE, "--store", url)
        left = {key: client.ttl(key) for key in client.scan_iter(count=10_000)}
    return Finished(run, folder, left)


def test_credit_check_with_racing_workers_decides_everybody_once(raced: Finished) -> None:
    """Three processes race for 400 applicants; the last line says that nobody was lost or decided twice."""
    check_ended_well(raced.run, APPLICANTS)
    with (raced.folder / "decisions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["customer"] for row in rows}) == len(rows) == APPLICANTS
    for row in rows:
        scores = [int(score.partition("=")[2]) for score in row["scores"].split()]
        assert len(scores) in (2, 3)
        assert row["average"] == f"{sum(scores) / len(scores):.1f}"
        assert row["decision"] == ("accepted" if sum(scores) / len(scores) > 700 else "declined")


def test_credit_check_while_workers_are_killed_decides_everybody_once(tmp_path: Path, valkey_url: str) -> None:
    """Workers are killed with SIGKILL again and again; nothing is lost, doubled or contradicted."""
    run = credit_check(
        tmp_path, "--applicants", "500", "--processes", "2", "--kill-every", "0.1", "--store", valkey_url
    )
    last = run.stdout.splitlines()[-1] if run.stdout else ""
    assert last.startswith("applicants=500 decided=500 lost=0 twice=0 contradictory=0 "), run.stderr
    assert run.returncode == 0, run.stderr
    killed = re.search(r"workers killed\D+(\d+)", run.stdout)
    assert killed
    assert int(killed[1]) > 0, "nobody was killed: the run was over too soon to show anything"


def test_credit_check_on_the_systems_redis_decides_everybody_once(tmp_path: Path, redis7_url: str) -> None:
    """URLs in the environment are those of the run and of its workers."""
    run = credit_check(
        tmp_path,
        *RACE,
        SAGABUS_STORE=redis7_url,
        SAGABUS_TRANSPORT=redis7_url,
    )
    check_ended_well(run, APPLICANTS)


def test_credit_check_over_rabbitmq_decides_everybody_once(tmp_path: Path, valkey_url: str, rabbitmq_url: str) -> None:
    """Store and transport may be two servers: no write is shared, and the result is the same."""
    run = credit_check(tmp_path, *RACE, SAGABUS_STORE=valkey_url, SAGABUS_TRANSPORT=rabbitmq_url)
    check_ended_well(run, APPLICANTS)


def test_credit_check_without_a_server_runs_one_of_its_own(tmp_path: Path) -> None:
    """In an empty folder, with nothing configured, the embedded server is started there and shared by the workers."""
    run = credit_check(tmp_path, *RACE)
    check_ended_well(run, APPLICANTS)
    assert (tmp_path / ".sagabus").is_dir()


def test_credit_check_ended_well_leaves_no_queue_and_only_sagas_that_expire(raced: Finished) -> None:
    """A run takes its queues with it; its sagas go by themselves within an hour, and a lease is not kept for ever.

    Only the names of the classes stay.
    """
    check_ended_well(raced.run, APPLICANTS)
    left = {key: ttl for key, ttl in raced.left.items() if not key.endswith(b":index}:names")}
    sagas = {key: ttl for key, ttl in left.items() if b":leases:" not in key}
    assert sagas, "the sagas are there to be looked at"
    assert {key: ttl for key, ttl in sagas.items() if not 0 < ttl <= 3600} == {}
    assert all(ttl > 0 for ttl in left.values())


def test_credit_check_in_one_process_does_not_ask_for_forks(tmp_path: Path, valkey_url: str) -> None:
    """One worker has nobody to race with; that is no failure."""
    run = credit_check(tmp_path, "--applicants", "50", "--processes", "1", "--store", valkey_url)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("applicants=50 decided=50 lost=0 twice=0 contradictory=0 forks=0 ")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory:", "memory: is within one process"),
        ("carrier-pigeon://coop", "no store for 'carrier-pigeon' URLs"),
    ],
)
def test_credit_check_with_a_store_that_cannot_serve_says_so(tmp_path: Path, url: str, expected: str) -> None:
    """A wrong URL is one line on stderr and exit code 1, before any worker is started."""
    run = credit_check(tmp_path, "--applicants", "1", "--store", url)
    assert run.returncode == 1
    assert run.stdout == ""
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


def test_credit_check_interrupted_ends_its_workers(tmp_path: Path, valkey_url: str) -> None:
    """Ctrl-C ends the run, its workers with it, with the shell's code for that."""
    process = subprocess.Popen(
        command("--applicants", "20000", "--processes", "2", "--store", valkey_url),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("needs /proc to see the workers")
    servers.until(lambda: len(children.read_text().split()) == 2, "a start of two workers")
    workers = [int(pid) for pid in children.read_text().split()]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "stopped" in stderr
    assert "Traceback" not in stderr
    # One that was being started when the signal came ends by itself, when it sees that its parent is gone.
    servers.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the end of all workers")
