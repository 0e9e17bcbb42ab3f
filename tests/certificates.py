"""Certificates for tests: authorities, servers and clients, good ones and bad ones, made with openssl in a folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from tests.servers import missing

_LONG_AGO = "20200101000000Z"
_LONG_AFTER = "20991231000000Z"


@frozen
class Certificate:
    """A certificate and its private key, as files."""

    cert: Path
    key: Path


@frozen
class Authority:
    """Signs certificates; its own is what the other side is told to trust.

    Attributes:
        folder: where everything that it signs lies.
    """

    folder: Path

    @property
    def cert(self) -> Path:
        return self.folder / "ca.crt"

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Make an authority in *folder*, which it makes too."""
        if shutil.which("openssl") is None:
            missing("there is no openssl on PATH")
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01")
        (folder / "ca.cnf").write_text(_CONFIG)
        _openssl(
            folder,
            "req",
            "-x509",
            "-subj",
            "/CN=sagabus test CA",
            "-days",
            "2",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            *_KEY,
        )
        return cls(folder)

    def sign(self, name: str, *, names: str = "DNS:localhost,IP:127.0.0.1", until: str = _LONG_AFTER) -> Certificate:
        """Return a certificate called *name*.

        Args:
            names: what it stands for, as a subjectAltName.
            until: when it ends, YYYYMMDDHHMMSSZ.
        """
        _openssl(
            self.folder, "req", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-new", *_KEY
        )
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        _openssl(
            self.folder, "ca", "-config", "ca.cnf", "-batch", "-notext", "-in", f"{name}.csr", "-out", f"{name}.crt",
            "-startdate", _LONG_AGO, "-enddate", until, "-extfile", f"{name}.ext",
        )  # fmt: skip
        return Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def expired(self, name: str) -> Certificate:
        """Return a certificate that ended years ago."""
        return self.sign(name, until="20210101000000Z")


_KEY = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_CONFIG = """\
[ca]
default_ca = here
[here]
dir = .
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
