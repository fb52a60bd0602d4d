# SPDX-License-Identifier: GPL-3.0-or-later
"""Where qvdclient's settings come from, what an administrator forces, and each fault of a server's
certificate: its words, what may be accepted, what is remembered."""

import datetime
import ipaddress
import json
import os
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from farm import wait_until
from l7rscript import Server, basic, vm
from test_client import (  # noqa: F401  pylint: disable=unused-import
    client, list_only, one_session, tls)

SYSTEM = '''set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mkdir -p /etc/qvd
printf '%s' "$1" >/etc/qvd/client.conf
[ -z "$2" ] || printf '%s' "$2" >/etc/hosts
umount -l /mnt
shift 2
exec "$@"
'''


def run_with_system(client, text, server, *args, env=None, hosts='', **kwargs):
    """The client on a machine whose /etc/qvd/client.conf (and /etc/hosts) is that text."""
    command = ['unshare', '--mount', 'sh', '-c', SYSTEM, 'sh', text, hosts,
               *client.command(server, *args, **kwargs)]
    done = subprocess.run(command, env={**client.env, **(env or {})}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


# -- layers ----------------------------------------------------------------------------------------

def connect_query(server):
    query = server.requests[-1][0].split('?')[1]
    return dict(pair.split('=') for pair in query.split('&'))


def refusing(c):
    while got := c.request():
        if got[0] == '/qvd/list_of_vm':
            c.vms(vm(7, 'desk'))
        else:
            c.answer(403, 'seen\r\n')
            return


def test_each_layer_is_over_the_one_before(client, pki):  # noqa: F811
    ca = ('--ca', pki.path('ca.pem'))
    system = 'client.geometry = 800x600\nclient.link = modem\nclient.fullscreen = 1\n'
    client.settings('client.link = wan', 'client.geometry = 900x700',
                    'client.nxagent.extra_args = cache=1M')
    with tls(pki, refusing) as server:
        run_with_system(client, system, server, *ca, '-g', '1000x800')
        query = connect_query(server)
        assert query['qvd.client.fullscreen'] == '1'  # /etc/qvd/client.conf
        assert query['qvd.client.link'] == 'wan'  # ~/.qvd/client.conf
        assert query['qvd.client.nxagent.extra_args'] == 'cache%3D1M'
        assert query['qvd.client.geometry'] == '1000x800'  # option
        # The environment is over the files, the option over the environment.
        client.settings('client.host.name = nowhere.invalid', 'client.user.name = carol',
                        f'client.host.port = {server.port}')
        command = [client.command(server)[0], '-l', *ca]
        for env, more, wanted in (({}, ('-h', '127.0.0.1'), 'carol'),
                                  ({'QVDHOST': '127.0.0.1', 'QVDLOGIN': 'dave'}, (), 'dave'),
                                  ({'QVDHOST': 'x.invalid', 'QVDLOGIN': 'dave'},
                                   ('-h', '127.0.0.1', '-u', 'erin'), 'erin')):
            done = subprocess.run([*command, *more], env={**client.env, **env}, timeout=20,
                                  stdin=subprocess.DEVNULL, check=False, capture_output=True)
            assert done.returncode == 0, done.stderr
            assert server.requests[-1][1]['Authorization'] == basic(wanted, 'secret')


def test_what_is_forced_stays(client, pki):  # noqa: F811
    ca = ('--ca', pki.path('ca.pem'))
    system = 'client.force.link = modem\nclient.force.geometry = 640x480\n'
    client.settings('client.link = wan', 'client.force.link = lan')
    with tls(pki, refusing) as server:
        status, _, err = run_with_system(client, system, server, *ca, '-g', '1000x800', '--link',
                                         'local')
        assert status == 7
        query = connect_query(server)
        assert (query['qvd.client.link'], query['qvd.client.geometry']) == ('modem', '640x480')
        for what in ('client.force.link counts in /etc/qvd/client.conf only', '--geometry is ignored',
                     '--link is ignored'):
            assert what in err
        # A server that is forced, over the environment too.
        status, _, err = run_with_system(client, 'client.force.host.name = localhost\n', server, *ca,
                                         '-l', host='127.0.0.2', env={'QVDHOST': '127.0.0.3'})
        assert status == 0, err
        assert server.requests[-1][1]['Host'] == f'localhost:{server.port}'
        # What is forced wrongly is told with its file.
        status, _, err = run_with_system(client, 'client.force.fullscreen = maybe\n', server, *ca)
        assert status == 2 and '/etc/qvd/client.conf: client.force.fullscreen' in err


def test_forced_trust_has_no_way_around(client, pki):  # noqa: F811
    system = 'client.force.ssl.allow_untrusted = 0\n'
    client.settings('client.ssl.allow_untrusted = 1')
    with tls(pki, list_only(), 'untrusted') as server:
        for args in (('-n',), ('--accept-fingerprint', pki.fingerprint('untrusted'))):
            status, _, err = run_with_system(client, system, server, '-l', *args)
            assert status == 4 and 'is ignored: your administrator' in err
            assert 'client.ssl.allow_untrusted = 0' in err
        assert not server.requests


def test_settings_of_the_wrong_kind_and_reserved_ones(client, pki):  # noqa: F811
    with tls(pki, list_only()) as server:
        client.settings('client.audio.enable = 1')
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 0 and 'client.audio.enable' in err and len(err.splitlines()) == 1
        client.settings('command.xauth = /usr/bin/xauth')
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 0 and 'X authority' in err
        client.settings('client.host.port = many')
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 2 and 'client.conf:1' in err and 'client.host.port' in err


@pytest.mark.parametrize('key', ['client.auth_env_share.list', 'client.auth_env.share.list'])
def test_variables_are_shared_with_the_login(client, pki, key):  # noqa: F811
    """l7r-protocol 2: Auth-<HEX(name)>: base64(value)."""
    client.settings('client.auth_env_share.enable = 1', f'{key}.0 = MY_SEAT', f'{key}.1 = UNSET_ONE',
                    f'{key}.2 = bad name')
    with tls(pki, list_only()) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'),
                                    env={'MY_SEAT': 'r2/d2', 'bad name': 'x'})
        assert status == 0 and 'bad name' in err
        shared = {k: v for k, v in server.requests[0][1].items() if k.startswith('Auth-')}
        assert {bytes.fromhex(k[5:]): v for k, v in shared.items()} == {b'MY_SEAT': 'cjIvZDI='}
        client.settings('client.auth_env_share.enable = 0', f'{key}.0 = MY_SEAT')
        client.run(server, '-l', '--ca', pki.path('ca.pem'), env={'MY_SEAT': 'r2/d2'})
        assert not any(k.startswith('Auth-') for k in server.requests[-1][1])


