"""TLS to the MQTT broker: the authorities that are trusted, and the certificate of this client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from datafab.errors import SettingError
from datafab.settings import Settings


class _ClosingSocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails; paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        """Perform the handshake, within the timeout of the socket."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTls:
    """The files of a TLS connection to a broker.

    Attributes:
        ca_bundle: authorities to trust instead of the system's.
        ca: authorities to trust for the broker, besides the others.
        cert: certificate of this client.
        key: its key; None: it is in the file of the certificate.
    """

    ca_bundle: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the files of the settings."""
        return cls(ca_bundle=settings.ca_bundle, ca=settings.mqtt_ca, cert=settings.mqtt_cert, key=settings.mqtt_key)

    def without_tls(self) -> None:
        """Raise SettingError if there are files that only TLS to the broker uses."""
        for variable, path in (("CA", self.ca), ("CERT", self.cert), ("KEY", self.key)):
            if path is not None:
                field = f"DATAFAB_MQTT_{variable}"
                msg = f"{field} is set, but DATAFAB_MQTT_URL is without TLS: begin it with mqtts:// or wss://"
                raise SettingError(msg, field=field)

    def context(self) -> ssl.SSLContext:
        """Return the TLS context.

        Raises:
            SettingError: a file cannot be read, or holds something else.
        """
        context = ssl.create_default_context()
        if self.ca_bundle is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _trust(context, self.ca_bundle, "DATAFAB_CA_BUNDLE")
        context.sslsocket_class = _ClosingSocket
        if self.ca is not None:
            _trust(context, self.ca, "DATAFAB_MQTT_CA")
        if self.cert is not None:
            self._identify(context, self.cert)
        elif self.key is not None:
            msg = "DATAFAB_MQTT_KEY is set without the certificate that it belongs to: set DATAFAB_MQTT_CERT"
            raise SettingError(msg, field="DATAFAB_MQTT_CERT")
        return context

    def _identify(self, context: ssl.SSLContext, cert: Path) -> None:
        for field, path in (("DATAFAB_MQTT_CERT", cert), ("DATAFAB_MQTT_KEY", self.key)):
            if path is not None:
                _check_readable(path, field)
        try:
            # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(cert, self.key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = "the key does not belong to the certificate"
            else:
                place = "DATAFAB_MQTT_KEY" if self.key else "the same file"
                why = f"expected a certificate in PEM, and in {place} its key, unencrypted"
            field = "DATAFAB_MQTT_KEY" if self.key else "DATAFAB_MQTT_CERT"
            msg = f"DATAFAB_MQTT_CERT={cert}: {why}"
            raise SettingError(msg, field=field) from error


def _trust(context: ssl.SSLContext, path: Path, field: str) -> None:
    """Trust the authorities of a file or folder."""
    if path.is_dir():
        context.load_verify_locations(capath=path)
        return
    _check_readable(path, field)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        msg = f"{field}={path}: it holds no certificate in PEM"
        raise SettingError(msg, field=field) from error


def _check_readable(path: Path, field: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        msg = f"{field}={path}: {error.strerror}"
        raise SettingError(msg, field=field) from error
