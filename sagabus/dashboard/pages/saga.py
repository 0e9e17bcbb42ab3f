"""One saga: its versions, the way there, what it waits for, what a merge takes and leaves; and a test of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sagabus.codec import shown_state
from sagabus.commit import HistoryEntry
from sagabus.dashboard.live import Live
from sagabus.dashboard.site import Site, prompted, told
from sagabus.dashboard.version_graph import version_graph
from sagabus.definition import SagaDefinition
from sagabus.envelope import SagaKey
from sagabus.errors import ConfigurationError, VersionNotFoundError
from sagabus.observe.as_test import as_test
from sagabus.observe.asked import asked
from sagabus.observe.changes import changes
from sagabus.observe.graph import short_names
from sagabus.observe.merge_view import view_merge, view_siblings
from sagabus.observe.record import Look, look
from sagabus.observe.states import PastStates, kept_parents, past_states
from sagabus.observe.traffic import body_of, traffic
from sagabus.observe.waits_for import compared, gather
from sagabus.observe.what_if import what_if
from sagabus.operations.cancel import cancel
from sagabus.operations.merge import request_merge
from sagabus.printable import pictured

_LETTERS: Final = 20


def routes(site: Site, live: Live) -> list[BaseRoute]:
    """Return where these pages are."""

    def show(request: Request) -> Response:
        key, at = _key(request), request.query_params.get("at", "")
        return site.page("Sagas", "saga.html", commit=_shown(site, key, at) if at else "", **_saga(site, key))

    def commit(request: Request) -> Response:
        return site.fragment("saga_commit.html", **_commit(site, _key(request), request.query_params.get("at", "")))

    def merge_view(request: Request) -> Response:
        key = _key(request)
        definition, seen = _definition(site, key), _look(site, key)
        dot = request.query_params.get("at")
        if dot:
            states = _past(definition, seen)
            view = view_merge(definition, states, states.named(dot))
        else:
            view = view_siblings(definition, seen.snapshot, seen.recorded)
        return site.fragment("saga_merge.html", view=view, names=short_names(seen.recorded.history))

    def try_merge(request: Request) -> Response:
        key = _key(request)
        seen = _look(site, key)
        tried = what_if(_definition(site, key), seen.snapshot)
        return site.fragment("saga_what_if.html", tried=tried, names=short_names(seen.recorded.history))

    def test(request: Request) -> Response:
        key = _key(request)
        text = as_test(_definition(site, key), _look(site, key, whole=True).recorded)
        return site.fragment("saga_test.html", text=text)

    def act(request: Request) -> Response:
        refused = site.refusal()
        if refused is not None:
            return refused
        key, by = _key(request), site.actor(request)
        if request.url.path.endswith("/merge"):
            request_merge(site.bus, key, by=by)
            return told(Response(""), f"{key}: its MergeSagaState was sent again; reload in a moment")
        cancel(site.bus, key, why=prompted(request), by=by)
        return told(Response(""), f"{key} was cancelled")

    return [
        Route("/saga", show),
        Route("/saga/commit", commit),
        Route("/saga/merge-view", merge_view),
        Route("/saga/what-if", try_merge),
        Route("/saga/test", test),
        Route("/saga/merge", act, methods=["POST"]),
        Route("/saga/cancel", act, methods=["POST"]),
    ]


# -- what is looked up -------------------------------------------------------------------------------------------


def _key(request: Request) -> SagaKey:
    return SagaKey.parse(request.query_params.get("key", ""))


def _name_of(entry: HistoryEntry) -> str:
    """Return what tells a commit from the others, also when older ones have been trimmed meanwhile."""
    if entry.dot is not None:
        return str(entry.dot)
    return f"{entry.life}/{entry.at_ms}/{entry.messages[0].id if entry.messages else ''}"


def _definition(site: Site, key: SagaKey) -> SagaDefinition:
    definition = site.bus.saga(key.name)
    if definition is None:
        raise ConfigurationError(
            f"{site.app} has no saga {key.name!r}, so its code cannot be run; open the dashboard of the app that has it"
        )
    return definition


def _look(site: Site, key: SagaKey, *, whole: bool = False) -> Look:
    # Of a saga that is written all the time, people would rather see what was read last than nothing.
    return look(site.bus.store, key, site.app, whole=whole)


def _past(definition: SagaDefinition, seen: Look) -> PastStates:
    return past_states(definition, seen.recorded, kept_parents(seen.snapshot, seen.recorded.history))


# -- the page ----------------------------------------------------------------------------------------------------


def _saga(site: Site, key: SagaKey) -> dict[str, Any]:
    definition, seen = site.bus.saga(key.name), _look(site, key)
    history, snapshot = seen.recorded.history, seen.snapshot
    comparison, graph = compared(definition, seen), version_graph(history)
    states = {version.dot: shown_state(version.state) for version in snapshot.versions}
    differs = _unlike(list(states.values()))
    names = short_names(history)
    writers = {entry.dot: entry for entry in history if entry.dot is not None}
    return {
        "key": str(key),
        "snapshot": snapshot,
        "known": definition is not None,
        "graph": graph,
        "commits": [_name_of(node.entry) if node.entry else "" for node in graph.nodes],
        "versions": [
            {
                "name": names.get(version.dot, str(version.dot)),
                "dot": version.dot,
                "state": states[version.dot],
                "writer": writers.get(version.dot),
            }
            for version in snapshot.versions
        ],
        "differs": differs,
        "waits": gather(site.bus.store, definition, seen, endpoints=site.bus.endpoints, comparison=comparison),
        "traffic": traffic(comparison),
        "names": names,
        "letters": list(islice(site.bus.dead_letters.find(saga=str(key)), _LETTERS)),
        "link": urlencode({"key": str(key)}),
    }


def _unlike(states: Sequence[Any]) -> set[str]:
    """Return the places where not all *states* are alike: those where any differs from the first."""
    return {change.place for state in states[1:] for change in changes(states[0], state)}


def _shown(site: Site, key: SagaKey, at: str) -> Markup:
    """Return one commit of the page, also where it has been trimmed since its address was kept."""
    try:
        return Markup(site.render("saga_commit.html", **_commit(site, key, at)))
    except VersionNotFoundError as error:
        return Markup('<p class="note">{}</p>').format(pictured(str(error)))


# -- one commit --------------------------------------------------------------------------------------------------


def _commit(site: Site, key: SagaKey, name: str) -> dict[str, Any]:
    definition, seen = site.bus.saga(key.name), _look(site, key)
    history = seen.recorded.history
    entry = next((entry for entry in history if _name_of(entry) == name), None)
    if entry is None:
        raise VersionNotFoundError(str(key), name, list(short_names(history).values()))
    found: dict[str, Any] = {
        "entry": entry,
        "names": short_names(history),
        "messages": [(message, body_of(message)) for message in entry.messages],
        "state": None,
        "parents": (),
        "facts": (),
        "decision": (),
        "link": urlencode({"key": str(key)}),
        "unknown": "" if definition else f"{site.app} has no saga {key.name}, so past states cannot be made again",
    }
    if definition is None or entry.dot is None:
        return found
    states = _past(definition, seen)
    if entry.dot not in states.states:
        return found
    past = states.at(entry.dot)
    found["state"] = past
    found["parents"] = [(parent, states.changed(parent.dot, entry.dot)) for parent in states.parents(entry.dot)]
    rerun = states.reruns.get(entry.dot)
    if rerun is not None:
        found["facts"], found["decision"] = asked(rerun.commit.facts), asked(rerun.commit.decision)
    return found