def test_the_log_file(client, pki):  # noqa: F811
    log = os.path.join(client.home, '.qvd/qvd-client.log')
    client.settings('client.log.filename = ~/.qvd/qvd-client.log', 'log.level = DEBUG')
    with tls(pki, refusing) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'),
                                    env={'QVDPASSWORD': 'Canary-4711'})
        assert status == 7 and err == 'qvdclient: refused: seen (403)\n'
        with open(log, encoding='utf-8') as f:
            text = f.read()
        assert 'TLSv1.3' in text and 'refused: seen (403)' in text
        assert 'Canary' not in text and basic('alice', 'Canary-4711')[6:] not in text
        assert os.stat(log).st_mode & 0o7 == 0
        # INFO has what the person read, and no more.
        os.unlink(log)
        client.settings('client.log.filename = ~/.qvd/qvd-client.log')
        client.run(server, '--ca', pki.path('ca.pem'))
        with open(log, encoding='utf-8') as f:
            lines = f.read().splitlines()
        assert len(lines) == 1 and 'refused: seen (403)' in lines[0]
        client.settings('client.log.filename = /nonexistent/log')
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'))
        assert status == 7 and 'log file /nonexistent/log cannot be written' in err


def test_the_locale(client, pki):  # noqa: F811
    client.settings('client.locale = C.UTF-8')
    with tls(pki, one_session()) as server:
        assert client.run(server, '--ca', pki.path('ca.pem'), env={'LC_ALL': 'C'})[0] == 0
        assert client.told()['env']['LC_ALL'] == 'C.UTF-8'
        assert connect_query(server)['qvd.client.locale'] == 'C.UTF-8'
    client.settings('client.locale = xx_YY')
    with tls(pki, list_only()) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 0 and 'client.locale = xx_YY' in err


