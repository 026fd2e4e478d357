"""TLS: the SSL context of a TLS table of the configuration, alike for MySQL and Kafka. Edge."""

from __future__ import annotations

import ssl

from drc.config import Tls
from drc.errors import ConfigError


def client_context(tls: Tls, place: str, site: str = "") -> ssl.SSLContext | None:
    """Return the SSL context of ``tls``; None for mode ``disabled``.

    :param place: the owner of the table, such as ``this site``, for the hint.
    :raises ConfigError: a certificate or key cannot be loaded.
    """
    if tls.mode == "disabled":
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        # Certificates that mysqld creates at a first start lack extensions that RFC 5280 demands.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = tls.mode == "verify_identity"
        if tls.mode == "required":
            context.verify_mode = ssl.CERT_NONE
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"TLS files cannot be loaded: {error}",
            site=site,
            hint=f"check tls.ca, tls.cert and tls.key of {place}",
        ) from error
    return context
