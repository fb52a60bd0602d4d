# SPDX-License-Identifier: GPL-3.0-or-later
"""qvdclient against a scripted server: certificates, refusals, choices, progress, the session."""

import glob
import json
import os
import pty
import secrets
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import termios
import threading
import time

import pytest

from farm import installed_tree, sanitized, wait_until
from l7rscript import Server, basic, false_nxproxy, vm

TREE = None


@pytest.fixture
def client(tmp_path, screen):
    """Runs qvdclient with a home of its own."""
    global TREE  # pylint: disable=global-statement
    TREE = TREE or installed_tree()
    return Client(tmp_path, screen.display)


class Client:
    def __init__(self, folder, display):
        self.home = str(folder / 'home')
        os.makedirs(os.path.join(self.home, '.qvd'))
        self.settings('client.ssl.error_timeout = 0')
        self.runtime_dir = tempfile.TemporaryDirectory(prefix='qvdrun-')  # short, for a socket
        self.runtime = self.runtime_dir.name
        self.env = {'PATH': os.environ['PATH'], 'HOME': self.home, 'DISPLAY': display, 'TZ': 'UTC',
                    'XDG_RUNTIME_DIR': self.runtime, 'QVDPASSWORD': 'secret',
                    'LC_ALL': 'C.UTF-8'}
        self.nxproxy, self.told_file = false_nxproxy(str(folder))

    def settings(self, *lines):
        """The person's own client.conf."""
        with open(os.path.join(self.home, '.qvd/client.conf'), 'w', encoding='utf-8') as f:
            f.writelines(line + '\n' for line in lines)

    def command(self, server, *args, host='127.0.0.1'):
        return [os.path.join(TREE, 'usr/bin/qvdclient'), '-h', host, '-p', str(server.port), '-u',
                'alice', '--nxproxy', self.nxproxy, *args]

    def start(self, server, *args, host='127.0.0.1', env=None, **kwargs):
        kwargs.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.Popen(self.command(server, *args, host=host),
                                env={**self.env, **(env or {})}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True,
                                **kwargs)

    def run(self, server, *args, timeout=30, **kwargs):
        process = self.start(server, *args, **kwargs)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    def on_terminal(self, server, *args, answers=(), env=None, timeout=30):
        """The same on a terminal: for each (text to wait for, what to type or a signal to send);
        status and all that was seen, and ECHO-OFF if the terminal was left so."""
        master, slave = pty.openpty()
        process = subprocess.Popen(self.command(server, *args), env={**self.env, **(env or {})},
                                   stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True)
        seen, at, deadline = '', 0, time.monotonic() + timeout
        answers = list(answers)
        while True:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.05)[0]:
                seen += os.read(master, 65536).decode(errors='replace')
            elif process.poll() is not None:
                break
            if answers and answers[0][0] in seen[at:]:
                at = len(seen)
                answer = answers.pop(0)[1]
                if isinstance(answer, str):
                    os.write(master, answer.encode())
                else:
                    process.send_signal(answer)
        if not termios.tcgetattr(slave)[3] & termios.ECHO:
            seen += 'ECHO-OFF'
        os.close(slave)
        os.close(master)
        assert not answers, seen
        return process.returncode, seen

    def told(self):
        wait_until(lambda: os.path.exists(self.told_file), 10, 'the word of nxproxy')
        with open(self.told_file, encoding='utf-8') as f:
            return json.load(f)

    def trusted(self):
        with open(os.path.join(self.home, '.qvd/accepted_certs.json'), encoding='utf-8') as f:
            return json.load(f)


def list_only(*vms):
    def script(c):
        while c.request():
            c.vms(*vms)
    return script


def one_session(early=b'', hello=b'NX-SERVER-HELLO', end=True):
    """The whole way: list, two 102s, 101, a few bytes each way."""
    def script(c):
        assert c.request()[0] == '/qvd/list_of_vm'
        c.vms(vm(7, 'desk'))
        assert c.request()[0].startswith('/qvd/connect_to_vm?id=7&')
        c.info('Session acquired')
        c.info('Starting virtual machine')
        c.switch(early)
        c.receive(b'NXPROXY-3.5.0-3.5.99 stream=default,data=default ')
        c.send(hello)
        if end:
            c.send(b' BYE')
        while c.sock.recv(65536):
            pass
    return script


def tls(pki, script, name='good', **kwargs):
    return Server(script, pki.path(f'{name}.pem'), pki.path(f'{name}.key'), **kwargs)


# -- lists and choices -----------------------------------------------------------------------------

def test_list_as_the_reference_shows_it(client, pki):
    with tls(pki, list_only(vm(1, 'one'), vm(22, 'two', 'stopped', 1))) as server:
        status, out, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
    assert (status, err) == (0, '')
    lines = out.splitlines()
    assert lines[2] == '=' * 74
    assert lines[3].split() == ['1', 'running', 'one', 'no']
    assert lines[4].split() == ['22', 'stopped', 'two', 'yes']
    (target, headers), = server.requests
    assert target == '/qvd/list_of_vm'
    assert headers['Authorization'] == basic('alice', 'secret')
    assert headers['Accept'] == 'application/json'


