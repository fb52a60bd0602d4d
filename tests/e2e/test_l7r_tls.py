# SPDX-License-Identifier: GPL-3.0-or-later
"""The L7R's certificate, changed under running sessions; clients' certificates; session tickets."""

import os
import re
import socket
import ssl
import subprocess

import pytest

from authority import Authority
from fakenode import NX_SERVER
from farm import wait_until
from oldclients import Answer, PerlClient, Wire, first_nx_bytes, request

SERVICES = ('l7r', 'api')
FARM = {'services': False, 'slots': 2, 'settings': {'log.level': 'DEBUG', 'l7r.sweep': '1h'}}


@pytest.fixture(name='session')
def session_fixture(farm, vm):
    """A desktop in use: whatever the test does, it goes on."""
    client = PerlClient(where(farm), vm.login, vm.password)
    assert first_nx_bytes(client.wire, client.connect(vm.id)) == NX_SERVER
    yield client
    chat(client, b'still there at the end')
    client.wire.close()
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 8, 'the VM to be free')


@pytest.fixture(name='own', scope='module')
def own_fixture():
    return Authority('Servers of the test')


@pytest.fixture(name='people', scope='module')
def people_fixture():
    return Authority('People of the test')


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def where(farm):
    return (farm.address, farm.l7r_port)


def chat(client, data):
    client.wire.send(data)
    got = b''
    while len(got) < len(data):
        got += client.wire.record()
    assert got == data


def serial_of(farm):
    """Of the certificate that a client sees, though it shows none of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    with socket.create_connection(where(farm), 10) as sock:
        with context.wrap_socket(sock) as tls:
            der = tls.getpeercert(True)
    from cryptography import x509           # pylint: disable=import-outside-toplevel
    return x509.load_der_x509_certificate(der).serial_number


def serial_of_files(farm):
    """What is served when nothing else was put. The router is not asked: a worker from before the
    last test may still be on its way out."""
    from cryptography import x509           # pylint: disable=import-outside-toplevel
    with open(farm.path('etc/certs/cert.pem'), 'rb') as f:
        return x509.load_pem_x509_certificate(f.read()).serial_number


def log_since(farm, mark):
    return farm.log_tail('l7r', 1000000)[mark:]


def mark_of(farm):
    return len(farm.log_tail('l7r', 1000000))


def wait_log(farm, mark, pattern, timeout=10):
    wait_until(lambda: re.search(pattern, log_since(farm, mark)), timeout,
               f'{pattern!r} in the log')


def put(farm, name, text, mode=0o600):
    """A file of /etc/qvd/certs."""
    path = farm.path('etc/certs', name)
    with open(path, 'w', encoding='ascii') as f:
        os.fchmod(f.fileno(), mode)
        f.write(text)
    os.chmod(path, mode)


def reload(farm):
    farm.run(['kill', '-HUP', str(farm.service('l7r')['pid'])])


@pytest.fixture(name='files')
def files_fixture(farm, node):
    """The certificate's files, as they were before the test."""
    kept = {}
    for name in ('cert.pem', 'key.pem'):
        with open(farm.path('etc/certs', name), encoding='ascii') as f:
            kept[name] = f.read()
    before = serial_of_files(farm)
    yield
    for name, text in kept.items():
        put(farm, name, text)
    reload(farm)
    wait_until(lambda: serial_of(farm) == before, 10, 'the former certificate')


# The server's own --------------------------------------------------------------------------------

def test_a_new_file_is_taken_by_a_reload(farm, node, session, own, files):
    pair, mark = own.issue('new file', 100, server=True), mark_of(farm)
    put(farm, 'cert.pem', pair.cert)
    put(farm, 'key.pem', pair.key)
    reload(farm)
    wait_until(lambda: serial_of(farm) == pair.serial, 10, 'the new certificate')
    assert 'certificate of CN=new file from the files is used, good until ' in log_since(farm, mark)
    chat(session, b'over the reload')


@pytest.mark.parametrize('what', ['other key', 'no certificate', 'no key'])
def test_a_bad_pair_is_refused_with_words(farm, node, session, own, files, what):
    pair, other, mark = own.issue('a', server=True), own.issue('b', server=True), mark_of(farm)
    before = serial_of_files(farm)
    put(farm, 'cert.pem', 'nonsense\n' if what == 'no certificate' else pair.cert)
    put(farm, 'key.pem', 'nonsense\n' if what == 'no key' else other.key)
    reload(farm)
    words = {'other key': 'private key: .*key values mismatch', 'no certificate': 'certificate: ',
             'no key': 'private key: '}[what]
    wait_log(farm, mark, f'the certificate of the files cannot be used: {words}.*; the former one '
             'stays')
    wait_log(farm, mark, 'workers accept connections|worker . .* has ended: exit 0')
    for _ in range(4):
        assert serial_of(farm) == before
    chat(session, b'as if nothing had been')


