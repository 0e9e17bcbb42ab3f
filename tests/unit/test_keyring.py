"""Keyrings: what they take, whose keys a process uses, and that no key is ever shown."""

from __future__ import annotations

import base64
import hmac
import pickle
import sys

import pytest

from sagabus import Bus, Keyring, Signing
from sagabus.errors import ConfigurationError
from sagabus.secrecy.process_keys import ProcessKeys, process_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_keyring_from_text_has_its_first_key_as_the_current_one() -> None:
    """`ID:BASE64,...`, padded or not, with spaces between, in either alphabet."""
    keyring = Keyring.parse(f"new:{b64(NEW)}, old:{base64.urlsafe_b64encode(OLD).decode().rstrip('=')}")
    assert keyring == Keyring({"new": NEW, "old": OLD})
    assert (keyring.current, keyring.ids) == ("new", ("new", "old"))
    assert keyring != Keyring({"old": OLD, "new": NEW})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no key|needs a key|not written as"),
        ("S3CRET", "key 1 is not written as ID:BASE64"),
        (f"a:{b64(OLD)},S3CRET", "key 2 is not written as ID:BASE64"),
        ("a:S3CRET!", "key 'a' is no base64"),
        (f"a:{b64(b'S3CRET')}", "key 'a' has 6 bytes instead of 32"),
        (f"a b:{b64(OLD)}", "key id 'a b' is not"),
        (f"a:{b64(OLD)},a:{b64(NEW)}", "two keys are called 'a'"),
    ],
)
def test_keyring_that_is_none_is_refused_without_showing_a_key(text: str, problem: str) -> None:
    """The error says which key, what is wrong with it and how to make one; what was given stays out of it."""
    with pytest.raises(ConfigurationError, match=problem) as raised:
        Keyring.parse(text)
    assert "S3CRET" not in str(raised.value)
    assert b64(b"S3CRET") not in str(raised.value)


def test_keyring_in_the_environment_is_used_where_the_bus_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SAGABUS_KEYS`, unless the bus says otherwise; a mistake in it names the variable."""
    monkeypatch.setenv("SAGABUS_KEYS", f"env:{b64(OLD)}")
    with Bus(store="memory:", transport="memory:") as bus:
        assert bus.keyring == Keyring({"env": OLD}) == process_keys.keyring
    own = Keyring({"own": NEW})
    with Bus(store="memory:", transport="memory:", keyring=own) as bus:
        assert bus.keyring == own == process_keys.keyring
    monkeypatch.setenv("SAGABUS_KEYS", "nonsense")
    with pytest.raises(ConfigurationError, match="SAGABUS_KEYS: key 1"):
        Bus(store="memory:", transport="memory:")


def test_keyring_shows_its_ids_and_never_a_key() -> None:
    """Neither in repr, nor by pickling; nor does what holds it."""
    keyring = Keyring({"a": OLD})
    assert repr(keyring) == "<Keyring of a>"
    assert repr(OLD) not in repr(Signing(keyring=keyring))
    with pytest.raises(TypeError, match="in the clear"):
        pickle.dumps(keyring)


def test_generated_keys_differ() -> None:
    """Each is new; one cannot be told from its id."""
    assert Keyring.generate("a") != Keyring.generate("a")


def test_derived_keys_differ_by_purpose_and_key() -> None:
    """Who learns one learns nothing of another; the same purpose gives the same key, in every process."""
    keyring = Keyring({"new": NEW, "old": OLD})
    derived = [keyring.subkey(id_, purpose) for id_ in keyring.ids for purpose in ("encrypt/a", "encrypt/b", "nonce/a")]
    assert len(set(derived)) == 6
    assert keyring.subkey("old", "encrypt/a") == Keyring({"old": OLD}).subkey("old", "encrypt/a")
    assert keyring.subkey("missing", "encrypt/a") is None


def test_derived_key_is_that_of_rfc_5869() -> None:
    """HKDF-SHA256 without a salt; fixed for ever, or nothing written before could be read."""
    extracted = hmac.digest(bytes(32), OLD, "sha256")
    expected = hmac.digest(extracted, b"sagabus/1/encrypt/message a\x01", "sha256")
    assert Keyring({"old": OLD}).subkey("old", "encrypt/message a") == expected


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cryptography is not installed the error says what to install."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'sagabus\[crypto\]'"):
        Keyring({"a": OLD})


# -- the keys of a process ---------------------------------------------------------------------------------------


def test_buses_of_one_process_join_their_keys() -> None:
    """What any of them can read, all can; they encrypt with the key that both have first."""
    keys = ProcessKeys()
    first = keys.bring(Keyring({"new": NEW}))
    second = keys.bring(Keyring({"new": NEW, "old": OLD}))
    assert keys.keyring == Keyring({"new": NEW, "old": OLD})
    keys.release(second)
    assert keys.keyring == Keyring({"new": NEW})
    keys.release(first)
    keys.release(first)
    keys.release(None)
    assert keys.keyring is None


def test_buses_that_encrypt_with_different_keys_are_refused() -> None:
    """One state would be written in two ways; and an id that names two keys would hide what is wrong."""
    keys = ProcessKeys()
    keys.bring(Keyring({"new": NEW}))
    with pytest.raises(ConfigurationError, match="key 'old' and, for another bus, with key 'new'"):
        keys.bring(Keyring({"old": OLD, "new": NEW}))
    with pytest.raises(ConfigurationError, match="key 'new' is two different keys"):
        keys.bring(Keyring({"new": OLD}))
    assert keys.keyring == Keyring({"new": NEW})


def test_keys_for_tests_give_way_to_those_that_somebody_brings() -> None:
    """What falls back on a public key never does so beside a real one."""
    keys = ProcessKeys()
    keys.fall_back_on(Keyring({"tests": OLD}))
    assert keys.keyring == Keyring({"tests": OLD})
    keys.bring(Keyring({"new": NEW}))
    assert keys.keyring == Keyring({"new": NEW})
    with keys.only(None):
        assert keys.keyring is None
    assert keys.keyring == Keyring({"new": NEW})


def test_keyring_of_a_bus_that_was_refused_stays_out_of_the_process() -> None:
    """A bus whose options contradict each other leaves nothing behind."""
    before = process_keys.keyring
    with pytest.raises(ConfigurationError):
        Bus(store="memory:", transport="memory:", claim_s=-1, keyring=Keyring({"a": OLD}))
    assert process_keys.keyring is before
