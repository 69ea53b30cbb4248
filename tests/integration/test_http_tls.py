"""TLS, and certificates asked of clients."""

from __future__ import annotations

import shutil
import socket
import ssl
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from celery_observe.errors import ExpositionError
from services.certificates import Certificates
from services.web import Settings, ask, serving


def client(certificates: Certificates, *, certified: bool = False) -> ssl.SSLContext:
    """Return what a client needs that trusts this authority, and shows its certificate if wanted."""
    context = ssl.create_default_context(cafile=certificates.authority)
    if certified:
        context.load_cert_chain(certificates.client_certificate, certificates.client_key)
    return context


def tls(certificates: Certificates, *, client_ca: Path | None = None) -> Settings:
    """Return settings with the server's certificate."""
    return Settings(tls_cert_file=certificates.certificate, tls_key_file=certificates.key, tls_client_ca_file=client_ca)


@pytest.fixture
def other_certificates(tmp_path: Path) -> Certificates:
    """Return those of an authority that nobody has asked for."""
    folder = tmp_path / "other"
    folder.mkdir()
    return Certificates(folder)


def served_certificate(port: int) -> bytes:
    """Return the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, context.wrap_socket(raw) as wrapped:
        return wrapped.getpeercert(binary_form=True) or b""


def test_metrics_are_served_over_tls(certificates: Certificates) -> None:
    """A client that trusts the authority is served, with a current version of TLS."""
    with serving(tls(certificates)) as exposition:
        assert ask(exposition, tls=client(certificates)).status == 200


def test_old_versions_of_tls_are_refused(certificates: Certificates) -> None:
    """TLS 1.2 is the least."""
    context = client(certificates)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")

    with serving(tls(certificates)) as exposition, pytest.raises(ssl.SSLError):
        ask(exposition, tls=context)


def test_a_client_that_speaks_no_tls_harms_nobody(certificates: Certificates) -> None:
    """It gets no answer; the next client does."""
    with serving(tls(certificates)) as exposition:
        with socket.create_connection(("127.0.0.1", exposition.port), timeout=5) as plain:
            plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            with suppress(ConnectionResetError):
                assert not plain.recv(1000).startswith(b"HTTP")

        assert ask(exposition, tls=client(certificates)).status == 200


def test_failed_handshakes_do_not_flood_the_log(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knocks, one line a minute."""
    with serving(tls(certificates)) as exposition:
        for _ in range(5):
            with pytest.raises(ssl.SSLError):
                ask(exposition, tls=ssl.create_default_context())
        ask(exposition, tls=client(certificates))

    assert len([record for record in caplog.records if "SSL Error" in record.getMessage()]) == 1


def test_a_client_without_certificate_sees_the_probes_only(certificates: Certificates) -> None:
    """The kubelet brings no certificate."""
    with serving(tls(certificates, client_ca=certificates.authority)) as exposition:
        anonymous = client(certificates)
        statuses = {
            path: ask(exposition, path, tls=anonymous).status
            for path in ("/", "/metrics", "/nowhere", "/healthz", "/readyz")
        }

    assert statuses == {"/": 403, "/metrics": 403, "/nowhere": 403, "/healthz": 200, "/readyz": 200}


def test_a_client_with_certificate_may_read(certificates: Certificates) -> None:
    """Signed by the authority that was asked for."""
    with serving(tls(certificates, client_ca=certificates.authority)) as exposition:
        assert ask(exposition, tls=client(certificates, certified=True)).status == 200


def test_a_certificate_of_another_authority_is_refused(
    certificates: Certificates, other_certificates: Certificates
) -> None:
    """The handshake fails."""
    stranger = client(certificates)
    stranger.load_cert_chain(other_certificates.client_certificate, other_certificates.client_key)

    with (
        serving(tls(certificates, client_ca=certificates.authority)) as exposition,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        ask(exposition, tls=stranger)


def test_a_renewed_certificate_is_shown_to_new_connections(
    certificates: Certificates, other_certificates: Certificates, tmp_path: Path
) -> None:
    """Half way through a renewal the old pair stays in force; once complete, the new one is."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(certificates.certificate, cert)
    shutil.copy(certificates.key, key)

    with capture_logs() as logs, serving(Settings(tls_cert_file=cert, tls_key_file=key)) as exposition:
        shutil.copy(other_certificates.certificate, cert)
        half_way = [ask(exposition, tls=client(certificates)).status for _ in range(2)]
        shutil.copy(other_certificates.key, key)
        renewed = served_certificate(exposition.port)

    assert half_way == [200, 200]
    assert renewed == ssl.PEM_cert_to_DER_cert(other_certificates.certificate.read_text())
    assert [entry["event"] for entry in logs if entry["event"].startswith("http_files")] == [
        "http_files_not_reloaded",
        "http_files_reloaded",
    ]


def test_unusable_files_are_an_error_at_start(certificates: Certificates, tmp_path: Path) -> None:
    """The error names the files."""
    missing = Settings(tls_cert_file=certificates.certificate, tls_key_file=tmp_path / "no-key")
    mismatched = Settings(tls_cert_file=certificates.certificate, tls_key_file=certificates.client_key)

    with pytest.raises(ExpositionError, match="no-key"), serving(missing):
        pass
    with pytest.raises(ExpositionError, match="must be readable, PEM, and match"), serving(mismatched):
        pass


def test_client_certificates_without_tls_are_an_error_at_start(certificates: Certificates) -> None:
    """What was meant to be protected is not served in the clear."""
    with (
        pytest.raises(ExpositionError, match="set --tls-cert-file too"),
        serving(Settings(tls_client_ca_file=certificates.authority)),
    ):
        pass
