"""Who may ask: by a token, by a certificate, or both."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from fashion_common.tokens import OWN_LINE_VARIABLE, entry
from serving.apis.messages import SSLConfig
from serving.apis.status import Code
from serving.embedded.access.callers import Access
from serving.embedded.access.certificates import Certificates
from serving.embedded.access.tokens import FOR_ANYONE, FOR_PREDICT, FOR_READ, GRANTED, Tokens, Verdict
from serving.errors import ServerConfigError

READER, NOBODY = {b"authorization": b"Bearer reads"}, {b"authorization": b"Bearer wrong"}
OWN = {b"authorization": b"Bearer own"}
NO_CERTIFICATE = "A client certificate is wanted for this, and the connection has none"


@pytest.fixture(scope="module")
def config() -> SSLConfig:
    """A server's key and certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    return SSLConfig(
        server_key=issued.private_key_pem.bytes().decode(),
        server_cert=issued.cert_chain_pems[0].bytes().decode(),
        custom_ca=authority.cert_pem.bytes().decode(),
    )


def certificates(config: SSLConfig, *, client_verify: bool) -> Certificates:
    """TLS with that certificate. client_verify: whether clients have to show one."""
    made = SSLConfig()
    made.CopyFrom(config)
    made.client_verify = client_verify
    return Certificates("ssl.config", lambda: made)


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """A file with one token; and one of who has started the server."""
    monkeypatch.setenv(OWN_LINE_VARIABLE, entry("own", "own", ["read"]).line)
    file = tmp_path / "tokens"
    file.write_text(entry("reader", "reads", ["read"]).line + "\n")
    return Tokens(str(file))


def code(verdict: Verdict) -> Code | None:
    """The code of the error, if there is one."""
    return None if verdict.error is None else verdict.error.code


def test_without_tokens_and_certificates_everybody_may_ask(config: SSLConfig, tokens: Tokens) -> None:
    """And need not be looked at; with either of them whoever asks does."""
    encrypted = certificates(config, client_verify=False)
    assert Access(None, None).lets_everybody_in
    assert not Access(tokens, None).lets_everybody_in
    assert not Access(None, encrypted).lets_everybody_in
    assert not Access(tokens, encrypted).lets_everybody_in
    for access in (Access(None, None), Access(None, encrypted)):
        assert access.verdict(FOR_READ, {}, certified=False) is GRANTED


def test_a_token_is_enough_where_no_certificate_is_wanted(config: SSLConfig, tokens: Tokens) -> None:
    """As the tokens say, in TLS or without."""
    for access in (Access(tokens, None), Access(tokens, certificates(config, client_verify=False))):
        for certified in (False, True):
            assert access.verdict(FOR_READ, READER, certified=certified) == Verdict("reader")
            assert code(access.verdict(FOR_PREDICT, READER, certified=certified)) == Code.PERMISSION_DENIED
            assert code(access.verdict(FOR_READ, NOBODY, certified=certified)) == Code.UNAUTHENTICATED
            assert access.verdict(FOR_ANYONE, {}, certified=certified) is GRANTED


def test_a_certificate_is_wanted_beside_the_token(config: SSLConfig, tokens: Tokens) -> None:
    """But for what anyone may ask, and of who has started the server, who has none."""
    wanted = certificates(config, client_verify=True)
    access = Access(tokens, wanted)
    assert access.verdict(FOR_READ, READER, certified=True) == Verdict("reader")
    assert code(access.verdict(FOR_READ, NOBODY, certified=True)) == Code.UNAUTHENTICATED
    refused = access.verdict(FOR_READ, READER, certified=False)
    assert (code(refused), str(refused.error), refused.caller) == (Code.UNAUTHENTICATED, NO_CERTIFICATE, "")
    assert access.verdict(FOR_READ, OWN, certified=False) == Verdict("own")
    assert str(access.verdict(FOR_PREDICT, OWN, certified=False).error) == NO_CERTIFICATE
    assert access.verdict(FOR_ANYONE, {}, certified=False) is GRANTED
    alone = Access(None, wanted)
    assert alone.verdict(FOR_PREDICT, {}, certified=True) is GRANTED
    assert str(alone.verdict(FOR_PREDICT, {}, certified=False).error) == NO_CERTIFICATE


def test_what_there_is_is_read_again(tmp_path: Path, config: SSLConfig, tokens: Tokens) -> None:
    """And nothing else."""
    Access(None, None).reload_tokens()
    Access(None, None).reload_certificates()
    access = Access(tokens, None)
    (tmp_path / "tokens").write_text(entry("other", "others", ["read"]).line + "\n")
    access.reload_tokens()
    assert code(access.verdict(FOR_READ, READER, certified=False)) == Code.UNAUTHENTICATED
    assert access.verdict(FOR_READ, {b"authorization": b"Bearer others"}, certified=False) == Verdict("other")
    current = SSLConfig()
    current.CopyFrom(config)
    own = Certificates("ssl.config", lambda: current)
    access = Access(None, own)
    first = own.grpc()
    current.client_verify = True
    assert access.verdict(FOR_READ, {}, certified=False) is GRANTED
    access.reload_certificates()
    assert own.grpc() is not first
    assert str(access.verdict(FOR_READ, {}, certified=False).error) == NO_CERTIFICATE


def test_the_contexts_of_both_ports(config: SSLConfig) -> None:
    """gRPC's handshake fails without a certificate that is wanted; REST's goes on, for probes."""
    for client_verify, grpc, rest in (
        (False, ssl.CERT_NONE, ssl.CERT_NONE),
        (True, ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL),
    ):
        made = certificates(config, client_verify=client_verify)
        assert made.client_verify is client_verify
        assert (made.grpc().verify_mode, made.rest().verify_mode) == (grpc, rest)
        for context in (made.grpc(), made.rest()):
            assert context.minimum_version == ssl.TLSVersion.TLSv1_2
            assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("field", ["server_key", "server_cert", "custom_ca"])
def test_texts_that_are_no_pem(config: SSLConfig, field: str) -> None:
    """The file is named, and what is expected; what was read before stays."""
    current = SSLConfig()
    current.CopyFrom(config)
    made = Certificates("ssl.config", lambda: current)
    context = made.grpc()
    setattr(current, field, "no PEM")
    with pytest.raises(ServerConfigError, match=r"^ssl\.config: .*: PEM texts are expected$"):
        made.reload()
    assert made.grpc() is context
