"""Dead letters in Redis or Valkey: bodies, and small heads that `letters_find.lua` searches; all on one slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from sagabus.dead_letters.audit import KEPT, AuditLine, decode_line, encode_line
from sagabus.dead_letters.groups import HEAD_ERROR, LetterHead
from sagabus.dead_letters.letter import DeadLetter
from sagabus.dead_letters.part import Count, Page, Place, Removal, every_letter
from sagabus.dead_letters.sought import Sought
from sagabus.link import Command, Link, Script
from sagabus.store.chunks import chunks
from sagabus.store.layout import Keys

_FIND: Final = Script.beside("sagabus.store", "letters_find.lua")
_MARK: Final = Script.beside("sagabus.store", "letters_mark.lua")
_REMOVE: Final = Script.beside("sagabus.store", "letters_remove.lua")
_EXPIRE: Final = Script.beside("sagabus.store", "letters_expire.lua", lasting=False)
_LOOKED_AT: Final = 1000
"""How many heads one call of the script looks at: about ten milliseconds of the server's time, at most."""
_ITEMS_A_COMMAND: Final = 500
_PAGE: Final = 100
_ANY: Final = Sought()

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(DeadLetter)
_head_decoder: Final = msgspec.msgpack.Decoder(tuple[str, str, str, str, str, str, int])


