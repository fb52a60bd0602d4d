# SPDX-License-Identifier: GPL-3.0-or-later
"""A scripted QVD server: certificates, a TLS listener whose every connection runs a function of the
test, and a false nxproxy that tells what it was given."""

import base64
import json
import os
import socket
import ssl
import subprocess
import threading

import pytest


def run_openssl(*args, cwd):
    subprocess.run(['openssl', *args], cwd=cwd, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


class Pki:
    """An authority and certificates of it, as files NAME.pem and NAME.key below a folder."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.key('ca')
        self.key('other')
        for name in ('ca', 'other'):
            run_openssl('req', '-x509', '-new', '-key', f'{name}.key', '-subj', f'/CN=Test {name}',
                        '-days', '10', '-out', f'{name}.pem', cwd=self.folder)
        self.make('good', 'DNS:localhost,IP:127.0.0.1')
        self.make('wronghost', 'DNS:elsewhere.example')
        self.make('expired', 'DNS:localhost,IP:127.0.0.1', days=-1)
        self.make('untrusted', 'DNS:localhost,IP:127.0.0.1', ca='other')
        self.make('changed', 'DNS:localhost,IP:127.0.0.1', ca='other')
        self.make('client', 'DNS:client')

    def path(self, name):
        return os.path.join(self.folder, name)

    def key(self, name):
        run_openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', f'{name}.key',
                    cwd=self.folder)

    def make(self, name, san, days=5, ca='ca'):
        self.key(name)
        with open(self.path(f'{name}.ext'), 'w', encoding='utf-8') as f:
            f.write(f'subjectAltName={san}\nbasicConstraints=CA:FALSE\n')
        run_openssl('req', '-new', '-key', f'{name}.key', '-subj', f'/CN={name}', '-out',
                    f'{name}.csr', cwd=self.folder)
        run_openssl('x509', '-req', '-in', f'{name}.csr', '-CA', f'{ca}.pem', '-CAkey',
                    f'{ca}.key', '-days', str(days), '-extfile', f'{name}.ext', '-out',
                    f'{name}.pem', cwd=self.folder)

    def fingerprint(self, name):
        with open(self.path(f'{name}.pem'), encoding='ascii') as f:
            der = ssl.PEM_cert_to_DER_cert(f.read())
        import hashlib  # pylint: disable=import-outside-toplevel
        return hashlib.sha256(der).hexdigest()


class Connection:
    """What a script has in hand."""

    def __init__(self, sock, server):
        self.sock = sock
        self.server = server
        self.buffer = b''

    def request(self):
        """(path with query, headers) of the next request; None at the end."""
        while b'\r\n\r\n' not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.buffer += data
        head, self.buffer = self.buffer.split(b'\r\n\r\n', 1)
        lines = head.decode().split('\r\n')
        headers = dict(line.split(': ', 1) for line in lines[1:])
        method, target, version = lines[0].split(' ')
        assert (method, version) == ('GET', 'HTTP/1.1')
        self.server.requests.append((target, headers))
        return target, headers

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def answer(self, status, body, reason='Reason', kind='text/plain', more=''):
        self.send(f'HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n'
                  f'Content-Length: {len(body)}\r\n{more}\r\n{body}')

    def vms(self, *vms):
        self.answer(200, json.dumps(vms, indent=1), 'OK', 'application/json')

    def info(self, text):
        self.send(f'HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: {text}\r\n\r\n')

    def switch(self, early=b'', session=None):
        """101, and bytes in the same write if there are any."""
        number = b'X-QVD-Session: %d\r\n' % session if session else b''
        self.send(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n'
                  b'Upgrade: QVD/1.0\r\nX-QVD-Slave-Key: ' + b'k' * 64 + b'\r\n' + number +
                  b'\r\n' + early)

    def good_bye(self):
        """Ends in good order (close_notify); without it the connection looks cut."""
        self.sock = self.sock.unwrap()

    def receive(self, want):
        """At least the bytes `want` are met; what came up to their end."""
        while want not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f'the end, before {want!r}: {self.buffer!r}'
            self.buffer += data
        at = self.buffer.index(want) + len(want)
        got, self.buffer = self.buffer[:at], self.buffer[at:]
        return got


def vm(number, name, state='running', blocked=0):
    return {'id': number, 'name': name, 'state': state, 'blocked': blocked, 'is_application': 0}


def basic(user, password):
    return 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()


class Server:
    """Listens on the loopback; script(connection) runs in a thread for each connection."""

    def __init__(self, script, cert=None, key=None, client_ca=None, max_version=None, port=0):
        self.script = script
        self.requests = []
        self.errors = []
        self.ends = []
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(cert, key)
            if max_version:
                self.context.maximum_version = max_version
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(('127.0.0.1', port))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept_all, daemon=True)
        self.thread.start()

    def accept_all(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.script(Connection(sock, self))
            self.ends.append('done')
        except (ssl.SSLError, ConnectionError) as e:
            self.ends.append(str(e))
        except Exception as e:  # pylint: disable=broad-except
            self.errors.append(repr(e))
        finally:
            sock.close()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
        assert not self.errors, self.errors


# A nxproxy that says hello, writes what it hears to a file, and ends when told so.
FALSE_NXPROXY = '''#!/usr/bin/python3
import json, os, socket, stat, sys
assert sys.argv[1] == '-S', sys.argv
parts = dict(p.partition('=')[::2] for p in sys.argv[2].rsplit(':', 1)[0].split(','))
path = parts['connect'][len('unix:'):]
told = {'argv': sys.argv, 'env': dict(os.environ), 'mode': oct(os.stat(parts['root']).st_mode),
        'fds': sorted(os.listdir('/proc/self/fd')), 'root': parts['root'], 'pid': os.getpid()}
if %(fail)r:
    print('Error: ' + %(fail)r, file=sys.stderr)
    sys.exit(1)
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(b'NXPROXY-3.5.0-3.5.99 stream=default,data=default ')
heard = b''
while True:
    data = s.recv(65536)
    if not data:
        break
    heard += data
    told['heard'] = heard.decode('latin-1')
    part = '%%s.%%d' %% (%(out)r, os.getpid())
    with open(part, 'w') as f:
        json.dump(told, f)
    os.rename(part, %(out)r)
    if b'BYE' in heard:
        break
'''


def false_nxproxy(folder, fail=''):
    """(program, file of what it was told)."""
    program, out = os.path.join(folder, 'false-nxproxy'), os.path.join(folder, 'told.json')
    with open(program, 'w', encoding='utf-8') as f:
        f.write(FALSE_NXPROXY % {'fail': fail, 'out': out})
    os.chmod(program, 0o755)
    return program, out


@pytest.fixture(name='pki', scope='module')
def pki_fixture(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp('pki'))
