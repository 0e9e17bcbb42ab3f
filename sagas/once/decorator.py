"""Do something once for a key, though it is announced many times within a millisecond.

    imports = bus.endpoint("imports")

    @once(imports, key="path", name="import")
    def import_file(m: FilePublished, idempotency_key: str) -> None:
        importer.import_(m.path, idempotency_key=idempotency_key)

It is no saga: a serial one would forget its key after the retention, and could not do the work itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, ParamSpec, TypeVar

from sagabus import Endpoint
from sagabus.errors import DefinitionError
from sagas._functions import arguments_of_action, check_field, messages_of, subject_of_function, visible_names
from sagas.once.action import Once

P = ParamSpec("P")
R = TypeVar("R")

TAKEOVER_AFTER: Final = timedelta(hours=1)
_MAX_NAME: Final = 100


def once(
    endpoint: Endpoint,
    *messages: type,
    key: str | Callable[[Any], object],
    name: str,
    takeover_after: timedelta | None = TAKEOVER_AFTER,
) -> Callable[[Callable[P, R]], Once[P, R]]:
    """Make a function a consumer that acts once for a key, for ever: `def` or `async def`.

    It is called with the message, the idempotency key and, if it takes a third argument, the `Context`; what it says
    to that leaves when it is done. Whatever it calls should count by the idempotency key: the action begins once among
    any number of notifications, and is repeated only after a crash, a failure or a time-out, or where its own message
    was delivered twice at once; then with the same idempotency key. Other notifications are acknowledged at once.

    Args:
        endpoint: where notifications come to.
        messages: their classes; read from the annotation of the first argument where none is given.
        key: the field of the message that is its key, or a function of the message that returns it: a text, a whole
            number or a UUID.
        name: what keys are kept under. With another name everything is done again.
        takeover_after: how old an attempt must be for a later notification to take it over, by the store's clock: for
            keys whose own message ended as a dead letter. Longer than the action and all its retries take. None: never.

    Raises:
        DefinitionError: with the function and the mend.
    """
    _check(endpoint, key, name, takeover_after)
    names = visible_names(sys._getframe(1))

    def decorate(action: Callable[P, R]) -> Once[P, R]:
        subject = subject_of_function(action)
        count = arguments_of_action(action, subject)
        kinds = messages or messages_of(action, subject, names)
        if isinstance(key, str):
            for kind in kinds:
                check_field(kind, key, subject)
        if any(getattr(getattr(c.function, "once", None), "name", None) == name for c in endpoint.consumers):
            raise DefinitionError(
                subject,
                f"another action on endpoint {endpoint.name!r} is called {name!r}, and each would keep the other from "
                f"its keys",
                "Give it another name=",
            )
        key_of = (lambda m: getattr(m, key)) if isinstance(key, str) else key
        made = Once(action, name, key_of, takeover_after, wants_context=count == 3)
        endpoint.consumer(*kinds)(made.handler(inspect.iscoroutinefunction(action)))
        return made

    return decorate


# -- what is wrong with a definition -----------------------------------------------------------------------------


def _check(endpoint: Any, key: Any, name: Any, takeover_after: Any) -> None:
    """Refuse arguments that cannot work."""
    subject = f"once({name!r})"
    if not isinstance(endpoint, Endpoint):
        raise DefinitionError(
            subject,
            f"its first argument is {endpoint!r}, which is no endpoint",
            "Write @once(bus.endpoint('imports'), key=..., name=...)",
        )
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or "/" in name:
        raise DefinitionError(
            subject, "that is no name to keep keys under", f"Give a text of 1 to {_MAX_NAME} characters without /"
        )
    if not (callable(key) or (isinstance(key, str) and key)):
        raise DefinitionError(
            subject,
            f"key={key!r} is neither a field nor a function",
            "Write key='path', or key=lambda m: m.path.lower()",
        )
    is_time = isinstance(takeover_after, timedelta) and takeover_after > timedelta(0)
    if takeover_after is not None and not is_time:
        raise DefinitionError(
            subject,
            f"takeover_after={takeover_after!r} is no time to wait",
            "Write a timedelta over zero, or None for never",
        )