class RedisLetters:
    """Keeps dead letters in Redis or Valkey. See `LetterStore`."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys

    def burying(self, letters: Sequence[DeadLetter]) -> list[Command]:
        """Return the commands that put *letters* on record; what was marked under their names is so no more."""
        keys, commands = self._keys, []
        for part in chunks(letters, _ITEMS_A_COMMAND):
            bodies: list[Any] = []
            heads: list[Any] = []
            whens: list[Any] = []
            for letter in part:
                bodies += (letter.name, _encoder.encode(letter))
                heads += (letter.name, _encoder.encode(_head(letter)))
                whens += (letter.at_ms, letter.name)
            names = heads[::2]
            commands += [
                Command(("HSET", keys.dead_bodies, *bodies), keys.dead_bodies),
                Command(("HSET", keys.dead_heads, *heads), keys.dead_heads),
                Command(("HDEL", keys.dead_marks, *names), keys.dead_marks),
                Command(("ZADD", keys.dead, *whens), keys.dead),
            ]
        return commands

    def get(self, endpoint: str, id: str) -> DeadLetter | None:
        (letter,) = self._letters([f"{endpoint}/{id}".encode()])
        return letter

    def given_up(self, endpoint: str, id: str) -> bool:
        name, keys = f"{endpoint}/{id}", self._keys
        there, marked = self._link.round(
            [
                Command(("ZSCORE", keys.dead, name), keys.dead),
                Command(("HEXISTS", keys.dead_marks, name), keys.dead_marks),
            ]
        )
        given_up = there is not None and not marked
        if given_up:
            # What another worker has put there, and waited in vain for replicas to have, is a reason to ack.
            self._link.cover([keys.dead])
        return given_up

    def page(self, sought: Sought, *, after: Place | None = None, limit: int = _PAGE) -> Page:
        names, _, place = self._look(sought, after, limit)
        letters = self._letters(names)
        return Page(tuple(letter for letter in letters if letter is not None and sought.matches(letter)), place)

    def find(self, sought: Sought = _ANY) -> Iterator[DeadLetter]:
        return every_letter(lambda place: self.page(sought, after=place))

    def count(self, sought: Sought = _ANY) -> Count:
        reasons: dict[str, int] = {}
        place: Place | None = None
        while True:
            names, found, place = self._look(sought, place, _LOOKED_AT)
            # What an older version wrote has no head, and an error may be longer than its head says: look into those.
            unsure = names if sought.text else [name for name, reason in zip(names, found, strict=True) if not reason]
            sure = [] if sought.text else [reason for reason in found if reason]
            for part in chunks(unsure, _ITEMS_A_COMMAND):
                letters = self._letters(part)
                sure += [letter.reason for letter in letters if letter is not None and sought.matches(letter)]
            for reason in sure:
                reasons[reason] = reasons.get(reason, 0) + 1
            if place is None:
                return Count(reasons)

    def _look(self, sought: Sought, after: Place | None, limit: int) -> tuple[list[bytes], list[str], Place | None]:
        """Return names that may match, what their heads say is the reason, and where to go on."""
        keys = self._keys
        args = (
            *(after or ("", "")),
            "" if sought.since_ms is None else sought.since_ms,
            "" if sought.until_ms is None else sought.until_ms,
            limit,
            _LOOKED_AT,
            sought.endpoint,
            sought.type,
            sought.reason,
            sought.saga,
            sought.id,
            sought.text.encode().lower(),
        )
        ((at_ms, last, names, reasons),) = self._link.round([_FIND.call((keys.dead, keys.dead_heads), args)])
        place = Place(int(at_ms), last.decode()) if last else None
        return names, [reason.decode() for reason in reasons], place

    def _letters(self, names: Sequence[bytes]) -> list[DeadLetter | None]:
        """Return the letters called *names*, in order; None for one that is not there, a stand-in for a damaged one."""
        if not names:
            return []
        bodies, whens = self._keys.dead_bodies, self._keys.dead
        (found,) = self._link.round([Command(("HMGET", bodies, *names), bodies)])
        letters: list[DeadLetter | None] = []
        for name, body in zip(names, found, strict=True):
            letter, damage = _read(name, body)
            if damage:
                (at_ms,) = self._link.round([Command(("ZSCORE", whens, name), whens)])
                letter = None if at_ms is None else _stand_in(name, body or b"", damage, round(float(at_ms)))
            letters.append(letter)
        return letters

    def total(self) -> int:
        (number,) = self._link.round([Command(("ZCARD", self._keys.dead), self._keys.dead)])
        return int(number)

    def heads(self, limit: int = 10_000) -> list[LetterHead]:
        heads, whens = self._keys.dead_heads, self._keys.dead
        (found,) = self._link.round([Command(("ZRANGE", whens, 0, limit - 1, "REV", "WITHSCORES"), whens)])
        at_ms = {found[i]: round(float(found[i + 1])) for i in range(0, len(found), 2)}
        parts = list(chunks(list(at_ms), _ITEMS_A_COMMAND))
        replies = self._link.round([Command(("HMGET", heads, *names), heads) for names in parts]) if parts else []
        known = dict(zip(at_ms, chain.from_iterable(replies), strict=True))
        # What an older version wrote has no head, and one may be damaged: look into those.
        unread = [name for name, head in known.items() if _read_head(head, 0) is None]
        letters = {name: letter for part in chunks(unread, _ITEMS_A_COMMAND) for name, letter in self._named(part)}
        result = []
        for name, head in known.items():
            read = LetterHead.of(letters[name]) if name in letters else _read_head(head, at_ms[name])
            if read is not None:
                result.append(read)
        return result

    def _named(self, names: Sequence[bytes]) -> list[tuple[bytes, DeadLetter]]:
        found = zip(names, self._letters(names), strict=True)
        return [(name, letter) for name, letter in found if letter is not None]

    def mark_resent(self, letters: Sequence[DeadLetter], token: str) -> list[bool]:
        keys, there = self._keys, []
        for part in chunks(letters, _ITEMS_A_COMMAND):
            args = chain.from_iterable((letter.name, letter.at_ms) for letter in part)
            (reply,) = self._link.round([_MARK.call((keys.dead, keys.dead_marks), (token, *args))])
            there += [bool(answer) for answer in reply]
        return there

    def resent(self, letters: Sequence[DeadLetter]) -> list[str]:
        marks, found = self._keys.dead_marks, []
        for part in chunks(letters, _ITEMS_A_COMMAND):
            names = [letter.name for letter in part]
            found += self._link.round([Command(("HMGET", marks, *names), marks)])[0]
        return [(token or b"").decode() for token in found]

    def remove(self, removals: Sequence[Removal]) -> list[bool]:
        went: list[bool] = []
        for part in chunks(removals, _ITEMS_A_COMMAND):
            args = chain.from_iterable(
                (removal.letter.name, removal.letter.at_ms, removal.resent, encode_line(removal.line))
                for removal in part
            )
            (reply,) = self._link.round([_REMOVE.call(self._keys.letter_keys(), (KEPT, *args))])
            went += [bool(answer) for answer in reply]
        return went

    def note(self, line: AuditLine) -> None:
        # Of a letter that is not there, so that nothing but the line is written; it goes as one that was sent again.
        nobody = DeadLetter(line.id, "", "", "", "", 0, -2, b"")
        self.remove([Removal(nobody, line, resent="-")])

    def audit(self, id: str = "", limit: int = 1000) -> list[AuditLine]:
        return read_trail(self._link, self._keys.dead_audit, id, limit)

    def expire(self, retention_ms: int, limit: int = 1000) -> int:
        (gone,) = self._link.round([_EXPIRE.call(self._keys.letter_keys(), (retention_ms, limit))])
        return int(gone)


def read_trail(link: Link, trail: str, id_: str, limit: int) -> list[AuditLine]:
    """Return the newest *limit* lines of the audit trail in the key *trail*, of messages whose id begins with *id_*."""
    lines: list[AuditLine] = []
    start = 0
    while len(lines) < limit:
        args = ("ZRANGE", trail, start, start + _ITEMS_A_COMMAND - 1, "REV", "WITHSCORES")
        (found,) = link.round([Command(args, trail)])
        read = [decode_line(found[i], int(float(found[i + 1]))) for i in range(0, len(found), 2)]
        lines += [line for line in read if line.id.startswith(id_)]
        if len(read) < _ITEMS_A_COMMAND:
            break
        start += _ITEMS_A_COMMAND
    return lines[:limit]


def _read(name: bytes, body: bytes | None) -> tuple[DeadLetter | None, str]:
    """Return the letter that is stored as *body*, and what is wrong with it, if anything is."""
    try:
        letter = None if body is None else _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
    if letter is None:
        return None, "it is missing"
    return letter, "" if letter.name.encode() == name else "another name stands in it"


def _stand_in(name: bytes, body: bytes, damage: str, at_ms: int) -> DeadLetter:
    """Return what is shown in place of a letter that cannot be read; it can be dropped as any other."""
    endpoint, _, id_ = name.decode(errors="backslashreplace").partition("/")
    error = f"this dead letter is damaged in the store ({damage}); restore it from a backup, or drop it"
    return DeadLetter(id_, endpoint, "corrupt", error, "", 0, at_ms, body)


def _head(letter: DeadLetter) -> tuple[str, str, str, str, str, str, int]:
    # A search for text looks into letters whose error is longer.
    whole = len(letter.error) <= HEAD_ERROR
    error = letter.error[:HEAD_ERROR]
    return letter.endpoint, letter.id, letter.type, letter.reason, letter.saga, error, int(whole)


def _read_head(head: bytes | None, at_ms: int) -> LetterHead | None:
    try:
        endpoint, id_, type_, reason, saga, error, _ = _head_decoder.decode(head or b"")
    except (msgspec.MsgspecError, ValueError):
        return None
    return LetterHead(endpoint, id_, type_, reason, saga, error, at_ms)