def test_list_as_json(client, pki):
    with tls(pki, list_only(vm(1, 'a "b" \\ \x1b'), vm(2, 'ñandú'))) as server:
        status, out, _ = client.run(server, '--list', '--json', env={'QVD_CA': pki.path('ca.pem')})
    assert status == 0
    assert [v['name'] for v in json.loads(out)] == ['a "b" \\ \x1b', 'ñandú']


def test_a_name_cannot_speak_to_the_terminal(client, pki):
    with tls(pki, list_only(vm(1, 'a\x1b[2Jb'))) as server:
        _, out, _ = client.run(server, '-l', '--ca', pki.path('ca.pem'))
    assert '\x1b' not in out and 'a?[2Jb' in out


@pytest.mark.parametrize('args,wanted', [(('-o',), 3), (('--vm', 'four'), 4), (('--vm', '5'), 5)])
def test_choice_by_option(client, pki, args, wanted):
    def script(c):
        c.request()
        c.vms(vm(3, 'three'), vm(4, 'Four'), vm(5, 'five'))
        assert c.request()[0].startswith(f'/qvd/connect_to_vm?id={wanted}&')
        c.answer(503, 'enough\r\n')
    with tls(pki, script) as server:
        status, _, err = client.run(server, *args, '--ca', pki.path('ca.pem'))
        assert (status, err) == (8, 'qvdclient: not available now: enough (503)\n')


def test_choice_without_terminal_or_machine(client, pki):
    with tls(pki, list_only(vm(1, 'a'), vm(2, 'b'))) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'))
        assert status == 6 and '--vm' in err and len(err.splitlines()) == 1
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), '--vm', 'c')
        assert status == 6 and err == ('qvdclient: c is none of your virtual machines; '
                                       'qvdclient -l lists them\n')
    with tls(pki, list_only()) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'))
        assert status == 6 and 'no virtual machine' in err


def test_choice_on_a_terminal(client, pki):
    def script(c):
        c.request()
        c.vms(vm(3, 'office'), vm(4, 'lab'))
        assert c.request()[0].startswith('/qvd/connect_to_vm?id=4&')
        c.answer(403, 'no\r\n')
    with tls(pki, script) as server:
        status, seen = client.on_terminal(server, '--ca', pki.path('ca.pem'), answers=[
            ('Which one?', 'nothing\n'), ('Which one?', 'la\n')])
    assert status == 7 and 'refused: no (403)' in seen


# -- passwords -------------------------------------------------------------------------------------

def no_env(client):
    del client.env['QVDPASSWORD']
    return client


def authorization(server):
    return server.requests[-1][1]['Authorization']


def test_password_by_file_input_and_option(client, pki, tmp_path):
    secret = tmp_path / 'pw'
    secret.write_text('from a file\nrest\n')
    no_env(client)
    with tls(pki, list_only()) as server:
        ca = ('-l', '--ca', pki.path('ca.pem'))
        assert client.run(server, *ca, '--password-file', str(secret))[0] == 0
        assert authorization(server) == basic('alice', 'from a file')
        with open(secret, encoding='utf-8') as f:
            assert client.run(server, *ca, '-w', '-', stdin=f)[0] == 0
        assert authorization(server) == basic('alice', 'from a file')
        status, _, err = client.run(server, *ca, '-w', 'on the line')
        assert status == 0 and 'warning' in err
        assert authorization(server) == basic('alice', 'on the line')
        status, _, err = client.run(server, *ca)
        assert status == 10 and 'no password' in err


def test_password_on_the_line_leaves_the_process_table(client, pki):
    def script(c):
        c.request()
        c.sock.recv(1)
    with tls(pki, script) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'), '-w', 'Canary-4711')
        wait_until(lambda: server.requests, 10, 'the request')
        with open(f'/proc/{process.pid}/cmdline', 'rb') as f:
            assert b'Canary' not in f.read()
        with open(f'/proc/{process.pid}/environ', 'rb') as f:
            assert b'QVDPASSWORD=secret' not in f.read()
        process.terminate()
        assert process.wait(10) == 10


def test_password_asked_without_echo(client, pki):
    no_env(client)
    with tls(pki, list_only(vm(1, 'one'))) as server:
        status, seen = client.on_terminal(server, '-l', '--ca', pki.path('ca.pem'),
                                          answers=[('Password: ', 'Hidden-4711\n')])
        assert status == 0 and 'Hidden' not in seen
        assert authorization(server) == basic('alice', 'Hidden-4711')