def test_steps_are_told_on_a_terminal(client, pki):  # noqa: F811
    with tls(pki, refusing) as server:
        status, seen = client.on_terminal(server, '--ca', pki.path('ca.pem'))
    assert status == 7
    words = ['connecting ...', 'asking for the machines ...', 'waiting for the desktop ...']
    assert [w for w in words if w in seen] == words


def test_all_addresses_of_a_name_are_tried(client, pki):  # noqa: F811
    """The first ones refuse; who reads is told of the last only."""
    hosts = '127.0.0.9 localhost\n127.0.0.8 localhost\n127.0.0.1 localhost\n'
    with tls(pki, list_only(vm(7, 'desk'))) as server:
        status, out, err = run_with_system(client, '', server, '--check', '-l', '--ca',
                                           pki.path('ca.pem'), hosts=hosts, host='localhost')
        assert status == 0, err
        assert 'ok      name         3 addresses' in out
        assert f'127.0.0.1:{server.port}' in out
        server.close()
        server.thread.join()
        status, _, err = run_with_system(client, '', server, '-l', hosts=hosts, host='localhost')
        assert status == 5 and err.count('refused') == 1 and len(err.splitlines()) == 1


# -- authorities -----------------------------------------------------------------------------------

def test_places_of_the_systems_authorities(client, pki, tmp_path):  # noqa: F811
    folder = tmp_path / 'authorities'
    folder.mkdir()
    with tls(pki, list_only()) as server:
        for line in (f'path.ssl.ca.system.file = {pki.path("ca.pem")}',
                     f'path.ssl.ca.system.path = /nonexistent:{folder}'):
            client.settings(line)
            if 'path = ' in line:
                assert client.run(server, '-l')[0] == 4
                os.symlink(pki.path('ca.pem'), folder / 'ca.pem')
            assert client.run(server, '-l')[0] == 0
        client.settings('path.ssl.ca.system.file = /nonexistent')
        status, _, err = client.run(server, '-l')
        assert status == 1 and '/nonexistent' in err


def test_personal_authorities_as_the_reference_names_their_folder(client, pki):  # noqa: F811
    """client.md 2.1: relative to ~/.qvd."""
    client.settings('path.ssl.ca.personal = mine')
    os.mkdir(os.path.join(client.home, '.qvd/mine'))
    os.symlink(pki.path('ca.pem'), os.path.join(client.home, '.qvd/mine/ca.crt'))
    with tls(pki, list_only()) as server:
        assert client.run(server, '-l')[0] == 0


# -- faults of certificates ------------------------------------------------------------------------

NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


class Maker:
    """Certificates with any fault, by the authority of `pki`."""

    def __init__(self, pki):
        self.pki = pki
        with open(pki.path('ca.key'), 'rb') as f:
            self.ca_key = serialization.load_pem_private_key(f.read(), None)
        with open(pki.path('ca.pem'), 'rb') as f:
            self.ca = x509.load_pem_x509_certificate(f.read())

    def make(self, name, begin=-1, end=5, key=None, own=False):
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([
            x509.DNSName('localhost'), x509.IPAddress(ipaddress.ip_address('127.0.0.1'))])
        cert = (x509.CertificateBuilder().subject_name(subject)
                .issuer_name(subject if own else self.ca.subject).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(NOW + begin * DAY)
                .not_valid_after(NOW + end * DAY).add_extension(names, False)
                .sign(key if own else self.ca_key, hashes.SHA256()))
        with open(self.pki.path(f'{name}.pem'), 'wb') as f:
            f.write(cert.public_bytes(serialization.Encoding.PEM))
        with open(self.pki.path(f'{name}.key'), 'wb') as f:
            f.write(key.private_bytes(serialization.Encoding.PEM,
                                      serialization.PrivateFormat.TraditionalOpenSSL,
                                      serialization.NoEncryption()))
        return cert

    def revoke(self, cert, name, end=5):
        entry = (x509.RevokedCertificateBuilder().serial_number(cert.serial_number)
                 .revocation_date(NOW - DAY).build())
        crl = (x509.CertificateRevocationListBuilder().issuer_name(self.ca.subject)
               .last_update(NOW - 2 * DAY).next_update(NOW + end * DAY)
               .add_revoked_certificate(entry).sign(self.ca_key, hashes.SHA256()))
        with open(self.pki.path(name), 'wb') as f:
            f.write(crl.public_bytes(serialization.Encoding.PEM))
        return self.pki.path(name)


