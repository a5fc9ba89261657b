"""Why a server does not answer as its address says: what its name, its port and its certificate show."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from itertools import compress

from client.transports.address import ServerAddress
from client.transports.security import Security

_SECONDS = 0.5
# HTTP/2's preface with an empty SETTINGS frame (RFC 9113, section 3.4); a server answers with a SETTINGS frame.
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS = b"\4"
_HTTP1 = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_PROTOCOLS = {"grpc": "gRPC", "grpcs": "gRPC with TLS", "http": "REST", "https": "REST with TLS"}
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_MISMATCHES = (62, 64)


def diagnosis(address: ServerAddress, security: Security) -> str:
    """What is wrong with the connection, with the fix; "" where the server speaks what the address says.

    Takes up to two seconds, half a second for each step; no header is sent.
    """
    if address.scheme == "unix":
        return ""
    return _unreachable(*address.endpoint) or _mismatch(address, security)


def _unreachable(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except (socket.gaierror, UnicodeError):
        return f"no host is named {host}: check the spelling of --server, and this machine's DNS"
    except TimeoutError:
        return f"{host} does not answer: check the address in --server, and the firewalls on the way"
    except OSError:
        return "start it with `fashion serve`, or name another server with --server: nothing listens there"
    return ""


def _mismatch(address: ServerAddress, security: Security) -> str:
    with ThreadPoolExecutor(len(_PROTOCOLS)) as threads:
        speaks = threads.map(partial(_speaks, address.endpoint), _PROTOCOLS)
        spoken = list(compress(_PROTOCOLS, speaks))
    if address.scheme in spoken:
        return _certificate_fault(address, security) if address.is_secure else ""
    if spoken:
        urls = " or ".join(f"--server {scheme}://{address.target}" for scheme in spoken)
        wanted, other = _PROTOCOLS[address.scheme], " and ".join(_PROTOCOLS[scheme] for scheme in spoken)
        return f"that port speaks {other}, not {wanted}: {urls}"
    if address.is_secure and (fault := _certificate_fault(address, security)):
        return fault
    return "something listens there, but answers neither gRPC nor HTTP: is the server hung, or no TF Serving?"


def _speaks(endpoint: tuple[str, int], scheme: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return _answers(endpoint, scheme, context, None)
    except ssl.SSLError as error:
        return _wants_certificate(error)
    except OSError:
        return False


def _answers(endpoint: tuple[str, int], scheme: str, context: ssl.SSLContext, server_name: str | None) -> bool:
    is_rest = scheme in ("http", "https")
    with socket.create_connection(endpoint, _SECONDS) as plain:
        connection: AbstractContextManager[socket.socket] = plain
        if scheme in ("grpcs", "https"):
            context.set_alpn_protocols(["http/1.1" if is_rest else "h2"])
            connection = context.wrap_socket(plain, server_hostname=server_name)
        with connection as stream:
            stream.sendall(_HTTP1 if is_rest else _HTTP2)
            answer = stream.recv(16)
    if is_rest:
        # 505: the port speaks HTTP/2 only, and knows how to say so.
        return answer.startswith(b"HTTP/1") and answer[8:13] != b" 505 "
    return answer[3:4] == _SETTINGS


def _certificate_fault(address: ServerAddress, security: Security) -> str:
    context = security.tls_context()
    wants_certificate = False
    try:
        answers = _answers(address.endpoint, address.scheme, context, security.server_name or address.endpoint[0])
        # A server that misses the client's certificate may just close the connection.
        wants_certificate = not answers and not security.certificate_file
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _MISMATCHES:
            return f"{error.verify_message.rstrip('.')}: say the name in it with --tls-server-name NAME"
        return f"the server's certificate is not trusted ({error.verify_message}): --tls-ca FILE of who signed it"
    except ssl.SSLError as error:
        wants_certificate = _wants_certificate(error)
    except OSError:
        pass
    return "the server wants a client certificate: --tls-certificate FILE --tls-key FILE" if wants_certificate else ""


def _wants_certificate(error: ssl.SSLError) -> bool:
    return "CERTIFICATE_REQUIRED" in (error.reason or "")