@pytest.mark.parametrize('signo', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_question(client, pki, signo):
    with tls(pki, list_only(vm(1, 'one'), vm(2, 'two')), 'untrusted') as server:
        status, seen = client.on_terminal(server, answers=[('Accept it?', signo)])
        assert status in (4, 10) and 'ECHO-OFF' not in seen
        nothing_was_told(server)
        status, seen = client.on_terminal(server, '-n', answers=[('Which one?', signo)])
        assert status in (6, 10)
        no_env(client)
        status, seen = client.on_terminal(server, '-n', answers=[('Password: ', signo)])
        assert status == 10 and 'ECHO-OFF' not in seen


def test_token(client, pki):
    with tls(pki, list_only()) as server:
        status, _, _ = client.run(server, '-l', '--ca', pki.path('ca.pem'),
                                  env={'QVDBEARERTOKEN': 'tok'})
        assert status == 0 and authorization(server) == 'Bearer dG9r'
    with tls(pki, lambda c: (c.request(), c.answer(401, 'Unauthorized\r\n'))) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'), '--token', 'tok')
        assert (status, err) == (3, 'qvdclient: login refused: the token is unknown, used or out of '
                                    'date, or its user is blocked (401); ask for a new one\n')


# -- certificates ----------------------------------------------------------------------------------

def nothing_was_told(server):
    """Not a byte of a request came."""
    assert not server.requests


@pytest.mark.parametrize('name,fault', [
    ('untrusted', 'its authority is not known here'),
    ('expired', 'it has expired ('),
    ('wronghost', 'it is not for this host')])
def test_a_faulty_certificate_needs_a_person(client, pki, name, fault):
    with tls(pki, list_only(), name) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 4
        assert fault in err and pki.fingerprint(name) in err and '--accept-fingerprint' in err
        nothing_was_told(server)
        # Its fingerprint makes it good, whatever its form.
        pairs = pki.fingerprint(name).upper()
        colons = ':'.join(pairs[i:i + 2] for i in range(0, 64, 2))
        status, _, err = client.run(server, '-l', '--accept-fingerprint', colons)
        assert (status, err) == (0, '')
        # Another one's does not.
        status, _, _ = client.run(server, '-l', '--accept-fingerprint', '0' * 64)
        assert status == 4


def test_insecure_warns(client, pki):
    with tls(pki, list_only(), 'expired') as server:
        status, _, err = client.run(server, '-l', '-n')
        assert status == 0 and 'warning' in err


def test_trust_once_and_always_and_changed(client, pki):
    with tls(pki, list_only(), 'untrusted') as server:
        status, seen = client.on_terminal(server, '-l', answers=[('Accept it?', 'no\n')])
        assert status == 4 and 'changed' not in seen.lower()
        assert pki.fingerprint('untrusted')[:2] + ':' in seen and 'CN=untrusted' in seen
        nothing_was_told(server)
        status, _ = client.on_terminal(server, '-l', answers=[('Accept it?', 'once\n')])
        assert status == 0
        assert client.run(server, '-l')[0] == 4  # it was for once
        status, _ = client.on_terminal(server, '-l', answers=[('Accept it?', 'what\n'),
                                                               ('Accept it?', 'always\n')])
        assert status == 0
        assert client.run(server, '-l')[0] == 0
        entry = client.trusted()[f'sha256${pki.fingerprint("untrusted")}']
        assert entry['algo'] == 'sha256' and entry['errors'] and 'untrusted' in entry['description']
        assert entry['hosts'] == [f'127.0.0.1:{server.port}']
        assert os.stat(os.path.join(client.home, '.qvd/accepted_certs.json')).st_mode & 0o77 == 0
        # The same certificate on another port is another server.
        with tls(pki, list_only(), 'untrusted') as second:
            assert client.run(second, '-l')[0] == 4
        # Another certificate of this server: loud, and nothing told.
        server.context.load_cert_chain(pki.path('changed.pem'), pki.path('changed.key'))
        before = len(server.requests)
        status, seen = client.on_terminal(server, '-l', answers=[('Accept it?', 'no\n')])
        assert status == 4 and 'ANOTHER certificate' in seen
        assert len(server.requests) == before
        # Accepted, it takes the place of the former.
        status, _ = client.on_terminal(server, '-l', answers=[('Accept it?', 'always\n')])
        assert status == 0
        assert list(client.trusted()) == [f'sha256${pki.fingerprint("changed")}']


def test_an_accepted_certificate_is_silent_for_its_faults_only(client, pki):
    with tls(pki, list_only(), 'untrusted') as server:
        client.on_terminal(server, '-l', answers=[('Accept it?', 'always\n')])
        path = os.path.join(client.home, '.qvd/accepted_certs.json')
        known = client.trusted()
        for entry in known.values():
            entry['errors'] = [10]
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(known, f)
        assert client.run(server, '-l')[0] == 4
        with open(path, 'w', encoding='utf-8') as f:
            f.write('{nonsense')
        assert client.run(server, '-l')[0] == 4


def test_personal_authorities_and_settings(client, pki):
    os.mkdir(os.path.join(client.home, '.qvd/certs'))
    with tls(pki, list_only()) as server:
        assert client.run(server, '-l')[0] == 4
        os.symlink(pki.path('ca.pem'), os.path.join(client.home, '.qvd/certs/mine.pem'))
        assert client.run(server, '-l')[0] == 0
    with tls(pki, list_only(), 'expired') as server:
        client.settings('client.ssl.allow_expired = 0')
        status, seen = client.on_terminal(server, '-l')
        assert status == 4 and 'client.ssl.allow_' in seen


def test_client_certificate(client, pki):
    with tls(pki, list_only(), client_ca=pki.path('ca.pem')) as server:
        args = ('-l', '--ca', pki.path('ca.pem'))
        assert client.run(server, *args, '-c', pki.path('client.pem'), '-k',
                          pki.path('client.key'))[0] == 0
        status, _, err = client.run(server, *args)
        assert status == 5 and len(err.splitlines()) == 1
        assert 'certificate required' in err or 'reset' in err or 'closed' in err, err
        status, _, err = client.run(server, *args, '-c', pki.path('client.pem'))
        assert status == 2 and 'key' in err


def test_tls_1_2_works_and_plain_is_said(client, pki):
    with tls(pki, list_only(), max_version=ssl.TLSVersion.TLSv1_2) as server:
        assert client.run(server, '-l', '--ca', pki.path('ca.pem'))[0] == 0

    def plain(c):
        c.buffer = c.sock.recv(65536)
        if c.buffer[:1] == b'\x16':  # a TLS hello
            c.answer(400, 'what\r\n')
        else:
            list_only(vm(1, 'a'))(c)
    with Server(plain) as server:
        status, _, err = client.run(server, '-l')
        assert status == 5 and 'TLS' in err
        status, _, err = client.run(server, '-l', '--no-ssl')
        assert status == 0 and 'without TLS everybody' in err
        # A public address (RFC 5737) never gets a password in plain text.
        status, _, err = client.run(server, '-l', '--no-ssl', host='192.0.2.1')
        assert status == 2 and 'not in a private network' in err


# -- refusals --------------------------------------------------------------------------------------

LOGIN_REFUSED = ('login refused: wrong user or password, or a blocked account (401); check both (with '
                 'several tenants: user@tenant), or ask your administrator')


@pytest.mark.parametrize('at,status,body,exit_status,line', [
    ('list', 401, 'x\r\n', 3, LOGIN_REFUSED),
    ('list', 404, 'x\r\n', 5, '127.0.0.1:{port} is not a QVD server; check host and port, or let '
     'qvdclient --check look'),
    ('list', 503, 'Server is blocked\r\nmore', 8, 'not available now: Server is blocked (503)'),
    ('list', 500, 'oops\x1b[2J\r\n', 8, 'the server answered 500: oops?[2J'),
    ('connect', 401, 'x\r\n', 3, LOGIN_REFUSED),
    ('connect', 403, 'VM is blocked\r\n', 7, 'refused: VM is blocked (403)'),
    ('connect', 404, 'x\r\n', 6, 'the virtual machine is not there any more (404)'),
    ('connect', 426, 'old\r\n', 1, 'the server wants another version of this client: old (426)'),
    ('connect', 503, 'try later\r\n', 8, 'not available now: try later (503)'),
    ('connect', 200, 'x\r\n', 5, '127.0.0.1:{port} did not switch to the desktop; check host and '
     'port, or let qvdclient --check look')])
def test_each_refusal_is_one_clear_line(client, pki, at, status, body, exit_status, line):
    def script(c):
        c.request()
        if at == 'list':
            c.answer(status, body)
            return
        c.vms(vm(7, 'desk'))
        c.request()
        c.answer(status, body)
    with tls(pki, script) as server:
        code, out, err = client.run(server, '--ca', pki.path('ca.pem'))
        assert (code, out) == (exit_status, '')
        assert err == f'qvdclient: {line.format(port=server.port)}\n'


def test_no_server_no_name_no_http(client, pki):
    with tls(pki, lambda c: (c.request(), c.send('SSH-2.0-x\r\n\r\n'))) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 5 and 'HTTP' in err
    with tls(pki, lambda c: c.request()) as server:
        status, _, err = client.run(server, '-l', '--ca', pki.path('ca.pem'))
        assert status == 5 and 'closed the connection' in err
        server.close()
        server.thread.join()
        status, _, err = client.run(server, '-l')
        assert status == 5 and 'cannot be reached' in err
        status, _, err = client.run(server, '-l', host='no.such.host.invalid')
        assert status == 5 and 'no.such.host.invalid' in err


def test_usage(client, pki):
    def run(*args):
        p = subprocess.run([os.path.join(TREE, 'usr/bin/qvdclient'), *args], env=client.env,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                           check=False)
        return p.returncode, p.stdout, p.stderr
    assert run('-?')[0] == 0 and '--accept-fingerprint' in run('--help')[1]
    assert run('-v') == (0, 'qvdclient 0.2.0\n', '')
    for args in (('-z',), ('--nonsense',), ('-h',), ('word',), ('-p', '0'), ('-g', '10'), (),
                 ('-h', 'localhost'), ('--accept-fingerprint', 'abc'),
                 ('--config', '/nonexistent')):
        status, out, err = run(*args)
        assert status == 2 and not out and len(err.splitlines()) == 1, (args, err)


@pytest.mark.parametrize('args, exit_status, line', [
    ((), 2, 'no server is named; qvdclient --help tells the options'),
    (('-h', 'localhost'), 2, 'no user is named; qvdclient --help tells the options'),
    (('-p', '65536'), 2, '--port = 65536: a number from 1 to 65535 expected'),
    (('-g', '10'), 2, '--geometry = 10: WIDTHxHEIGHT as 1024x768, each at least 64 expected'),
    (('--link', 'fast'), 2, '--link = fast: modem, isdn, adsl, wan, lan, local or a rate as 56k, '
                            '1m, 100m expected'),
    (('--keyboard', 'pc105/es,root=/'), 2, '--keyboard = pc105/es,root=/: MODEL/LAYOUT as pc105/es '
                                           'expected'),
    (('--timezone', 'Europe Madrid'), 2, '--timezone = Europe Madrid: a name as Europe/Madrid '
                                         'expected'),
    (('--reconnect', 'x'), 2, '--reconnect = x: seconds, from 0 to 86400 expected'),
    (('--password-file', '/nonexistent'), 2, '/nonexistent: no password can be read: No such file '
                                             'or directory'),
    (('--password-file', '/dev/null'), 2, '/dev/null: no password can be read: it is empty'),
    (('--ca', '/nonexistent'), 1, '/nonexistent: No such file or directory'),
    (('--crl', '/nonexistent'), 1, '/nonexistent: No such file or directory'),
    (('-c', '/dev/null', '-k', '/nonexistent'), 1, '/dev/null: not in PEM form'),
    (('-c', '/dev/null'), 2, 'a client certificate needs its key, and a key its certificate; '
                             'qvdclient --help tells the options'),
])
def test_each_wrong_word_is_named_with_what_is_right(client, args, exit_status, line):
    """One line: what, and what is taken. Nothing has been asked of any server."""
    last = (*args, '-h', '127.0.0.1', '-u', 'ann') if args and args[0] != '-h' else args
    p = subprocess.run([os.path.join(TREE, 'usr/bin/qvdclient'), *last], stdin=subprocess.DEVNULL,
                       env={**client.env, 'QVDPASSWORD': 'x'}, capture_output=True, text=True,
                       timeout=20, check=False)
    assert (p.returncode, p.stderr) == (exit_status, f'qvdclient: {line}\n')


def test_a_server_with_tls_is_told_when_we_have_none(client, pki):
    with tls(pki, list_only()) as server:
        status, _, err = client.run(server, '-l', '--no-ssl')
    assert status == 5 and err.endswith('leave --no-ssl (client.use_ssl = 0) out\n')


def test_idle_connection_lost_while_choosing(client, pki):
    """A server that closes while the person thinks: the client dials again."""
    def script(c):
        target, _ = c.request()
        if target == '/qvd/list_of_vm':
            c.vms(vm(3, 'a'), vm(4, 'b'))
        else:
            c.answer(403, 'reached\r\n')
    with tls(pki, script) as server:
        status, seen = client.on_terminal(server, '--ca', pki.path('ca.pem'),
                                          answers=[('Which one?', 'a\n')])
        assert status == 7 and 'reached' in seen


def test_restart(client, pki):
    def script(c):
        c.request()
        c.vms(vm(7, 'desk'))
        assert c.request()[0] == '/qvd/stop_vm?id=7'
        c.info('Stopping')
        c.answer(200, 'Machine stopped\r\n')
        assert c.request()[0].startswith('/qvd/connect_to_vm?id=7&')
        c.answer(503, 'later\r\n')
    with tls(pki, script) as server:
        assert client.run(server, '--restart-vm', '--ca', pki.path('ca.pem'))[0] == 8


# -- the session -----------------------------------------------------------------------------------

def test_the_keyboard_is_that_of_the_display(client, pki):
    with tls(pki, one_session()) as server:
        assert client.run(server, '--ca', pki.path('ca.pem'))[0] == 0
    assert 'qvd.client.keyboard=pc105%2Fus&' in server.requests[1][0]  # Xvfb's own


def test_a_session_from_end_to_end(client, pki):
    with tls(pki, one_session()) as server:
        status, out, err = client.run(
            server, '--ca', pki.path('ca.pem'), '-g', '800x600', '-f', '--link', 'lan',
            '--keyboard', 'pc105/es', '-x', 'a=b,c=d', '--nxproxy-options', 'cache=8M')
        told = client.told()
    assert (status, out) == (0, '')
    assert err.splitlines() == ['qvdclient: Session acquired',
                                'qvdclient: Starting virtual machine']
    path, query = server.requests[1][0].split('?')
    assert path == '/qvd/connect_to_vm'
    assert dict(pair.split('=') for pair in query.split('&')) == {
        'id': '7', 'qvd.client.os': 'linux', 'qvd.client.link': 'lan',
        'qvd.client.geometry': '800x600', 'qvd.client.fullscreen': '1',
        'qvd.client.keyboard': 'pc105%2Fes', 'qvd.client.timezone': 'UTC',
        'qvd.client.locale': 'C.UTF-8', 'qvd.client.depth': '24', 'qvd.client.monitors': '1',
        'qvd.client.printing.enabled': '0', 'qvd.client.nxagent.extra_args': 'a%3Db%2Cc%3Dd'}
    headers = server.requests[1][1]
    assert (headers['Connection'], headers['Upgrade']) == ('Upgrade', 'QVD/1.0')
    assert headers['Authorization'] == basic('alice', 'secret')
    # nxproxy as the measured facts want it, in a private folder that is gone afterwards.
    root = told['root']
    assert told['argv'][1:] == ['-S', f'nx/nx,connect=unix:{root}/nx,root={root},'
                                f'id=qvd-{root.rsplit("-", 1)[1]},cache=8M:40']
    assert told['mode'] == '0o40700' and root.startswith(client.runtime)
    assert not os.path.exists(root)
    assert told['env']['NX_CLIENT'] == '/bin/true'
    assert told['env']['DISPLAY'] == client.env['DISPLAY']
    assert not any('secret' in value for value in told['env'].values())
    assert told['fds'] == ['0', '1', '2', '3']  # the last is the listing itself
    assert told['heard'] == 'NX-SERVER-HELLO BYE'


@pytest.mark.parametrize('early', [b'', b'EARLY '])
@pytest.mark.parametrize('record', ['together', 'apart', 'bytes'])
def test_101_and_first_bytes_in_any_records(client, pki, early, record):
    def script(c):
        c.request()
        c.vms(vm(7, 'desk'))
        c.request()
        if record == 'together':
            c.switch(early)
        else:
            head = b'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 101 x\r\nX-QVD-Slave-Key: k\r\n\r\n'
            for i in range(0, len(head), 1 if record == 'bytes' else 1000):
                c.send(head[i:i + (1 if record == 'bytes' else 1000)])
            if early:
                c.send(early)
        c.receive(b'data=default ')
        c.send(b'BYE')
        while c.sock.recv(65536):
            pass
    with tls(pki, script) as server:
        assert client.run(server, '--ca', pki.path('ca.pem'))[0] == 0
        assert client.told()['heard'] == (early + b'BYE').decode()


def test_much_data_both_ways(client, pki, tmp_path):
    """8 MiB each way through client and relay, intact, with a slow reader."""
    blob = os.urandom(1 << 20) * 8
    program = tmp_path / 'mirror'
    program.write_text('''#!/usr/bin/python3
import socket, sys, time
path = sys.argv[2].split('connect=unix:')[1].split(',')[0]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(b'NXPROXY-x ')
n, slow = 0, 0
while n < 8 << 20:
    data = s.recv(65536)
    if not data:
        break
    n += len(data)
    if slow < 10:
        slow += 1
        time.sleep(0.02)
    s.sendall(data)
s.shutdown(socket.SHUT_WR)
while s.recv(65536):
    pass
''')
    program.chmod(0o755)
    got = []

    def script(c):
        c.request()
        c.vms(vm(7, 'desk'))
        c.request()
        c.switch()
        c.receive(b'NXPROXY-x ')
        sender = threading.Thread(target=c.send, args=(blob,))
        sender.start()
        data = c.buffer
        while len(data) < len(blob):
            piece = c.sock.recv(1 << 18)
            if not piece:
                break
            data += piece
        sender.join()
        got.append(data == blob)
    with tls(pki, script) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), '--nxproxy', str(program),
                                    timeout=60)
        assert status == 0, err
        wait_until(lambda: got, 10, 'the last byte at the server')
        assert got == [True]


