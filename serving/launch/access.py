"""Who may ask a server that `fashion serve` starts: TLS from PEM files, tokens, and the one by which it asks itself."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format

from fashion_common.errors import TokenFileError
from fashion_common.files import write_whole
from fashion_common.installation import TOKEN_FILE
from fashion_common.tokens import OWN_LINE_VARIABLE, READ, entry, new_token, parse_entries
from serving.apis.messages import SSLConfig
from serving.launch.backends import MODEL_SERVER, SSL_FILE, ServeOptions
from serving.launch.errors import ServeUsageError

_NAME = "fashion-serve"


def check_access(options: ServeOptions, *, web: bool) -> None:
    """Raises ServeUsageError for files that cannot be used, and what contradicts each other. web: with the page."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ServeUsageError("a certificate needs its key: give both --tls-cert and --tls-key")
    if options.tls_client_ca is not None and options.tls_cert is None:
        raise ServeUsageError("--tls-client-ca is for a server with TLS: give --tls-cert and --tls-key too")
    if options.tls_files:
        if options.server_flag("ssl_config_file") is not None:
            raise ServeUsageError("--ssl_config_file after -- contradicts --tls-cert: give one of them")
        ssl_config(options.tls_files)
    if options.token_file is not None:
        try:
            parse_entries(options.token_file.read_text(encoding="utf-8"), str(options.token_file))
        except (OSError, UnicodeDecodeError) as error:
            raise ServeUsageError(f"--token-file {options.token_file} cannot be read: {error}") from error
        except TokenFileError as error:
            raise ServeUsageError(f"--token-file {error}") from error
    if web and (options.token_file or options.tls_client_ca):
        raise ServeUsageError(
            "--web would let everybody ask who reaches the page: start `fashion web --token-file`, or with a client "
            "certificate, by yourself"
        )


def check_backend(options: ServeOptions) -> None:
    """Raises ServeUsageError where TF Serving would answer whom it should not."""
    if options.backend == "embedded":
        return
    if options.token_file is not None:
        raise ServeUsageError(f"{MODEL_SERVER} asks nobody for a token: --token-file needs --backend embedded")
    if options.tls_client_ca is not None:
        raise ServeUsageError(
            f"{MODEL_SERVER} has no TLS for REST, and would answer everybody there: --tls-client-ca needs "
            "--backend embedded"
        )


def ssl_config(files: Sequence[str | Path]) -> str:
    """The text of TF Serving's SSLConfig. files: the certificate, its key, and the clients' authorities if any.

    Raises ServeUsageError for files that cannot be read, and for a certificate that is not its key's.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files[0], files[1])
        certificate, key, *authorities = (Path(file).read_text(encoding="ascii") for file in files)
    except (OSError, ValueError) as error:
        names = " and ".join(map(str, files))
        raise ServeUsageError(f"{names} cannot be used for TLS: {error}: PEM files are expected") from error
    config = SSLConfig(server_cert=certificate, server_key=key)
    if authorities:
        config.custom_ca, config.client_verify = authorities[0], True
    return text_format.MessageToString(config)


def write_access(options: ServeOptions, directory: Path) -> None:
    """Writes what is nobody else's into the server's configuration directory: the SSLConfig, and its own token.

    Raises OSError, ServeUsageError.
    """
    # A container's user is another one: there the directory above is closed to others.
    directory.parent.chmod(0o700)
    if options.tls_files:
        mode = 0o644 if options.backend == "container" else 0o600
        write_whole(directory / SSL_FILE, ssl_config(options.tls_files), mode)
    if options.backend == "embedded":
        write_whole(directory / TOKEN_FILE, new_token(), 0o600)


def follow_certificates(directory: Path, files: Sequence[str]) -> None:
    """Writes the SSLConfig anew when the PEM files have changed. Raises OSError, ServeUsageError."""
    path = directory / SSL_FILE
    if files and (text := ssl_config(files)) != path.read_text(encoding="utf-8"):
        write_whole(path, text, path.stat().st_mode & 0o777)


def environment(options: ServeOptions) -> dict[str, str]:
    """Of the server's process: the line of the token by which we ask for its state."""
    token = options.own_token
    return {**os.environ, OWN_LINE_VARIABLE: entry(_NAME, token, [READ]).line} if token else dict(os.environ)