@pytest.fixture(scope='module', name='maker')
def maker_fixture(pki):  # noqa: F811
    maker = Maker(pki)
    maker.make('notyet', begin=2)
    maker.make('selfsigned', own=True)
    maker.make('weak', key=rsa.generate_private_key(65537, 1024))
    maker.make('late', begin=-9, end=-1)
    maker.revoke(maker.make('revoked'), 'ca.crl')
    maker.revoke(maker.ca, 'old.crl', end=-1)
    return maker


def faulty(pki, name):  # noqa: F811
    server = Server(list_only())
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.set_ciphers('DEFAULT@SECLEVEL=0')
    server.context.load_cert_chain(pki.path(f'{name}.pem'), pki.path(f'{name}.key'))
    return server


# Fault, its number in accepted_certs.json (client.md 2.5), its words, what to do, the key of it.
FAULTS = [
    ('late', 10, 'it has expired (', 'must renew it', 'allow_expired'),
    ('wronghost', 1001, 'it is not for this host', 'by a name that is in it', 'allow_bad_host'),
    ('selfsigned', 18, 'it is self-signed', 'give --ca', 'allow_untrusted'),
    ('untrusted', 20, 'its authority is not known here', 'give --ca', 'allow_untrusted'),
    ('notyet', 9, 'it is not valid yet (', 'clock of this machine', 'allow_not_yet_valid'),
    ('weak', 1003, 'its key is too short', 'make a new one', 'allow_weak_key'),
    ('revoked', 23, 'its authority has revoked it', 'do not connect', 'allow_revoked'),
]


@pytest.mark.parametrize('name,number,words,mend,key', FAULTS)
def test_each_fault_has_its_words_and_its_key(client, pki, maker, name, number, words,  # noqa: F811
                                              mend, key):
    args = ('-l', '--ca', pki.path('ca.pem'), '--crl', pki.path('ca.crl'))
    # Those of key 1 by default may be accepted on a terminal, the others must be allowed first.
    allowed = {'allow_weak_key': False, 'allow_revoked': False}.get(key, True)
    with faulty(pki, name) as server:
        status, _, err = client.run(server, *args)
        assert status == 4 and words in err and mend in err
        assert words in err.splitlines()[-1] and pki.fingerprint(name) in err
        client.settings('client.ssl.error_timeout = 0', f'client.ssl.{key} = 0')
        status, seen = client.on_terminal(server, *args)
        assert status == 4 and f'client.ssl.{key} = 0 does not let you' in seen
        assert not server.requests and 'Accept it?' not in seen
        client.settings('client.ssl.error_timeout = 0', f'client.ssl.{key} = 1')
        status, seen = client.on_terminal(server, *args, answers=[('Accept it?', 'always\n')])
        assert status == 0 and words.rstrip('(').strip() in seen
        assert client.trusted()[f'sha256${pki.fingerprint(name)}']['errors'][-1] == number
        assert client.run(server, *args)[0] == 0
        if not allowed:
            client.settings('client.ssl.error_timeout = 0')
            os.unlink(os.path.join(client.home, '.qvd/accepted_certs.json'))
            assert 'does not let you' in client.on_terminal(server, *args)[1]


def test_an_accepted_fault_does_not_cover_a_second(client, pki, maker):  # noqa: F811
    """Accepted as of an unknown authority; then it expires as well (its entry lacks 10)."""
    with faulty(pki, 'late') as server:
        client.on_terminal(server, '-l', answers=[('Accept it?', 'always\n')])
        path = os.path.join(client.home, '.qvd/accepted_certs.json')
        known = client.trusted()
        entry, = known.values()
        assert {10, 20} <= set(entry['errors'])
        entry['errors'].remove(10)
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(known, f)
        status, _, err = client.run(server, '-l')
        assert status == 4 and 'it has expired' in err
        assert len(server.requests) == 1  # the accepted call's