def test_a_key_that_others_may_read_is_told(farm, node, own, files):
    pair, mark = own.issue('open key', 100, server=True), mark_of(farm)
    put(farm, 'cert.pem', pair.cert)
    put(farm, 'key.pem', pair.key, 0o644)
    reload(farm)
    wait_log(farm, mark, r'key\.pem can be read by others than its owner \(mode 0644\)')
    wait_until(lambda: serial_of(farm) == pair.serial, 10, 'the new certificate')


@pytest.mark.parametrize('days,line', [
    (40.5, None), (20.5, 'is good for 20 more days, until '),
    (13.5, 'is good for 13 more days, until '), (1.5, 'is good for 1 more day, until '), (-1, 'is out of date since ')])
def test_its_end_is_announced(farm, node, own, files, days, line):
    pair, mark = own.issue(f'ends-{days}', days, server=True), mark_of(farm)
    put(farm, 'cert.pem', pair.cert)
    put(farm, 'key.pem', pair.key)
    reload(farm)
    wait_until(lambda: serial_of(farm) == pair.serial, 10, 'the new certificate')
    told = re.findall(r'the certificate (is .*?until |is .*?since )', log_since(farm, mark))
    assert told == ([line] if line else [])


def test_by_qa_it_reaches_the_router_at_once(farm, node, session, own, tmp_path):
    """`qa config ssl`: stored in the database, live, over the files; a bad pair is refused."""
    before, pair, other = serial_of_files(farm), own.issue('by qa', server=True), own.issue('x')
    cert, key = pair.write(tmp_path, 'pair')
    _, wrong = other.write(tmp_path, 'other')
    done = farm.qa('config', 'ssl', f'cert={cert}', f'key={wrong}', check=False)
    assert done.returncode != 0 and 'key values mismatch' in done.stderr
    for part, words in (('ca', "authority of clients' certificates"),
                        ('crl', 'list of revoked certificates')):
        more = [f'ca={cert}'] if part == 'crl' else []
        done = farm.qa('config', 'ssl', f'cert={cert}', f'key={key}', *more, f'{part}={key}',
                       check=False)
        assert done.returncode != 0 and words in done.stderr
    assert node.psql('SELECT count(*) FROM ssl_configs') == [['0']]
    farm.qa('config', 'ssl', f'cert={cert}', f'key={key}')
    wait_until(lambda: serial_of(farm) == pair.serial, 5, 'the certificate of the database')
    # A bad one by hand: the former stays.
    mark = mark_of(farm)
    node.psql("UPDATE ssl_configs SET value = 'nonsense' WHERE key = 'l7r.ssl.key'")
    wait_log(farm, mark, 'the certificate of the database cannot be used: private key: ')
    assert serial_of(farm) == pair.serial
    # Another role of the farm may not read the key.
    done = farm.run(['psql', '-h', '/run/postgresql', '-d', 'qvd', '-U', 'qvd_api', '-c',
                     'SELECT value FROM ssl_configs'], user='qvd-api', check=False)
    assert done.returncode != 0 and 'permission denied' in done.stderr
    node.psql('DELETE FROM ssl_configs')
    wait_until(lambda: serial_of(farm) == before, 5, 'the certificate of the files')
    chat(session, b'untouched')


# Versions, ciphers, tickets --------------------------------------------------------------------------

def ask(farm, pair, folder, version):
    """The answer's status, or the name of the alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if pair:
        context.load_cert_chain(*pair.write(folder, 'client'))
    with socket.create_connection(where(farm), 10) as sock:
        try:
            with context.wrap_socket(sock) as tls:
                tls.sendall(b'GET /qvd/ping HTTP/1.1\r\n\r\n')
                return int(tls.recv(1000).split()[1])
        except ssl.SSLError as error:
            return error.reason


def test_the_lowest_version(farm, node, tmp_path):
    """Also by the manual's words."""
    for key, value in (('l7r.ssl.version.min', '1.3'), ('l7r.options.SSL_version', 'TLSv1_3')):
        assert ask(farm, None, tmp_path, V12) == 200
        farm.qa('config', 'set', f'{key}={value}')
        wait_until(lambda: ask(farm, None, tmp_path, V12) == 'TLSV1_ALERT_PROTOCOL_VERSION', 5,
                   'TLS 1.3 only')
        assert ask(farm, None, tmp_path, V13) == 200
        farm.qa('config', 'del', key)
        wait_until(lambda: ask(farm, None, tmp_path, V12) == 200, 5, 'TLS 1.2 again')


def cipher_of(farm):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = V12
    with socket.create_connection(where(farm), 10) as sock, context.wrap_socket(sock) as tls:
        return tls.cipher()[0]


