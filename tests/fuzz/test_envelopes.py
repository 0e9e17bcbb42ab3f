"""Envelopes off the wire: any bytes are an envelope or a CodecError; attributes are fit for keys and log lines."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples.credit_check.messages import CheckCredit, ScoreReported
from sagabus.envelope import Envelope, Incoming, admit, check_saga_id, decode, encode, wrap
from sagabus.errors import CodecError

REASONS = {"undecodable", "too-large", "too-deep"}
VALID: dict[str, Any] = {
    "specversion": "1.0", "id": "m-1", "source": "/equifax", "type": "credit.score-reported",
    "data": {"bureau": "equifax", "score": 710}, "saga": "CreditCheck/42", "sagalife": 1, "replyto": "credit",
}  # fmt: skip
ATTRIBUTES = sorted({*Envelope.__struct_fields__, "unknown"})
ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.sampled_from(
        ["", "\x00", "a\nb", "\x1b[2J", "{tag}", "x" * 201, "-1", "9" * 30, "/", "a/b/c", "\u202e", "\ud800"]
    )
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


def fields(changes: dict[str, Any]) -> bytes:
    return json.dumps(VALID | changes).encode()


def check_documented(error: CodecError, *reasons: str) -> None:
    """Make sure that *error* says what it may say, and no more than a reader of logs can bear."""
    assert error.reason in (*REASONS, *reasons)
    assert len(str(error)) < 1000


def is_fit(text: str, longest: int) -> bool:
    return len(text) <= longest and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


@given(changes=st.dictionaries(st.sampled_from(ATTRIBUTES), ODD, max_size=4))
@example(changes={"attempt": -1})
@example(changes={"attempt": 2**53 + 1})
@example(changes={"time": "yesterday"})
@example(changes={"datacontenttype": "application/xml"})
def test_odd_attributes_are_fit_or_refused(changes: dict[str, Any]) -> None:
    """What is admitted has attributes that may stand in keys, headers and log lines; all else is a CodecError."""
    try:
        envelope = admit(fields(changes))
    except CodecError as refused:
        check_documented(refused)
        return
    names = (envelope.id, envelope.type, envelope.replyto, envelope.timer, envelope.correlationid)
    assert all(is_fit(name, 200) for name in names)
    assert envelope.id
    assert envelope.type
    assert 1 <= envelope.attempt <= 2**53
    assert all(is_fit(part, 200) for name in (envelope.saga, envelope.replysaga) for part in name.split("/", 1))
    assert admit(encode(envelope)) == envelope


@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_a_codec_error(data: bytes) -> None:
    """Nothing else comes out of it, strict or not."""
    for read in (admit, decode):
        with pytest.raises(CodecError):
            read(data)


@given(cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 40), st.binary(max_size=8)), max_size=4))
def test_damaged_envelope_is_read_or_refused(cuts: list[tuple[int, int, bytes]]) -> None:
    """Bytes that were cut out, overwritten or put in make another envelope or a CodecError; so with its body."""
    data = encode(wrap(ScoreReported("equifax", 710), id="m", source="/equifax", now_ms=1, saga="CreditCheck/4"))
    for start, length, new in cuts:
        data = data[:start] + new + data[start + length :]
    try:
        Incoming(admit(data)).message  # noqa: B018
    except CodecError as refused:
        check_documented(refused, "unknown-type", "unknown-version")


@pytest.mark.parametrize(
    "attributes",
    [{"id": "a\nb"}, {"id": "x" * 201}, {"id": "m", "replyto": "\x1b"}, {"id": "m", "saga": "S/" + "x" * 201}],
)
def test_sender_of_what_nobody_would_admit_is_told(attributes: dict[str, str]) -> None:
    """What receivers refuse fails where it is sent, not on the other side."""
    with pytest.raises(CodecError, match="attribute"):
        wrap(CheckCredit("42"), source="/client", now_ms=1, **attributes)


@given(text=st.text())
def test_saga_id_from_a_body_is_fit_for_a_header_or_refused(text: str) -> None:
    """A saga names itself in what it sends: an id that no header takes would leave it without answers."""
    try:
        id_ = check_saga_id(text, "the key")
    except CodecError:
        return
    admit(encode(wrap(CheckCredit(""), id="m", source="/s", now_ms=1, replysaga=f"CreditCheck/{id_}")))
    assert id_ == text


@pytest.mark.parametrize("size", [1_048_577, 3_000_000])
def test_envelope_over_the_limit_is_refused_before_it_is_looked_at(size: int) -> None:
    """Its length is all that is looked at."""
    with pytest.raises(CodecError) as refused:
        admit(b"[" * size)
    assert refused.value.reason == "too-large"


def test_extension_attributes_are_passed_over() -> None:
    """CloudEvents lets senders add attributes; they do no harm and change nothing."""
    assert admit(fields({"tenant": "x", "comexampleextension1": {"deep": [1]}})) == admit(fields({}))
