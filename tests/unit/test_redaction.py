"""Nothing that people or files get to see has a password in it, however it came there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.redaction import has_stray_credentials, names_a_secret, scrub


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:s3cret@host:1/2", "redis://***@host:1/2"),
        ("redis://:s3cret@host", "redis://***@host"),
        ("at rediss+cluster://u:s3cret@host, again", "at rediss+cluster://***@host, again"),
        ("amqps://u:s3cret@a/v;amqps://u:s3cret@b/v", "amqps://***@a/v;amqps://***@b/v"),
        ("sentinel://u:s3cret@a:1,sentinel://u:s3cret@b:2", "sentinel://***@a:1,sentinel://***@b:2"),
        ("redis+sentinel://u:s3cret@a:1,b:2/mine/0", "redis+sentinel://***@a:1,b:2/mine/0"),
        ("redis://u:s3/cr#et@host", "redis://***@host"),
        ("redis://u:p@s3cret@host", "redis://***@host"),
        ("amqp://u:s3cret@[::1]:5672//", "amqp://***@[::1]:5672//"),
        ("rediss://h?ssl_password=s3cret&db=1", "rediss://h?ssl_password=***&db=1"),
        ("unix:///run/r.sock?password=s3cret&db=0", "unix:///run/r.sock?password=***&db=0"),
        ("https://h/?token=s3cret", "https://h/?token=***"),
        ("{'host': 'h', 'password': 's3cret', 'db': 0}", "{'host': 'h', 'password': ***, 'db': 0}"),
        ('connect(password="s3 cret")', "connect(password=***)"),
        ("dsn host=h password=s3cret dbname=d", "dsn host=h password=*** dbname=d"),
        ("Command # 1 (AUTH user s3cret) of pipeline caused error", "Command # 1 (AUTH ***) of pipeline caused error"),
        ("Command # 1 (HELLO 3 AUTH u s3cret) failed", "Command # 1 (HELLO ***) failed"),
        ("aws_secret_access_key = s3cret", "aws_secret_access_key = ***"),
    ],
)
def test_text_with_a_credential_is_shown_without_it(text: str, shown: str) -> None:
    """The place that it was at can still be told, the credential cannot."""
    assert scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the store at redis://host:6379/0 does not answer",
        "unix:///run/valkey.sock",
        "see https://medium.com/@somebody/saga",
        "https://host:8080/?mail=a@b.example",
        "mail to a@b.example: it says 12:30",
        "NOAUTH Authentication required.",
        "token 7 of lease 'a' is superseded",
        "the password was wrong",
        "AUTH failed for somebody",
        "[::1]:6379 is not reachable",
    ],
)
def test_text_without_a_credential_stays_as_it_is(text: str) -> None:
    """Hosts, ports, paths and people's names are what a reader of logs needs."""
    assert scrub(text) == text


WORD = st.text("abcXYZ019%+-_.~!$*", min_size=6, max_size=20).map(lambda word: f"Qq{word}")
AWKWARD = st.text("abc:/?#[@]%&=!", min_size=1, max_size=12).map(lambda word: f"Qq{word}qQ")


@given(
    password=WORD,
    user=st.sampled_from(["", "u", "some.body"]),
    around=st.sampled_from(["{}", "({})", "x {}: y", "'{}'"]),
)
def test_password_in_a_url_never_survives(password: str, user: str, around: str) -> None:
    """Whatever stands around the URL."""
    url = f"rediss://{user}:{password}@h1.example:6379/3?ssl_password={password}"
    assert password not in scrub(around.format(url))


@given(password=AWKWARD)
def test_password_that_should_have_been_encoded_does_not_survive_either(password: str) -> None:
    """It is the commonest mistake, and the error that it leads to is what people paste into tickets."""
    shown = scrub(f"redis://u:{password}@host/0")
    assert "Qq" not in shown
    assert "qQ" not in shown


@given(text=st.text())
def test_text_that_was_scrubbed_stays_as_it_is(text: str) -> None:
    """A line may pass through several hands: scrubbing twice is scrubbing once."""
    assert scrub(scrub(text)) == scrub(text)


def test_field_names_of_secrets_are_known() -> None:
    """What is logged under such a name is not shown, whatever it is."""
    assert all(map(names_a_secret, ("password", "ssl_password", "db.password", "API_KEY", "client_secret", "pwd")))
    assert not any(map(names_a_secret, ("token", "key", "saga", "passing", "message_id", "secretary")))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p/w@host", True),
        ("redis://:p#w@host", True),
        ("redis://:p?w@host", True),
        ("redis://u:pw@host/0", False),
        ("redis://host:1/?client_name=a@b", False),
        ("redis://[::1]:1/?client_name=a@b", False),
        ("https://medium.com/@a", False),
    ],
)
def test_credentials_that_end_behind_the_host_are_noticed(url: str, expected: bool) -> None:
    """So that an error can say what to percent-encode, without showing any of it."""
    assert has_stray_credentials(url) is expected
