"""Why a broker cannot be reached, and what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

from paho.mqtt.client import WebsocketConnectionError

#: OpenSSL's code of a certificate that was rejected -> why
_CERTIFICATES = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed: set DATAFAB_MQTT_CA to its file",
    19: "its authority is not trusted here: set DATAFAB_MQTT_CA to the file of that authority",
    20: "its authority is not trusted here: set DATAFAB_MQTT_CA to the file of that authority",
    21: "its authority is not trusted here: set DATAFAB_MQTT_CA to the file of that authority",
    62: "it is for other host names than that of DATAFAB_MQTT_URL",
    64: "it is for other host names than that of DATAFAB_MQTT_URL",
}
_NO_CERTIFICATE = "it asks for a certificate: set DATAFAB_MQTT_CERT, and DATAFAB_MQTT_KEY if the key has its own file"
_NO_TLS = "it does not use TLS on this port: begin DATAFAB_MQTT_URL with {plain}://, or correct the port"
#: part of OpenSSL's reason -> what it means
_TLS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": "its version of TLS is too old",
    "ALERT_PROTOCOL_VERSION": "its version of TLS is not supported",
    "CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "ALERT_UNKNOWN_CA": "it does not trust the certificate of DATAFAB_MQTT_CERT",
    "ALERT_BAD_CERTIFICATE": "it refuses the certificate of DATAFAB_MQTT_CERT",
    "ALERT_CERTIFICATE_EXPIRED": "the certificate of DATAFAB_MQTT_CERT has expired",
    "ALERT_CERTIFICATE_REVOKED": "the certificate of DATAFAB_MQTT_CERT was revoked",
}
#: kinds of errors -> what they mean
_ERRORS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((socket.gaierror,), "the host name {host} cannot be resolved: correct it in DATAFAB_MQTT_URL"),
    ((ConnectionRefusedError,), "nothing listens on port {port} of {host}"),
    (
        (TimeoutError,),
        "no answer from port {port} of {host}: is a firewall before it, or another protocol on this port?",
    ),
    (
        (WebsocketConnectionError, ValueError, IndexError),
        "port {port} of {host} does not accept web sockets at this path: correct DATAFAB_MQTT_URL",
    ),
)
#: how a server that expects another protocol ends a handshake of TLS
_BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_SILENT = "if the broker speaks MQTT 3.1.1 only, add ?version=3 to DATAFAB_MQTT_URL; else this port may need {other}"
_UNROUTED = (errno.EHOSTUNREACH, errno.ENETUNREACH)
#: name of an MQTT reason code -> what to do
_REFUSALS = {
    "Bad user name or password": "correct the user and the password in DATAFAB_MQTT_URL",
    "Not authorized": "correct the user and the password in DATAFAB_MQTT_URL, or the broker's access rules",
    "Unsupported protocol version": "add ?version=3 to DATAFAB_MQTT_URL",
}


class Attempts:
    """The reason for which the last attempt to connect failed, for the ``client`` of a broker.

    Args:
        host: host of the broker.
        port: port of the broker.
        scheme: scheme of its URL: mqtt, mqtts, ws or wss.
    """

    def __init__(self, host: str, port: int, scheme: str) -> None:
        self._host, self._port, self._scheme = host, port, scheme
        self._has_certificate = False
        #: error that ended the connection, as text
        self._last_error = ""
        #: whether the broker has accepted, or has refused, the present connection
        self._answered = False
        self.reason = "no answer"

    def begin(self, *, has_certificate: bool) -> None:
        """Note that a connection is attempted."""
        self._has_certificate, self._answered, self._last_error = has_certificate, False, ""

    def opened(self) -> None:
        """Note that there is a connection, on which the broker has not answered yet."""
        port = f"port {self._port} of {self._host}"
        self.reason = f"no answer from {port}, which accepts connections: {_SILENT.format(other=self._other)}"

    def failed(self, error: Exception) -> None:
        """Note the error for which no connection was made."""
        self.reason = self._explain(error)

    def log(self, text: str) -> None:
        """Note an error of the connection that the client has logged."""
        self._last_error = text

    def answered(self, reason: Any) -> None:
        """Note the broker's answer to the request to connect, an MQTT reason code."""
        self._answered = True
        if reason.is_failure:
            fix = _REFUSALS.get(str(reason))
            self.reason = f"it refuses the connection: {reason}" + (f" ({fix})" if fix else "")
        else:
            self.reason = "the connection was lost"

    def ended(self, reason: Any) -> None:
        """Note the end of a connection, with its MQTT reason code."""
        if not self._answered:
            self.reason = self._unanswered()
        elif reason.is_failure and not self.reason.startswith("it refuses"):
            self.reason = f"the connection ended: {reason}"

    def _unanswered(self) -> str:
        """Return why a broker may close a connection without an answer."""
        known = self._of_tls(self._last_error)
        if known:
            return known
        if self._tls and not self._has_certificate:
            return f"it closed the connection without an answer; perhaps {_NO_CERTIFICATE}"
        return f"it closed the connection without an answer: does this port need {self._other} in DATAFAB_MQTT_URL?"

    @property
    def _other(self) -> str:
        """The schemes that the port may need instead."""
        return {"mqtt": "mqtts:// or ws://", "ws": "wss://", "mqtts": "wss://", "wss": "mqtts://"}[self._scheme]

    @property
    def _tls(self) -> bool:
        return self._scheme in {"mqtts", "wss"}

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            why = _CERTIFICATES.get(error.verify_code, error.verify_message)
            return f"its certificate is not accepted: {why}"
        if isinstance(error, OSError) and error.errno in _UNROUTED:
            return f"there is no route to {self._host} from here"
        found = self._of_tls(str(error)) or self._broken_off(error)
        if found is None:
            found = next((text for types, text in _ERRORS if isinstance(error, types)), None)
        return found.format(host=self._host, port=self._port) if found else f"{type(error).__name__}: {error}"

    def _broken_off(self, error: Exception) -> str | None:
        """Return why a broker may break off a handshake of TLS."""
        if self._tls and isinstance(error, _BROKEN_OFF):
            return _NO_TLS.format(plain=self._plain)
        return None

    def _of_tls(self, text: str) -> str | None:
        """Return the meaning of an error of OpenSSL."""
        if "HANDSHAKE_FAILURE" in text:
            return "no common cipher" if self._has_certificate else _NO_CERTIFICATE
        found = next((meaning for part, meaning in _TLS.items() if part in text.replace(" ", "_").upper()), None)
        return found and found.format(plain=self._plain)

    @property
    def _plain(self) -> str:
        return "ws" if self._scheme == "wss" else "mqtt"