def test_ciphers(farm, node):
    only = 'ECDHE-ECDSA-CHACHA20-POLY1305'
    assert cipher_of(farm) != only
    for key in ('l7r.ssl.ciphers', 'l7r.options.SSL_cipher_list'):
        farm.qa('config', 'set', f'{key}={only}')
        wait_until(lambda: cipher_of(farm) == only, 5, 'the one cipher')
        farm.qa('config', 'del', key)
        wait_until(lambda: cipher_of(farm) != only, 5, 'all ciphers')
    mark = mark_of(farm)
    farm.qa('config', 'set', 'l7r.ssl.ciphers=NO-SUCH-CIPHER')
    wait_log(farm, mark, 'cannot be used: list of ciphers: ')
    assert cipher_of(farm)
    farm.qa('config', 'del', 'l7r.ssl.ciphers')


def resumed(farm, session):
    """(whether it was, the ticket for the next time)"""
    wire = Wire(where(farm), session=session)
    wire.send(request('/qvd/ping'))
    assert Answer(wire).status == 200
    again = session_reused(wire.tls)
    ticket = wire.tls.get_session()
    wire.tls.shutdown()         # OpenSSL takes back the ticket of a connection that was cut
    wire.close()
    return again, ticket


def session_reused(connection):
    from OpenSSL import SSL                 # pylint: disable=import-outside-toplevel
    return bool(SSL._lib.SSL_session_reused(connection._ssl))   # pylint: disable=protected-access


def test_tickets_are_good_at_all_workers_and_after_a_reload(farm, node):
    _, ticket = resumed(farm, None)
    assert all(resumed(farm, ticket)[0] for _ in range(12))     # two workers take turns
    mark = mark_of(farm)
    reload(farm)
    wait_log(farm, mark, 'worker . .* has ended: exit 0')
    assert all(resumed(farm, ticket)[0] for _ in range(12))


def test_keys_of_tickets_change(farm, node):
    """After two changes a ticket is good no more, and a new one is given; nobody notices."""
    _, ticket = resumed(farm, None)
    farm.qa('config', 'set', 'l7r.ssl.tickets.rotate=1s')
    wait_until(lambda: not resumed(farm, ticket)[0], 20, 'the ticket to be out of date')
    again, fresh = resumed(farm, ticket)
    assert not again
    assert resumed(farm, fresh)[0]
    farm.qa('config', 'del', 'l7r.ssl.tickets.rotate')


def test_what_is_decided_before_the_database(farm, node):
    """TLS cannot be taken away by a row; the port of one waits for a restart."""
    mark = mark_of(farm)
    node.psql("INSERT INTO configs (key, value) VALUES ('l7r.use_ssl', '0'), ('l7r.port', '9999')")
    wait_log(farm, mark, 'l7r.use_ssl of the database has no effect: it belongs into node.conf')
    wait_log(farm, mark, 'l7r.port has changed: in force after a restart of qvd-l7r')
    reload(farm)
    wait_log(farm, mark, 'worker . .* has ended: exit 0')
    for _ in range(4):
        assert serial_of(farm)
    node.psql("DELETE FROM configs WHERE key IN ('l7r.use_ssl', 'l7r.port')")


# Clients' certificates -----------------------------------------------------------------------------

def test_without_an_authority_the_demand_is_refused(farm, node):
    """What the database has is kept out; who is served goes on being served."""
    mark = mark_of(farm)
    farm.qa('config', 'set', 'l7r.client.cert.require=1')
    wait_log(farm, mark, 'cannot be used: l7r.client.cert.require = 1 needs the authority')
    wire = Wire(where(farm))
    wire.close()
    farm.qa('config', 'del', 'l7r.client.cert.require')


@pytest.fixture(name='demanded', scope='module')
def demanded_fixture(farm, node, people, tmp_path_factory):
    """Certificates of these people are demanded, by words of the database; then no more."""
    revoked = people.issue('revoked')
    people.revoke(revoked)
    folder = tmp_path_factory.mktemp('certs')
    own = Authority('S').issue('demands', 100, server=True)
    cert, key = own.write(folder, 'own')
    for name, text in (('ca', people.pem), ('crl', people.crl())):
        with open(folder / name, 'w', encoding='ascii') as f:
            f.write(text)
    farm.qa('config', 'ssl', f'cert={cert}', f'key={key}', f'ca={folder / "ca"}',
            f'crl={folder / "crl"}')
    wait_until(lambda: serial_of(farm) == own.serial, 5, 'the certificate of the database')
    mark = mark_of(farm)
    farm.qa('config', 'set', 'l7r.client.cert.require=1')
    wait_log(farm, mark, 'clients must have certificates')
    wait_until(lambda: ask(farm, None, folder, V13) != 200, 5, 'the demand')
    yield {'revoked': revoked, 'good': people.issue('good'), 'expired': people.issue('old', -1),
           'wrong CA': Authority('People of the test').issue('good'), 'none': None}
    farm.qa('config', 'del', 'l7r.client.cert.require')
    node.psql('DELETE FROM ssl_configs')
    wait_until(lambda: ask(farm, None, folder, V13) == 200, 5, 'the end of it')


