"""A real redis-server that speaks TLS only and asks its clients for certificates."""

from __future__ import annotations

import datetime as dt
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.redis import RedisServer

#: What a key may be used for, by the parameters of ``x509.KeyUsage``.
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority with its files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(name)
        # Python 3.13 and later do not trust an authority that does not state its use.
        uses = dict.fromkeys(_USES, False) | {"key_cert_sign": True, "crl_sign": True}
        extensions = x509.BasicConstraints(ca=True, path_length=None), x509.KeyUsage(**uses)
        self.file = self._sign(name, self._subject, self._key, *extensions).cert

    def issue(self, name: str, address: str = "127.0.0.1") -> Pair:
        """Issue a certificate for an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        return self._sign(f"{self._name}-{name}", _named(name), key, alternative)

    def _sign(
        self, file: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> Pair:
        now = dt.datetime.now(dt.UTC)
        identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=2))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        builder = builder.add_extension(identity, critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        pair.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class TlsRedisServer(RedisServer):
    """A redis-server on 127.0.0.1 that speaks TLS only.

    Args:
        folder: for its data, its log and the certificates.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "tls", "authority")
        mine, self.client_pair = self.authority.issue("server"), self.authority.issue("client")
        super().__init__(folder)
        self.url = f"rediss://127.0.0.1:{self.port}/0"
        self._options = (
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes"),
            *("--tls-cert-file", str(mine.cert), "--tls-key-file", str(mine.key)),
            *("--tls-ca-cert-file", str(self.authority.file)),
        )

    @property
    def env(self) -> dict[str, str]:
        """The settings of a client that it accepts, besides the URL."""
        return {
            "DATAFAB_REDIS_CA": str(self.authority.file),
            "DATAFAB_REDIS_CERT": str(self.client_pair.cert),
            "DATAFAB_REDIS_KEY": str(self.client_pair.key),
        }

    def client(self) -> redis.Redis:
        """Return a new client that does not retry; close it after use."""
        return redis.Redis.from_url(
            self.url,
            decode_responses=True,
            socket_timeout=5,
            retry=None,
            ssl_ca_certs=str(self.authority.file),
            ssl_certfile=str(self.client_pair.cert),
            ssl_keyfile=str(self.client_pair.key),
        )