def test_revocation_by_the_personal_folder_and_its_faults(client, pki, maker):  # noqa: F811
    folder = os.path.join(client.home, '.qvd/certs')
    os.mkdir(folder)
    os.symlink(pki.path('ca.pem'), os.path.join(folder, 'ca.pem'))
    with faulty(pki, 'revoked') as server:
        assert client.run(server, '-l')[0] == 0  # nobody has told
        os.symlink(pki.path('ca.crl'), os.path.join(folder, 'ca.crl'))
        status, _, err = client.run(server, '-l')
        assert status == 4 and 'has revoked it' in err
    with tls(pki, list_only()) as server:
        assert client.run(server, '-l')[0] == 0  # another one of the same authority
        os.unlink(os.path.join(folder, 'ca.crl'))
        os.symlink(pki.path('old.crl'), os.path.join(folder, 'ca.crl'))
        status, _, err = client.run(server, '-l')
        assert status == 4 and 'list of revoked certificates is out of date' in err
        os.unlink(os.path.join(folder, 'ca.crl'))
        client.settings('client.ssl.crl_file = /nonexistent.crl')
        status, _, err = client.run(server, '-l')
        assert status == 1 and '/nonexistent.crl' in err


def test_faults_must_be_read_before_they_are_accepted(client, pki):  # noqa: F811
    client.settings('client.ssl.error_timeout = 2')
    with tls(pki, list_only(), 'untrusted') as server:
        began = datetime.datetime.now()
        status, seen = client.on_terminal(server, '-l', answers=[
            ('you can answer in 2 s', 'always\n'), ('Accept it?', 'no\n')])
        assert status == 4 and not os.path.exists(client.home + '/.qvd/accepted_certs.json')
        assert (datetime.datetime.now() - began).total_seconds() >= 2
        assert 'Read this first' in seen


# -- the way, step by step -------------------------------------------------------------------------

def check(client, server, *args, **kwargs):  # noqa: F811
    """(status, done steps, the failed one with its text, what to do)."""
    status, out, err = client.run(server, '--check', *args, **kwargs)
    lines = out.splitlines()
    ok = [line.split()[1] for line in lines if line.startswith('ok ')]
    failed = [line[8:] for line in lines if line.startswith('FAILED ')]
    mend = [line for line in lines if 'what to do:' in line]
    assert bool(failed) == bool(mend) == (status != 0), (out, err)
    return status, ok, failed[0] if failed else lines[-1], mend[0] if mend else ''


ALL = ['name', 'port', 'TLS', 'certificate', 'login', 'machine', 'display', 'start', 'desktop']


def shown_program(folder, *lines):
    """A nxproxy that says these lines and stays."""
    program = os.path.join(str(folder), 'talker')
    with open(program, 'w', encoding='utf-8') as f:
        f.write('#!/usr/bin/python3\nimport socket, sys\n'
                "path = sys.argv[2].split('connect=unix:')[1].split(',')[0]\n"
                's = socket.socket(socket.AF_UNIX)\ns.connect(path)\n'
                "s.sendall(b'NXPROXY-3.5.0-3.5.99 stream=default,data=default ')\n"
                f'for line in {lines!r}:\n    print(line, file=sys.stderr, flush=True)\n'
                'while s.recv(65536):\n    pass\n')
    os.chmod(program, 0o755)
    return program


VERSION, SHOWN = 'NXPROXY - Version 3.5.99.26', 'Info: Established X server connection.'


def silent(c):
    """A desktop that takes what comes, if anything does."""
    c.request()
    c.vms(vm(7, 'desk'))
    c.request()
    c.switch()
    while c.sock.recv(65536):
        pass


def test_check_of_a_good_way(client, pki, tmp_path):  # noqa: F811
    ca = ('--ca', pki.path('ca.pem'))
    program = shown_program(tmp_path, VERSION, SHOWN)
    with tls(pki, silent) as server:
        status, ok, last, _ = check(client, server, *ca, '--nxproxy', program)
        assert (status, ok, last) == (0, ALL, 'all is well')
    with tls(pki, list_only(vm(7, 'desk'))) as server:
        status, ok, last, _ = check(client, server, *ca, '-l')
        assert (status, ok) == (0, ALL[:5]) and 'list of machines' in last
    with Server(silent) as server:
        status, ok, last, _ = check(client, server, '--no-ssl', '--nxproxy', program)
        assert (status, ok) == (0, ALL[:2] + ALL[4:])


