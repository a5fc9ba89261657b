"""A version is what a trusted key signed, in the format of OpenSSF Model Signing, or it is refused with the reason."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.cli import fashion
from delivery.errors import DeliveryUsageError, SignatureError
from delivery.signing import PASSPHRASE_VARIABLE, sign_version, signing_key
from delivery.verification import public_keys, signed_digests, verify_version
from fashion_common.layout import MANIFEST_FILE, SAVED_MODEL_FILE, SIGNATURE_FILE
from tests.support.keys import KeyPair, key_pair, write_version

CURVES: list[ec.EllipticCurve] = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    """The trusted pair."""
    return key_pair(tmp_path, "release")


@pytest.fixture
def version(tmp_path: Path, keys: KeyPair) -> Path:
    """A signed version."""
    directory = write_version(tmp_path / "models" / "1")
    keys.sign(directory)
    return directory


def model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line of OpenSSF's tool."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verify(*arguments: object) -> Result:
    """`fashion verify`."""
    return CliRunner().invoke(fashion, ["verify", *map(str, arguments)])


def rewritten(version: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what the signature's file says."""
    bundle = json.loads((version / SIGNATURE_FILE).read_text())
    change(bundle)
    (version / SIGNATURE_FILE).write_text(json.dumps(bundle))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_openssf_verifies_what_is_signed_here(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """With every curve of the format; after a change it does not either."""
    pair = key_pair(tmp_path, "release", curve)
    version = write_version(tmp_path / "1")
    pair.sign(version)
    command = ("verify", "key", version, "--signature", version / SIGNATURE_FILE, "--public_key", pair.public)
    verified = model_signing(*command)
    assert (verified.returncode, "succeeded" in verified.stdout.lower()) == (0, True), verified
    (version / SAVED_MODEL_FILE).write_bytes(b"other")
    assert model_signing(*command).returncode == 1


def test_what_openssf_signs_is_verified_here(tmp_path: Path, keys: KeyPair) -> None:
    """By its defaults: but the files of git, which it leaves out, are refused."""
    version = write_version(tmp_path / "1")
    signed = model_signing(
        "sign", "key", version, "--signature", version / SIGNATURE_FILE, "--private_key", keys.private
    )
    assert signed.returncode == 0, signed
    assert verify_version(version, public_keys([keys.public])) == (str(keys.public), 3)
    write_version(version, {".git/config": b""})
    with pytest.raises(SignatureError, match=r"^\.git/config was not signed: remove it"):
        verify_version(version, public_keys([keys.public]))


@pytest.mark.parametrize("method", [("--hash_algorithm", "blake2"), ("--shard_size", "100")])
def test_other_digests_are_refused(tmp_path: Path, keys: KeyPair, method: tuple[str, str]) -> None:
    """The library can be told to use some."""
    from model_signing import hashing, signing

    version = write_version(tmp_path / "1")
    config = hashing.Config()
    if method[0] == "--shard_size":
        config.use_shard_serialization(shard_size=100)
    else:
        config.use_file_serialization(hashing_algorithm="blake2")
    signer = signing.Config().use_elliptic_key_signer(private_key=keys.private)
    signer.set_hashing_config(config).sign(version, version / SIGNATURE_FILE)
    with pytest.raises(SignatureError, match="signs no list of SHA-256 digests"):
        verify_version(version, public_keys([keys.public]))


def test_signed_files_stay_as_they_were(version: Path, keys: KeyPair) -> None:
    """The manifest among them; the signature is a file as others can read it."""
    trusted = public_keys([keys.public])
    assert verify_version(version, trusted) == (str(keys.public), 3)
    assert (version / SIGNATURE_FILE).stat().st_mode & 0o444 == 0o444
    name, digests = signed_digests((version / SIGNATURE_FILE).read_bytes(), trusted)
    assert (name, sorted(digests)) == (
        str(keys.public),
        [MANIFEST_FILE, SAVED_MODEL_FILE, "variables/variables.index"],
    )


def spoil_by_link(version: Path) -> None:
    """The graph is elsewhere, with the same bytes."""
    (version / SAVED_MODEL_FILE).rename(version.parent / "elsewhere")
    (version / SAVED_MODEL_FILE).symlink_to(version.parent / "elsewhere")


SPOILT: dict[str, Callable[[Path], object]] = {
    "the version is not signed: it has no model.sig": lambda version: (version / SIGNATURE_FILE).unlink(),
    "saved_model.pb is not the file that was signed (SHA-256 differs): copy the version again": lambda version: (
        version / SAVED_MODEL_FILE
    ).write_bytes(b"grapf"),
    "assets.extra/manifest.json, which was signed, is missing: copy the version again": lambda version: (
        version / MANIFEST_FILE
    ).unlink(),
    "saved_model.cpb was not signed: remove it, or copy the version again": lambda version: (
        version / "saved_model.cpb"
    ).write_bytes(b""),
    "pipe is a link, or no regular file": lambda version: os.mkfifo(version / "pipe"),
    "saved_model.pb is a link, or no regular file": spoil_by_link,
    "model.sig is damaged (JSONDecodeError": lambda version: (version / SIGNATURE_FILE).write_bytes(b"{"),
    "model.sig is damaged (TypeError": lambda version: (version / SIGNATURE_FILE).write_bytes(b"[]"),
    "model.sig is damaged (RecursionError": lambda version: (version / SIGNATURE_FILE).write_bytes(b"[" * 100_000),
    "model.sig is damaged (KeyError: 'dsseEnvelope')": lambda version: rewritten(version, dict.clear),
    "model.sig is damaged (Error": lambda version: rewritten(
        version, lambda bundle: bundle["dsseEnvelope"].update(payload="*")
    ),
    "model.sig was not made by a key that is trusted here": lambda version: rewritten(
        version,
        lambda bundle: bundle["dsseEnvelope"].update(
            payload=base64.b64encode(base64.b64decode(bundle["dsseEnvelope"]["payload"]) + b" ").decode()
        ),
    ),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_a_version_that_was_altered_is_refused(version: Path, keys: KeyPair, reason: str) -> None:
    """Whatever was done to it, the reason names the file, and no path of this machine."""
    SPOILT[reason](version)
    with pytest.raises(SignatureError) as refusal:
        verify_version(version, public_keys([keys.public]))
    assert str(refusal.value).startswith(reason)
    assert str(version) not in str(refusal.value)


def test_a_statement_of_another_kind_is_refused(tmp_path: Path, keys: KeyPair) -> None:
    """A trusted key may sign other things in the same envelope; a name that comes twice is none of ours either."""
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key(keys.private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    entry = {"name": "a", "digest": "0A"}
    good = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": [entry]},
    }
    others: list[dict[str, Any]] = [
        good | {"predicateType": "https://slsa.dev/provenance/v1"},
        good | {"_type": "https://in-toto.io/Statement/v0.1"},
        good | {"predicate": {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": [entry] * 2}},
        good | {"predicate": {"serialization": {"method": "shards", "hash_type": "sha256"}, "resources": [entry]}},
        good | {"predicate": {"serialization": {"method": "files", "hash_type": "blake2b"}, "resources": [entry]}},
        {},
    ]
    for statement in (good, *others):
        payload = json.dumps(statement).encode()
        message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }
        content = json.dumps({"dsseEnvelope": envelope}).encode()
        if statement is good:
            assert signed_digests(content, public_keys([keys.public]))[1] == {"a": "0a"}
            continue
        with pytest.raises(SignatureError, match="signs no list of SHA-256 digests"):
            signed_digests(content, public_keys([keys.public]))


def test_limits(version: Path, keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 signatures in an envelope, 16 MiB of them, and directories: at each limit and one beyond."""
    trusted = public_keys([keys.public])
    content = (version / SIGNATURE_FILE).read_bytes()

    def with_signatures(count: int) -> bytes:
        bundle = json.loads(content)
        bundle["dsseEnvelope"]["signatures"][:0] = [{"sig": "AAAA"}] * (count - 1)
        return json.dumps(bundle).encode()

    assert signed_digests(with_signatures(16), trusted)[0] == str(keys.public)
    with pytest.raises(SignatureError, match="not made by a key that is trusted here"):
        signed_digests(with_signatures(17), trusted)
    (version / SIGNATURE_FILE).write_bytes(content.rjust(16 * 2**20))
    assert verify_version(version, trusted).files == 3
    (version / SIGNATURE_FILE).write_bytes(content.rjust(16 * 2**20 + 1))
    with pytest.raises(SignatureError, match=r"model\.sig is damaged"):
        verify_version(version, trusted)
    (version / SIGNATURE_FILE).write_bytes(content)
    monkeypatch.setattr("delivery.verification._MAX_DIRECTORIES", 3)
    assert verify_version(version, trusted).files == 3
    monkeypatch.setattr("delivery.verification._MAX_DIRECTORIES", 2)
    with pytest.raises(SignatureError, match="has more than 2 directories"):
        verify_version(version, trusted)


def test_a_signature_of_another_version_or_key_is_refused(tmp_path: Path, version: Path, keys: KeyPair) -> None:
    """One of several trusted keys is enough, which is how keys are rotated."""
    stranger = key_pair(tmp_path, "stranger")
    with pytest.raises(SignatureError, match="not made by a key that is trusted here"):
        verify_version(version, public_keys([stranger.public]))
    assert verify_version(version, public_keys([stranger.public, keys.public])).key == str(keys.public)
    other = write_version(tmp_path / "2", {SAVED_MODEL_FILE: b"bad"})
    (other / SIGNATURE_FILE).write_bytes((version / SIGNATURE_FILE).read_bytes())
    with pytest.raises(SignatureError, match="which was signed, is missing"):
        verify_version(other, public_keys([keys.public]))


def test_a_key_with_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the environment; without it, or with another, the error says so."""
    pair = key_pair(tmp_path, "release", passphrase=b"open sesame")
    with pytest.raises(DeliveryUsageError, match=f"has a passphrase: set {PASSPHRASE_VARIABLE}"):
        signing_key(pair.private)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "barley")
    with pytest.raises(DeliveryUsageError, match=f"cannot be read with the passphrase of {PASSPHRASE_VARIABLE}"):
        signing_key(pair.private)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "open sesame")
    version = write_version(tmp_path / "1")
    pair.sign(version)
    assert verify_version(version, public_keys([pair.public])).files == 3
    # Of a key without one it is no matter.
    key_pair(tmp_path, "plain").sign(version)


def test_keys_that_cannot_be_used(tmp_path: Path, keys: KeyPair) -> None:
    """Each error names the file and the fix."""
    missing = tmp_path / "missing.pem"
    with pytest.raises(DeliveryUsageError, match=r"missing\.pem cannot be read: No such file"):
        signing_key(missing)
    with pytest.raises(DeliveryUsageError, match=r"missing\.pem cannot be read: No such file"):
        public_keys([missing])
    with pytest.raises(DeliveryUsageError, match=r"release\.pub cannot be read as a private key in PEM"):
        signing_key(keys.public)
    with pytest.raises(DeliveryUsageError, match=r"openssl ec -in KEY -pubout"):
        public_keys([keys.private])
    other = tmp_path / "other.pub"
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())):
        other.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(DeliveryUsageError, match="no ECDSA key on P-256, P-384 or P-521"):
            public_keys([other])


