"""Key pairs for signatures, and versions of a few files that are signed with them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from delivery.signing import sign_version, signing_key
from fashion_common.layout import MANIFEST_FILE, SAVED_MODEL_FILE


class KeyPair(NamedTuple):
    """The PEM files of a private key and of its public one."""

    private: Path
    public: Path

    def sign(self, version: Path) -> None:
        """Signs a version."""
        sign_version(version, signing_key(self.private))


def key_pair(directory: Path, name: str, curve: ec.EllipticCurve | None = None, passphrase: bytes = b"") -> KeyPair:
    """A new pair; the private key is encrypted with a passphrase, if any. curve: P-256 by default."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    pair = KeyPair(directory / f"{name}.pem", directory / f"{name}.pub")
    pair.private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
        )
    )
    pair.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pair


def write_version(version: Path, files: dict[str, bytes] | None = None) -> Path:
    """A version's directory of some files that no runtime reads; gives the directory."""
    default = {SAVED_MODEL_FILE: b"graph", "variables/variables.index": b"index", MANIFEST_FILE: b'{"files": {}}'}
    for name, content in (files or default).items():
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).write_bytes(content)
    return version
