# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates made for a test, in memory: an authority, what it issues, what it has revoked."""

import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def ago(days):
    return datetime.datetime.utcnow() - datetime.timedelta(days=days)


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Pair:
    """A certificate and its key, PEM texts."""

    def __init__(self, certificate, key):
        self.certificate = certificate
        self.serial = certificate.serial_number
        self.cert = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.key = key.private_bytes(serialization.Encoding.PEM,
                                     serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()).decode()

    def write(self, folder, name):
        """(certificate, key) as files."""
        paths = []
        for kind in ('cert', 'key'):
            paths.append(os.path.join(folder, f'{name}-{kind}.pem'))
            with open(os.open(paths[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w',
                      encoding='ascii') as f:
                f.write(getattr(self, kind))
        return tuple(paths)


class Authority:
    def __init__(self, name):
        self.name = name_of(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        built = self._builder(self.name, self.key, 3650).add_extension(
            x509.BasicConstraints(True, None), True).add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        self.pem = Pair(built.sign(self.key, hashes.SHA256()), self.key).cert
        self.revoked = []

    def _builder(self, subject, key, days, begin=1):
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(ago(begin)).not_valid_after(ago(-days)))

    def issue(self, name, days=10.0, server=False):
        """days: until its end, less than 0 for one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        built = self._builder(name_of(name), key, days, 30).add_extension(
            x509.BasicConstraints(False, None), True).add_extension(
            x509.ExtendedKeyUsage([use]), False)
        if server:
            built = built.add_extension(x509.SubjectAlternativeName(
                [x509.DNSName('localhost'), x509.IPAddress(ipaddress.ip_address('127.0.0.1'))]),
                False)
        return Pair(built.sign(self.key, hashes.SHA256()), key)

    def revoke(self, pair):
        self.revoked.append(pair.serial)

    def crl(self, days=10.0):
        """PEM; good for so many days."""
        built = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(
            ago(30)).next_update(ago(-days))
        for serial in self.revoked:
            built = built.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(
                    ago(1)).build())
        return built.sign(self.key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM).decode()