def test_signals_end_it_cleanly(client, pki):
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with tls(pki, one_session(end=False)) as server:
            process = client.start(server, '--ca', pki.path('ca.pem'))
            told = client.told()
            process.send_signal(signo)
            assert process.wait(10) == 0, process.stderr.read()
            process.stdout.close()
            process.stderr.close()
            assert not os.path.exists(told['root'])
            assert not os.path.exists(f'/proc/{told["pid"]}')
            os.unlink(client.told_file)
            wait_until(lambda s=server: s.ends, 5, 'the end at the server')


def test_killed_it_takes_nxproxy_along(client, pki):
    with tls(pki, one_session(end=False)) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'))
        pid = client.told()['pid']
        process.kill()
        process.communicate()
        wait_until(lambda: not os.path.exists(f'/proc/{pid}'), 5, 'the end of nxproxy')
        wait_until(lambda: server.ends, 5, 'the end at the server')
        # What it left is swept by a later one, once it is old; a living one's folder is not.
        left, = glob.glob(f'{client.runtime}/qvdclient-*')
        os.unlink(client.told_file)
        living = client.start(server, '--ca', pki.path('ca.pem'))
        root = client.told()['root']
        for path in (left, root):
            os.utime(path, (1, 1))
        os.unlink(client.told_file)
        third = client.start(server, '--ca', pki.path('ca.pem'))
        client.told()
        assert not os.path.exists(left) and os.path.exists(root)
        for process in (living, third):
            process.terminate()
            process.communicate(timeout=10)
        assert not glob.glob(f'{client.runtime}/*')