def test_check_names_each_step_that_fails(client, pki, tmp_path):  # noqa: F811
    ca = ('--ca', pki.path('ca.pem'))

    def fails(at, script, *args, what='', context=True, **kwargs):
        server = tls(pki, script) if context else Server(script)
        with server:
            status, ok, text, mend = check(client, server, *ca, *args, **kwargs)
        at_number = ALL.index(at)
        assert (status, ok) == (20 + at_number, ALL[:at_number]), text
        assert text.startswith(at) and what in text, text
        return mend
    assert 'getent' in fails('name', list_only(), what='no.such.host.invalid',
                             host='no.such.host.invalid')
    fails('TLS', lambda c: c.send('HTTP/1.1 400 what\r\n\r\n'), what='TLS', context=False)
    assert 'user@tenant' in fails('login', lambda c: (c.request(), c.answer(401, 'x\r\n')),
                                  what='login refused')
    fails('login', lambda c: (c.request(), c.answer(503, 'blocked\r\n')), what='blocked')
    fails('machine', list_only(), what='there is none')
    fails('machine', list_only(vm(7, 'desk')), '--vm', 'other', what='other')
    fails('display', list_only(vm(7, 'desk')), what='cannot be used', env={'DISPLAY': ':59000'})
    fails('display', list_only(vm(7, 'desk')), '--nxproxy', '/nonexistent', what='nxproxy')
    assert 'logs of qvd-l7r' in fails('start', refusing, what='seen')
    old = shown_program(tmp_path, 'NXPROXY - Version 3.5.0')
    fails('desktop', silent, '--nxproxy', old, what='too old')


def test_check_of_a_closed_port(client, pki):  # noqa: F811
    with tls(pki, list_only()) as server:
        server.close()
        server.thread.join()
        status, ok, text, mend = check(client, server)
    assert (status, ok) == (21, ['name']) and 'refused' in text and 'qvd-l7r' in mend


@pytest.mark.parametrize('name,status', [
    ('untrusted', 30), ('selfsigned', 30), ('wronghost', 31), ('late', 32), ('notyet', 33),
    ('revoked', 34), ('weak', 35)])
def test_check_of_each_fault_of_a_certificate(client, pki, maker, name, status):  # noqa: F811
    with faulty(pki, name) as server:
        got, ok, text, _ = check(client, server, '--ca', pki.path('ca.pem'), '--crl',
                                 pki.path('ca.crl'))
        assert (got, ok) == (status, ['name', 'port', 'TLS']) and text.startswith('certificate')
        assert not server.requests


def test_check_of_a_changed_certificate(client, pki, maker):  # noqa: F811
    with faulty(pki, 'selfsigned') as server:
        client.on_terminal(server, '-l', answers=[('Accept it?', 'always\n')])
        server.context.load_cert_chain(pki.path('changed.pem'), pki.path('changed.key'))
        status, _, text, _ = check(client, server)
        assert status == 36 and 'another than the one that was accepted' in text


# -- nxproxy ---------------------------------------------------------------------------------------

def test_an_old_nxproxy_is_told(client, pki, tmp_path):  # noqa: F811
    old = shown_program(tmp_path, 'NXPROXY - Version 3.5.0', 'more')
    with tls(pki, silent) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), '--nxproxy', old)
    assert status == 1 and 'is version 3.5.0, too old: 3.5.99 or later' in err


def test_nxproxy_has_no_secret_and_no_more_than_it_needs(client, pki):  # noqa: F811
    with tls(pki, one_session(end=False)) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'), env={
            'QVDPASSWORD': 'Canary-4711', 'QVDBEARERTOKEN': '', 'OTHER': 'Canary-4712'})
        told = client.told()
        pid = told['pid']
        assert os.getsid(pid) == pid == os.getpgid(pid)
        with open(f'/proc/{pid}/environ', 'rb') as f:
            assert b'Canary' not in f.read()
        with open(f'/proc/{pid}/cmdline', 'rb') as f:
            assert b'Canary' not in f.read()
        with open(f'/proc/{pid}/limits', encoding='ascii') as f:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in f}
        assert limits['Max core file size'] == ['0', '0']
        assert limits['Max open files'] == ['256', '256']
        assert limits['Max address space'] == [str(4 << 30)] * 2
        process.terminate()
        assert process.wait(10) == 0
        wait_until(lambda: not os.path.exists(f'/proc/{pid}'), 5, 'its end')
