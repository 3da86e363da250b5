"""The Airflow connection `ray_default`: address, token, headers, certificates."""

import asyncio
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dags.operators.ray_connection import RayAddress, read_address, read_address_async
from dags.operators.ray_jobs_api import RayJobsApi, RayJobsError
from tests.dags.operators.ray_stand_in import RayStandIn


@pytest.mark.parametrize(
    ("connection", "url", "token"),
    [
        ("http://ray-head:8265", "http://ray-head:8265", None),
        ("https://:secret@ray.example.org", "https://ray.example.org", "secret"),
        ('{"conn_type": "http", "host": "ray-head", "port": 8265, "password": "t"}', "http://ray-head:8265", "t"),
        ('{"conn_type": "http", "host": "ray-head", "port": 8265, "schema": "https"}', "https://ray-head:8265", None),
        ('{"conn_type": "http", "host": "https://ray.example.org/base"}', "https://ray.example.org/base", None),
    ],
)
def test_the_address_comes_from_the_airflow_connection(monkeypatch: pytest.MonkeyPatch, connection: str, url: str, token: str | None) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RAY_TEST", connection)
    assert read_address("ray_test") == RayAddress(url, token)
    assert asyncio.run(read_address_async("ray_test")) == RayAddress(url, token)


def test_a_connection_that_is_not_there_is_none() -> None:
    assert read_address("ray_nowhere") is None


def test_extra_holds_headers_and_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    address = connected(monkeypatch, headers={"X-Team": "dub"}, verify="/ca.pem", client_certificate="/me.pem", client_key="/me.key")
    assert address == RayAddress("https://ray:443", "swordfish", (("X-Team", "dub"),), "/ca.pem", "/me.pem", "/me.key")


@pytest.mark.parametrize(("told", "verify"), [(True, True), (False, False), ("false", False), ("True", True), ("/ca.pem", "/ca.pem")])
def test_verify_is_a_switch_or_a_file_also_where_it_comes_as_text(monkeypatch: pytest.MonkeyPatch, told: object, verify: bool | str) -> None:
    assert connected(monkeypatch, verify=told).verify == verify


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    address = connected(monkeypatch, headers={"X-Api-Key": "marlin"})
    assert repr(address) == "RayAddress(https://ray:443)"
    assert repr(RayAddress("https://me:tuna@ray")) == "RayAddress(https://ray)"


def test_each_request_carries_the_token_and_the_headers() -> None:
    with RayStandIn() as ray:
        assert jobs_at(RayAddress(ray.url, "swordfish", (("X-Team", "dub"), ("Authorization", "Basic other")))) == []
    assert ray.headers["X-Team"] == "dub"
    assert ray.headers["Authorization"] == "Bearer swordfish"


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of a server and a client that it knows."""

    authority: str
    server: str
    client: str
    client_key: str


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    (folder / "authority.pem").write_bytes(certificate("authority", authority_key, authority_key))
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        signed = certificate(name, key, authority_key)
        (folder / f"{name}.pem").write_bytes(signed + private if name == "server" else signed)
        (folder / f"{name}.key").write_bytes(private)
    return Certificates(*(str(folder / name) for name in ("authority.pem", "server.pem", "client.pem", "client.key")))


def test_an_authority_of_ones_own_is_trusted_by_its_file_alone(certificates: Certificates) -> None:
    with RayStandIn(tls=server_side(certificates)) as ray:
        assert jobs_at(RayAddress(ray.url, verify=certificates.authority)) == []
        assert jobs_at(RayAddress(ray.url, verify=False)) == []
        with pytest.raises(RayJobsError, match=r"The certificate of Ray at \S+ cannot be trusted"):
            jobs_at(RayAddress(ray.url))


def test_a_server_that_asks_who_it_is_gets_a_certificate(certificates: Certificates) -> None:
    with RayStandIn(tls=server_side(certificates, asks=True)) as ray:
        known = RayAddress(ray.url, verify=certificates.authority, client_certificate=certificates.client, client_key=certificates.client_key)
        assert jobs_at(known) == []
        with pytest.raises(RayJobsError, match="did not answer"):
            jobs_at(RayAddress(ray.url, verify=certificates.authority))


def test_a_certificate_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RayJobsError, match=r"^The certificates for Ray at https://ray cannot be used: .*No such file"):
        jobs_at(RayAddress("https://ray", verify=str(tmp_path / "nowhere.pem")))


def connected(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> RayAddress:
    values = {"conn_type": "http", "host": "ray", "port": 443, "schema": "https", "password": "swordfish", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_TEST", json.dumps(values))
    address = read_address("ray_test")
    assert address
    return address


def jobs_at(address: RayAddress) -> list[Any]:
    async def ask() -> list[Any]:
        async with RayJobsApi(address, 0.5, lambda _: None) as api:
            return list(await api.jobs())

    return asyncio.run(ask())


def server_side(certificates: Certificates, *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.authority)
    context.load_cert_chain(certificates.server)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    return context


def certificate(name: str, key: ec.EllipticCurvePrivateKey, authority_key: ec.EllipticCurvePrivateKey) -> bytes:
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]) for common in (name, "authority"))
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