def test_the_server_ends_the_session(client, pki):
    def script(c):
        c.request()
        c.vms(vm(7, 'desk'))
        c.request()
        c.switch()
        c.receive(b'NXPROXY')
        c.send('hello')
        wait_until(lambda: os.path.exists(client.told_file), 10)
    with tls(pki, script) as server:
        assert client.run(server, '--ca', pki.path('ca.pem'))[0] == 0

    def nothing(c):
        c.request()
        c.vms(vm(7, 'desk'))
        c.request()
        c.switch()
        c.receive(b'NXPROXY')
    with tls(pki, nothing) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'))
        assert status == 9 and 'before the desktop came' in err


def test_nxproxy_fails_or_is_missing(client, pki, tmp_path):
    def script(c):
        if c.request():
            c.vms(vm(7, 'desk'))
            if c.request():
                c.switch()
                c.sock.recv(100)
    with tls(pki, script) as server:
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), '--nxproxy',
                                    '/nonexistent/nxproxy')
        assert status == 1 and 'install the package nxproxy' in err
        assert len(server.requests) == 1  # no desktop was asked for
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), env={'DISPLAY': ''})
        assert status == 1 and 'DISPLAY' in err
        os.mkdir(tmp_path / 'bad')
        program, _ = false_nxproxy(str(tmp_path / 'bad'), fail='cannot open the display')
        status, _, err = client.run(server, '--ca', pki.path('ca.pem'), '--nxproxy', program)
        assert status == 9 and 'cannot open the display' in err


