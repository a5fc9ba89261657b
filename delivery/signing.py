"""Signs a version in the format of OpenSSF Model Signing, with a private key, offline.

The signature is `model.sig` in the version's directory: a Sigstore bundle with a DSSE envelope around an in-toto
statement that has the SHA-256 of every other file. https://github.com/sigstore/model-transparency
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from delivery.errors import DeliveryError, DeliveryUsageError
from delivery.verification import PublicKey, missing_package, verify_version
from fashion_common.layout import SIGNATURE_FILE

PASSPHRASE_VARIABLE = "FASHION_SIGNING_PASSPHRASE"  # noqa: S105 - its name


class SigningKey(NamedTuple):
    """A private key on disk, which can be read, and its public half. passphrase: None for a key without."""

    path: Path
    passphrase: bytes | None
    public: PublicKey


def signing_key(path: Path) -> SigningKey:
    """The private key in a PEM file: ECDSA on P-256, P-384 or P-521. FASHION_SIGNING_PASSPHRASE opens it.

    Raises DeliveryUsageError for any other, and without the extra [signing].
    """
    try:
        # model-signing 1.1.1 imports OpenSSL, which it does not require.
        import OpenSSL  # noqa: F401
        from cryptography.hazmat.primitives import serialization
        from model_signing import signing  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None
    try:
        text = path.read_bytes()
        # A passphrase for a key that has none is an error of cryptography's.
        encrypted = b"ENCRYPTED" in text
        key = serialization.load_pem_private_key(text, passphrase if encrypted else None)
        public = PublicKey.of(str(path), key.public_key())
    except OSError as error:
        raise DeliveryUsageError(f"the key {path} cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise DeliveryUsageError(f"the key {path} has a passphrase: set {PASSPHRASE_VARIABLE}") from error
    except ValueError as error:
        fix = f"with the passphrase of {PASSPHRASE_VARIABLE}" if encrypted and passphrase else "as a private key in PEM"
        raise DeliveryUsageError(f"the key {path} cannot be read {fix}: {error}") from error
    return SigningKey(path, passphrase if encrypted else None, public)


def sign_version(version: Path, key: SigningKey) -> None:
    """Writes the signature of all files of a version; what is added afterwards is not covered.

    Raises DeliveryError when it cannot be written, or does not verify.
    """
    from model_signing import hashing, signing

    everything = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    config = signing.Config().use_elliptic_key_signer(private_key=key.path, password=key.passphrase)
    try:
        config.set_hashing_config(everything).sign(version, version / SIGNATURE_FILE)
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{version} cannot be signed: {error}") from error
    verify_version(version, [key.public])
