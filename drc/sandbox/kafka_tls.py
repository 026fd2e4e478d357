"""Certificates and the user of a sandbox's Kafka: an authority, a broker, a client. Edge."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

USER = "drc"
_DAYS = 365


def create(folder: Path) -> None:
    """Write ``ca.pem``, ``broker.pem``, ``client.pem``, ``client.key`` and a password file."""
    folder.mkdir(parents=True)
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drc sandbox CA")])

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        subject = ca_name if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=_DAYS))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        if not ca:
            built = built.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return built.sign(ca_key, hashes.SHA256())

    def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def public(cert: x509.Certificate) -> bytes:
        return cert.public_bytes(serialization.Encoding.PEM)

    broker, client = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    _write(folder / "ca.pem", public(certificate("", ca_key, ca=True)))
    _write(folder / "broker.pem", pem(broker) + public(certificate("broker", broker, ca=False)))
    _write(folder / "client.pem", public(certificate("client", client, ca=False)))
    _write(folder / "client.key", pem(client))
    _write(password_file(folder), secrets.token_urlsafe(18).encode())


def password_file(folder: Path) -> Path:
    """Return the path of the SCRAM user's password file."""
    return folder / f"{USER}.password"


def upsertion(user: str, password: str) -> Any:
    """Return the request that creates a SCRAM user."""
    return UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password)


def broker_settings(folder: Path) -> dict[str, Any]:
    """Return a broker's settings for the listeners SSL and SASL_SSL."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": folder / "broker.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": folder / "ca.pem",
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }


def _write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
