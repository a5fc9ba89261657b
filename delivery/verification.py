"""Whether a version is what a trusted key signed, in the format of OpenSSF Model Signing.

Only `cryptography` is needed: `model_signing` would import TUF, HTTP clients and clouds' libraries, which key mode does
not use, reads ignored files' names from the signature, and hashes files itself. Specifications: the envelope,
https://github.com/secure-systems-lab/dsse; the bundle, https://docs.sigstore.dev/about/bundle; the statement,
https://github.com/in-toto/attestation; its predicate, https://github.com/sigstore/model-transparency.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from delivery.address import printable
from delivery.errors import DeliveryUsageError, SignatureError
from fashion_common.files import sha256
from fashion_common.installation import install_command
from fashion_common.layout import SIGNATURE_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

# The curves of the format, and the digest that is signed with each.
_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_MAX_BYTES = 16 * 2**20
_MAX_SIGNATURES = 16
_MAX_DIRECTORIES = 10_000
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_FIX = "copy the version again"


class PublicKey(NamedTuple):
    """A public key, and the file that it comes from."""

    name: str
    key: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, name: str, key: object) -> PublicKey:
        """A key of ECDSA on P-256, P-384 or P-521. Raises ValueError for any other."""
        from cryptography.hazmat.primitives.asymmetric import ec

        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
            raise ValueError("it is no ECDSA key on P-256, P-384 or P-521")
        return cls(name, key)

    def has_signed(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature of these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        digest = getattr(hashes, _CURVES[self.key.curve.name])()
        try:
            self.key.verify(signature, message, ec.ECDSA(digest))
        except InvalidSignature:
            return False
        return True


class Verified(NamedTuple):
    """What was found. key: the file of the key that signed. files: how many are signed."""

    key: str
    files: int


def public_keys(paths: Sequence[Path]) -> tuple[PublicKey, ...]:
    """The public keys in PEM files. Raises DeliveryUsageError for a file that holds none, and without cryptography."""
    try:
        from cryptography.hazmat.primitives import serialization
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    keys = []
    for path in paths:
        try:
            keys.append(PublicKey.of(str(path), serialization.load_pem_public_key(path.read_bytes())))
        except OSError as error:
            raise DeliveryUsageError(f"the public key {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise DeliveryUsageError(
                f"{path} holds no public key in PEM ({reason}): `openssl ec -in KEY -pubout -out {path}` writes it"
            ) from error
    return tuple(keys)


def verify_version(version: Path, keys: Sequence[PublicKey]) -> Verified:
    """Holds every file of a version to its signature, and the signature to the keys.

    Raises SignatureError for one that is missing or holds for no key, and for a file that is missing, differs, is not
    signed, or is a link or no regular file: what the signature says of ignored files does not count.
    """
    try:
        files = [name for name, _ in _files(version)]
        if SIGNATURE_FILE not in files:
            raise SignatureError(f"the version is not signed: it has no {SIGNATURE_FILE}")
        with (version / SIGNATURE_FILE).open("rb") as file:
            key, digests = signed_digests(file.read(_MAX_BYTES), keys)
        files.remove(SIGNATURE_FILE)
        if missing := min(digests.keys() - set(files), default=None):
            raise SignatureError(f"{printable(missing)}, which was signed, is missing: {_FIX}")
        if added := min(set(files) - digests.keys(), default=None):
            raise SignatureError(f"{printable(added)} was not signed: remove it, or {_FIX}")
        for name, digest in digests.items():
            if sha256(version / name) != digest:
                raise SignatureError(f"{printable(name)} is not the file that was signed (SHA-256 differs): {_FIX}")
    except OSError as error:
        name = Path(error.filename or "").name
        raise SignatureError(f"{printable(name)} cannot be read: {error.strerror}") from error
    return Verified(key, len(digests))


def fingerprint(version: Path) -> object:
    """Names, sizes and times of a version's files: it changes whenever one of them does.

    Raises SignatureError for what is no regular file, OSError.
    """
    return sorted((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in _files(version))


def signed_digests(signature: bytes, keys: Sequence[PublicKey]) -> tuple[str, Mapping[str, str]]:
    """The name of the key that signed, and the SHA-256 in hexadecimal of each file, by its name in the version.

    signature: the content of `model.sig`. Raises SignatureError.
    """
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [
            base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"][:_MAX_SIGNATURES]
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError(f"{SIGNATURE_FILE} is damaged ({_reason(error)}): {_FIX}") from error
    message = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)
    signer = next((key for key in keys if any(key.has_signed(entry, message) for entry in signatures)), None)
    if signer is None:
        raise SignatureError(f"{SIGNATURE_FILE} was not made by a key that is trusted here: sign with one that is")
    # From here on it says what the signer wrote.
    try:
        return signer.name, _digests(json.loads(payload))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError(
            f"{SIGNATURE_FILE} signs no list of SHA-256 digests ({_reason(error)}): `fashion export --sign` makes one"
        ) from error


def missing_package(error: ModuleNotFoundError) -> DeliveryUsageError:
    """Says what installs what signatures need."""
    return DeliveryUsageError(
        f"signatures need the extra [signing] ({error.name} is not installed): {install_command('signing')}"
    )


def _digests(statement: Mapping[str, Any]) -> dict[str, str]:
    """The digests of a statement. Raises ValueError and the like for one of another kind."""
    predicate = statement["predicate"]
    method = predicate["serialization"]["method"], predicate["serialization"]["hash_type"]
    kind = statement["_type"], statement["predicateType"], method
    if kind != (_STATEMENT, _PREDICATE, ("files", "sha256")):
        raise ValueError(f"it has {', '.join(map(str, (*kind[:2], *method)))}")
    digests = {str(entry["name"]): str(entry["digest"]).lower() for entry in predicate["resources"]}
    if len(digests) != len(predicate["resources"]):
        raise ValueError("a file is named twice")
    return digests


def _files(version: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files by their names in the version, and what they are. Raises SignatureError for what is none, OSError."""
    pending = [""]
    count = 0
    while pending:
        directory = pending.pop()
        count += 1
        if count > _MAX_DIRECTORIES:
            raise SignatureError(f"the version has more than {_MAX_DIRECTORIES} directories")
        with os.scandir(version / directory) as entries:
            for entry in entries:
                name = f"{directory}/{entry.name}".lstrip("/")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif stat.S_ISREG((status := entry.stat(follow_symlinks=False)).st_mode):
                    yield name, status
                else:
                    raise SignatureError(f"{printable(name)} is a link, or no regular file: {_FIX}, with plain files")


def _reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}")