def test_several_at_once(client, pki):
    """Each finds its own folder, socket and name."""
    with tls(pki, one_session(end=False)) as server:
        processes = []
        roots = set()
        for _ in range(3):
            processes.append(client.start(server, '--ca', pki.path('ca.pem')))
            roots.add(client.told()['root'])
            os.unlink(client.told_file)
        assert len(roots) == 3
        for process in processes:
            process.terminate()
            process.communicate(timeout=10)
            assert process.returncode == 0


def test_no_secret_in_the_debug_output(client, pki):
    with tls(pki, one_session()) as server:
        status, _, err = client.run(server, '-d', '--ca', pki.path('ca.pem'),
                                    env={'QVDPASSWORD': 'Canary-4711'})
        assert status == 0
        assert 'TLSv1.3' in err and 'Canary' not in err and basic('alice', 'Canary-4711') not in err


# -- the X display, with a real nxagent ------------------------------------------------------------

class LockedScreen:
    """An X server that lets nobody in without its cookie."""

    def __init__(self, folder):
        self.authority = os.path.join(folder, 'authority')
        server = os.path.join(folder, 'server-authority')
        cookie = secrets.token_hex(16)
        read_end, write_end = os.pipe()
        # The number is the server's choice, and the cookie must be there before it: for any number.
        write_authority(server, '', cookie)
        self.process = subprocess.Popen(
            ['Xvfb', '-displayfd', str(write_end), '-screen', '0', '640x480x24', '-nolisten', 'tcp',
             '-noreset', '-auth', server], pass_fds=[write_end], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(write_end)
        with os.fdopen(read_end) as f:
            number = f.readline().strip()
        self.display = ':' + number
        write_authority(self.authority, '99', secrets.token_hex(16), 'ab')
        write_authority(self.authority, number, cookie, 'ab')

    def windows(self):
        """Names of the top-level windows."""
        from Xlib import display  # pylint: disable=import-outside-toplevel
        before = os.environ.get('XAUTHORITY')
        os.environ['XAUTHORITY'] = self.authority
        try:
            connection = display.Display(self.display)
        finally:
            os.environ.pop('XAUTHORITY')
            if before is not None:
                os.environ['XAUTHORITY'] = before
        try:
            return [w.get_wm_name() for w in connection.screen().root.query_tree().children]
        finally:
            connection.close()

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def write_authority(path, number, cookie, mode='wb'):
    """An entry of an Xauthority file: family, address, number, name, data (FamilyLocal: 256)."""
    def field(data):
        return len(data).to_bytes(2, 'big') + data
    with open(path, mode) as f:
        f.write((256).to_bytes(2, 'big') + field(os.uname().nodename.encode()) +
                field(number.encode()) + field(b'MIT-MAGIC-COOKIE-1') +
                field(bytes.fromhex(cookie)))


@pytest.fixture
def locked(tmp_path):
    os.mkdir(tmp_path / 'locked')
    server = LockedScreen(str(tmp_path / 'locked'))
    yield server
    server.close()


class Agent:
    """A real nxagent that waits on a unix socket; script() is a server that connects to it."""

    def __init__(self, folder):
        self.socket = os.path.join(folder, 'agent')
        number = 3000 + os.getpid() % 20000
        self.log = os.path.join(folder, 'agent.log')
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                ['nxagent', f':{number}', '-ac', '-name', 'QVD', '-nolisten', 'tcp', '-display',
                 f'nx/nx,listen=unix:{self.socket},link=local,geometry=400x300:{number}'],
                env={**os.environ, 'HOME': folder, 'NX_CLIENT': '/bin/true'}, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: os.path.exists(self.socket), 20, 'nxagent')

    def script(self, c):
        c.request()
        c.vms(vm(7, 'desk'))
        c.request()
        c.switch()
        agent = socket.socket(socket.AF_UNIX)
        agent.connect(self.socket)
        threading.Thread(target=pump, args=(agent, c.sock), daemon=True).start()
        pump(c.sock, agent)

    def close(self):
        self.process.kill()
        self.process.wait(10)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@pytest.fixture
