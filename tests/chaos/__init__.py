"""The chaos laboratory: every fault of the fault table, made on real servers, and judged from outside.

    python -m tests.chaos                                     every row, seeds 1, 2, 3, at full size
    python -m tests.chaos --row 4 --seeds 7 --quick           one row, one seed, the fast version
    make chaos                                                every row, and docs/reliability.md is written
    make chaos ROW=11                                         one row; the results of the others stay in the table

A row is one module, `rows/rowNN_words.py`, with a `ROW` and a function that makes the fault:

    def run(arena: Arena) -> Verdict:
        server = arena.server(appendfsync="always")           # a private Valkey, data persist, gone afterwards
        load = arena.load(server.url, workers=2)              # worker processes, all at work; nothing is sent yet
        load.send(at_least=arena.size)                        # errands, in the background, until `finish`
        for _ in range(arena.faults):
            load.await_done(load.finished() + 5)              # some work between the faults
            server.kill()
            server.restart()
        verdict = load.finish()                               # sends no more, drains, stops the workers, judges
        return verdict.with_faults(server.starts - 1)         # how often it REALLY happened; 0 fails

    ROW = Row(9, fault="...", holds="...", run=run, errands=1000, faults=10, quick_errands=40, quick_faults=1)

- `lab/`: `Server` (start, stop, kill, restart, pause, resume, follow, promote), `Cluster` (move_slot, promote),
  `Proxy` (hold, release, lose_next_reply, cut, refuse, and counts of what really happened), `Rabbit`, `network()` (a
  cable between two namespaces, pulled), `small_disk()`. Enter one with `arena.use(...)`: it ends with the run.
- `load/`: `Settings` say what workers do, failpoints (`failpoint="after-commit", strikes=3`) and a `hook` that is run
  in every worker included; `Errand` is one saga and what it must come to; `Load` sends and knows what was accepted;
  `load.crew` has the processes: `at_work`, `kill`, `signal`, `codes`, `on_death`.
- `ledger.py`: the file that consumers in workers write their effects to. `judge.py`: baseline B, clause by clause.
- A row with more to show than the baseline adds it: `verdict.objecting("...")` fails it, and
  `with_faults(n, "a note")` tells the reader of the table.
- `arena.seed` is all randomness; `arena.size` and `arena.faults` are smaller in the fast version (`arena.quick`).
- What the machine does not permit raises `ExcusedError`; the table shows it. Nothing else excuses.
"""