def test_a_version_that_cannot_be_signed(tmp_path: Path, keys: KeyPair) -> None:
    """With a link in it, which the format refuses."""
    from delivery.errors import DeliveryError

    version = write_version(tmp_path / "1")
    (version / "link").symlink_to(SAVED_MODEL_FILE)
    with pytest.raises(DeliveryError, match=r"cannot be signed: .* it is a symlink"):
        sign_version(version, signing_key(keys.private))


def test_the_command_says_a_line_of_each_version(tmp_path: Path, version: Path, keys: KeyPair) -> None:
    """Of one, or of all under a model base path; exit code 1 when one does not verify, 2 where there is none."""
    result = verify(version, "--public-key", keys.public)
    assert (result.exit_code, result.output) == (0, f"{version}: 3 files as signed with {keys.public}\n")
    write_version(version.parent / "2")
    result = verify(version.parent, "--public-key", keys.public)
    unsigned = version.parent / "2"
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{version}: 3 files as signed with {keys.public}",
        f"{unsigned}: the version is not signed: it has no {SIGNATURE_FILE}",
    ]
    result = verify(version.parent, "--public-key", keys.public, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {"path": str(version), "verified": True, "key": str(keys.public), "files": 3, "reason": None},
        {
            "path": str(unsigned),
            "verified": False,
            "key": None,
            "files": 0,
            "reason": f"the version is not signed: it has no {SIGNATURE_FILE}",
        },
    ]
    result = verify(tmp_path / "none", "--public-key", keys.public)
    assert (result.exit_code, "is neither a version nor a model base path" in result.output) == (2, True)
    assert verify(version).exit_code == 2
    result = verify(version, "--public-key", keys.private)
    assert (result.exit_code, "holds no public key in PEM" in result.output) == (2, True)


def test_verification_imports_nothing_of_the_signing_tool() -> None:
    """Which takes half a second and dozens of packages: a server has cryptography alone."""
    program = (
        "import sys; from delivery.verification import public_keys; public_keys([]); "
        "print(sorted({'model_signing', 'sigstore', 'OpenSSL', 'boto3', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_without_the_extra(tmp_path: Path, keys: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, for whoever signs and for whoever verifies."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(DeliveryUsageError, match=r"signatures need the extra \[signing\].*pip install"):
        public_keys([keys.public])
    with pytest.raises(DeliveryUsageError, match=r"signatures need the extra \[signing\].*pip install"):
        signing_key(keys.private)