def agent():
    with tempfile.TemporaryDirectory(prefix='qvdagent-') as folder:
        made = Agent(folder)
        yield made
        made.close()


def test_a_real_agent_shows_its_window(client, pki, agent, screen):
    with tls(pki, agent.script) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'), '--nxproxy', 'nxproxy')
        wait_until(lambda: 'QVD' in screen.windows(), 20, 'the window')
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0
        wait_until(lambda: 'QVD' not in screen.windows(), 10, 'the window to go')


def test_a_display_that_demands_a_cookie(client, pki, agent, locked):
    with tls(pki, agent.script) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'), '--nxproxy', 'nxproxy',
                               env={'DISPLAY': locked.display, 'XAUTHORITY': locked.authority})
        wait_until(lambda: 'QVD' in locked.windows(), 20, 'the window', interval=0.1)
        process.terminate()
        assert process.wait(10) == 0


def test_a_display_that_refuses_us(client, pki, locked):
    with tls(pki, list_only(vm(7, 'desk'))) as server:
        for env in ({'DISPLAY': locked.display}, {'DISPLAY': ':59000'}, {'DISPLAY': 'nonsense'}):
            status, _, err = client.run(server, '--ca', pki.path('ca.pem'), env=env)
            assert status == 1 and len(err.splitlines()) == 1
            assert f'the X display {env["DISPLAY"]} cannot be used: ' in err
            assert 'graphical session' in err
        assert len(server.requests) == 3  # no desktop was asked for


