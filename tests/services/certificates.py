"""A certificate authority for one test run, with certificates for a loopback server and a client."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.ports import LOOPBACK

ONE_DAY = dt.timedelta(days=1)


class Certificates:
    """PEM files in `folder`: authority; certificate and key of the server; the same of a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "authority.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.client_certificate, self.client_key = folder / "client.pem", folder / "client.key"
        self._authority_key = ec.generate_private_key(ec.SECP256R1())
        self._authority_name = _name("celery-observe tests")
        own = self._builder(self._authority_name, self._authority_key)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        own = own.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._authority_key.public_key()), critical=False
        )
        self.authority.write_bytes(self._sign(own))
        self._issue("localhost", self.certificate, self.key)
        self._issue("client", self.client_certificate, self.client_key)

    def _issue(self, name: str, certificate: Path, key_file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        builder = self._builder(_name(name), key)
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        certificate.write_bytes(self._sign(builder))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - ONE_DAY)
            .not_valid_after(now + ONE_DAY)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority_key.public_key()),
                critical=False,
            )
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
