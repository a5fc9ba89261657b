"""Who may ask: by a token, by a certificate, or both."""

from __future__ import annotations

from collections.abc import Mapping

from serving.embedded.access.certificates import Certificates
from serving.embedded.access.tokens import FOR_ANYONE, GRANTED, Tokens, Verdict
from serving.errors import Unauthenticated

_NO_CERTIFICATE = Verdict(error=Unauthenticated("A client certificate is wanted for this, and the connection has none"))


class Access:
    """What --token_file and --ssl_config_file say of callers. tokens, certificates: None without."""

    def __init__(self, tokens: Tokens | None, certificates: Certificates | None) -> None:
        self.tokens = tokens
        self.certificates = certificates
        # Of `fashion serve`, which has no client's certificate, and asks for the state of what it has started.
        self._own = Tokens("")

    @property
    def lets_everybody_in(self) -> bool:
        """Whether it never has to be asked: there are neither tokens nor certificates."""
        return self.tokens is None and self.certificates is None

    def verdict(self, scopes: frozenset[str], headers: Mapping[bytes, bytes], *, certified: bool) -> Verdict:
        """On a request, as `Tokens.verdict`. certified: whether its connection has shown a client's certificate."""
        if scopes == FOR_ANYONE:
            return GRANTED
        if not certified and self.certificates is not None and self.certificates.client_verify:
            own = self._own.verdict(scopes, headers)
            return own if own.error is None else _NO_CERTIFICATE
        return GRANTED if self.tokens is None else self.tokens.verdict(scopes, headers)

    def reload_tokens(self) -> None:
        """Raises ServerConfigError, and nothing has changed then."""
        if self.tokens is not None:
            self.tokens.reload()

    def reload_certificates(self) -> None:
        """Raises ServerConfigError, and nothing has changed then."""
        if self.certificates is not None:
            self.certificates.reload()