def test_the_door_to_a_display_is_for_nxproxy_only(client, pki, locked):
    with tls(pki, one_session(end=False)) as server:
        process = client.start(server, '--ca', pki.path('ca.pem'),
                               env={'DISPLAY': locked.display, 'XAUTHORITY': locked.authority})
        name = client.told()['env']['DISPLAY']
        assert name != locked.display
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(f'\0/tmp/.X11-unix/X{name[1:]}')
        try:
            stranger.sendall(b'l\0\x0b\0\0\0\0\0\0\0\0\0')
            assert stranger.recv(100) == b''
        except ConnectionError:
            pass
        stranger.close()
        process.terminate()
        assert process.wait(10) == 0


# -- the library -----------------------------------------------------------------------------------

def test_two_clients_in_one_loop_by_the_installed_library(client, pki, tmp_path):
    """Compiled as others would: the installed header, pkg-config and the shared library."""
    folder = glob.glob(os.path.join(TREE, 'usr/lib/*/pkgconfig'))[0]
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'qvdclient'], check=True, text=True,
                           env={**os.environ, 'PKG_CONFIG_PATH': folder,
                                'PKG_CONFIG_SYSROOT_DIR': TREE}, stdout=subprocess.PIPE).stdout
    program = str(tmp_path / 'twoclients')
    source = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'lib', 'twoclients.c')
    runtime = ['-fsanitize=address'] if sanitized(TREE) else []     # must be loaded first
    subprocess.run(['gcc', '-std=c17', '-Wall', '-Werror', *runtime, source, '-o', program,
                    *flags.split()], check=True)
    people = ['alice', 'bob', 'carol']
    meeting = threading.Barrier(len(people), timeout=20)

    def script(c):
        c.request()
        c.vms(vm(1, 'one'), vm(2, 'two'))
        assert c.request()[0].startswith('/qvd/connect_to_vm?id=2&')
        c.info('Session acquired')
        c.switch()
        c.receive(b'data=default ')
        meeting.wait()  # all at once
        c.send(b'BYE')
        while c.sock.recv(65536):
            pass
    with tls(pki, script) as server:
        done = subprocess.run([program, str(server.port), pki.path('ca.pem'), client.nxproxy,
                               *people], env={**client.env,
                                              'LD_LIBRARY_PATH': os.path.dirname(folder)},
                              stdout=subprocess.PIPE, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stdout
    assert {h['Authorization'] for _, h in server.requests} == {basic(p, 'secret') for p in people}
    for person in people:
        lines = [x.split(': ', 1)[1] for x in done.stdout.splitlines() if x.startswith(person)]
        states = [x[6:] for x in lines if x.startswith('state ')]
        assert '2 machines' in lines and 'Session acquired' in lines
        assert states[0] == 'asking for the password'
        assert states[-3:] == ['connected', 'ending', 'ended']
        assert lines[-1] == 'ended 0, 3 bytes in, 49 out: disconnected'
