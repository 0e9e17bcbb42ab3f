"""What is refused before anything is decoded: depth, double names, long numbers, what is no text."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.errors import CodecError
from sagabus.wire_json import MAX_INT, MIN_INT, check, depth

LEAVES = st.none() | st.booleans() | st.integers(MIN_INT, MAX_INT) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["a", ":", '"', "\\", '":', "["]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES | NAMES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


def true_depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(true_depth, inner), default=0)


@given(value=VALUES, spaced=st.booleans(), ascii_only=st.booleans())
def test_json_that_any_writer_writes_is_let_through(value: Any, spaced: bool, ascii_only: bool) -> None:
    """What a JSON library writes is never refused, and its depth is what a reader finds."""
    written = json.dumps(value, indent=2 if spaced else None, ensure_ascii=ascii_only).encode()
    check(written)
    assert depth(written) == true_depth(value)


@given(data=st.binary(max_size=60) | st.text('{}[]":,\\ 019ae\n', max_size=60).map(str.encode))
def test_any_bytes_pass_or_raise_a_codec_error(data: bytes) -> None:
    """Nothing but a CodecError ever comes out, and what a reader could take passes."""
    try:
        check(data)
    except CodecError as refused:
        reason = refused.reason
        assert reason in ("undecodable", "too-deep")


@given(value=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), where=st.integers(0, 2), how=st.data())
def test_object_with_a_member_twice_is_refused(value: dict[str, Any], where: int, how: st.DataObject) -> None:
    """Readers differ in which of two members of one name they take, so neither is; however the name is written."""
    name = how.draw(st.sampled_from(sorted(value)))
    as_escapes = '"' + "".join(f"\\u{unit:04x}" for unit in _units(name)) + '"'
    again = how.draw(st.sampled_from([json.dumps(name), json.dumps(name, ensure_ascii=False), as_escapes]))
    text = json.dumps(value)[:-1] + f", {again} : 1}}"
    for _ in range(where):
        text = f'[{{"x": {text}}}]'
    with pytest.raises(CodecError, match="two members"):
        check(text.encode())


def _units(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


@pytest.mark.parametrize("number", [MAX_INT + 1, MIN_INT - 1, 10**400, -(10**30)])
def test_integer_beyond_64_bits_is_refused(number: int) -> None:
    """A state could not hold it, so its saga would fail each time."""
    with pytest.raises(CodecError, match="64 bits"):
        check(b'{"n": [%d]}' % number)


@pytest.mark.parametrize(
    "text", [str(MAX_INT), str(MIN_INT), "0.12345678901234567890123", '"123456789012345678901234567890"', "1e300"]
)
def test_long_number_that_fits_is_let_through(text: str) -> None:
    """Many digits are no fault where they are text, a fraction, or fit."""
    check(f'{{"n": {text}}}'.encode())


def test_nesting_is_counted_outside_of_strings_only() -> None:
    """Brackets in strings nest nothing, and neither do those after a quote that is escaped."""
    check(json.dumps({"text": "[" * 500 + '\\"[' * 500}).encode())
    with pytest.raises(CodecError) as refused:
        check(b'"\\"' + b"[" * 65 + b'"' + b"[" * 65)
    assert refused.value.reason == "too-deep"


HUGE = 1_000_000
HEAVY = {
    "open brackets": b"[" * HUGE,
    "flat brackets": b"[]," * (HUGE // 3),
    "escaped quotes that never end": b'"' + b'\\"' * (HUGE // 2),
    "quotes": b'"' * HUGE,
    "digits": b"1" * HUGE,
    "names": b"{" + b",".join(b'"%d":1' % i for i in range(HUGE // 10)) + b"}",
    "names, the last of them twice": b"{" + b",".join(b'"%d":1' % i for i in range(HUGE // 10)) + b',"0":1}',
    "spaces behind a quote": b'"a"' + b" " * HUGE,
    "backslashes": b"\\" * HUGE,
}


@pytest.mark.parametrize("case", HEAVY)
def test_bytes_made_to_be_slow_are_looked_at_in_linear_time(case: str) -> None:
    """A megabyte costs a fraction of a second, whatever is in it; quadratic work would take minutes."""
    began = time.process_time()
    with contextlib.suppress(CodecError):
        check(HEAVY[case])
    assert time.process_time() - began < 10