@pytest.mark.parametrize('version,who,outcome,line', [
    (V13, 'good', 200, None), (V12, 'good', 200, None),
    (V13, 'none', 'TLSV13_ALERT_CERTIFICATE_REQUIRED', 'client certificate: none was sent'),
    (V12, 'none', 'SSLV3_ALERT_HANDSHAKE_FAILURE', 'client certificate: none was sent'),
    (V13, 'expired', 'SSLV3_ALERT_CERTIFICATE_EXPIRED',
     'client certificate CN=old: certificate has expired'),
    (V12, 'expired', 'SSLV3_ALERT_CERTIFICATE_EXPIRED',
     'client certificate CN=old: certificate has expired'),
    (V13, 'revoked', 'SSLV3_ALERT_CERTIFICATE_REVOKED',
     'client certificate CN=revoked: certificate revoked'),
    (V12, 'revoked', 'SSLV3_ALERT_CERTIFICATE_REVOKED',
     'client certificate CN=revoked: certificate revoked'),
    (V13, 'wrong CA', 'TLSV1_ALERT_UNKNOWN_CA|TLSV1_ALERT_DECRYPT_ERROR',
     'client certificate CN=good: '),
    (V12, 'wrong CA', 'TLSV1_ALERT_UNKNOWN_CA|TLSV1_ALERT_DECRYPT_ERROR',
     'client certificate CN=good: ')])
def test_clients_certificates(farm, demanded, tmp_path, version, who, outcome, line):
    mark = mark_of(farm)
    told = ask(farm, demanded[who], tmp_path, version)
    if isinstance(outcome, int):
        assert told == outcome
    else:
        assert re.fullmatch(outcome, str(told))
        wait_log(farm, mark, f'info: handshake with 127.0.0.1: {re.escape(line)}')


def test_a_newer_list_of_revoked_ones_holds_at_once(farm, node, demanded, people, tmp_path):
    """Also for who has been here before: there are no tickets to come back with."""
    pair = people.issue('soon revoked')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*pair.write(tmp_path, 'soon'))
    with socket.create_connection(where(farm), 10) as sock, context.wrap_socket(sock) as tls:
        tls.sendall(b'GET /qvd/ping HTTP/1.1\r\n\r\n')
        assert tls.recv(1000).startswith(b'HTTP/1.1 200')
        assert not tls.session or not tls.session.has_ticket
    people.revoke(pair)
    node.psql(f"UPDATE ssl_configs SET value = '{people.crl()}' WHERE key = 'l7r.ssl.crl'")
    wait_until(lambda: ask(farm, pair, tmp_path, V13) == 'SSLV3_ALERT_CERTIFICATE_REVOKED', 5,
               'the newer list')
    assert ask(farm, demanded['good'], tmp_path, V13) == 200


def test_a_list_that_is_out_of_date_lets_nobody_in(farm, node, demanded, people, tmp_path):
    mark = mark_of(farm)
    node.psql(f"UPDATE ssl_configs SET value = '{people.crl(-0.5)}' WHERE key = 'l7r.ssl.crl'")
    wait_log(farm, mark, 'the list of revoked client certificates is out of date since ')
    assert ask(farm, demanded['good'], tmp_path, V13) != 200
    wait_log(farm, mark, 'client certificate CN=good: CRL has expired')
    node.psql(f"UPDATE ssl_configs SET value = '{people.crl()}' WHERE key = 'l7r.ssl.crl'")
    wait_until(lambda: ask(farm, demanded['good'], tmp_path, V13) == 200, 5, 'the good list')


@pytest.mark.parametrize('who,words', [
    ('good', None), ('none', 'certificate required'), ('expired', 'certificate expired'),
    ('revoked', 'certificate revoked'), ('wrong CA', 'unknown ca|decrypt error')])
def test_qvdclient_shows_a_certificate(farm, vm, demanded, tmp_path, who, words):
    """-c and -k; who is refused reads why."""
    options = ['--list', '--insecure']
    if demanded[who]:
        cert, key = demanded[who].write(tmp_path, 'person')
        options += ['-c', cert, '-k', key]
    farm.users[vm.login] = vm.password
    done = subprocess.run(farm.client_command(vm.login, *options),
                          env={**farm.client_env(), 'HOME': str(tmp_path),
                               'QVDPASSWORD': vm.password},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    if words:
        assert done.returncode != 0 and re.search(words, done.stderr), done.stderr
    else:
        assert done.returncode == 0 and vm.login in done.stdout, done.stderr
