# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: our L7R with a simulated node, haproxy and hitch, all with one certificate, one
worker (thread), TLS 1.3 and the kernel's default socket buffers, dialling a plain backend on the
loopback.

A peer has: name, port, heads (file of what a session says first, or None), backend (a listening
socket) and pids (whose CPU time and memory count).
"""

import contextlib
import hashlib
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, 'tests', 'lib'))

from fakenode import FakeNode, FakeVm  # noqa: E402  pylint: disable=wrong-import-position
from farm import make_farm  # noqa: E402  pylint: disable=wrong-import-position

CIPHER = 'TLS_AES_256_GCM_SHA384'
ADDRESS = '127.0.9.1'


class BenchError(Exception):
    pass


def all_fds():
    """Thousands of connections need thousands of descriptors, in our children too."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def own_network():
    """This program goes on in a network of its own, whose loopback has no pacing: bbr, if it is the
    machine's choice, would measure its timers."""
    if os.environ.get('QVD_BENCH_NETWORK') != 'own':
        os.execve('/usr/bin/unshare', ['unshare', '--net', '--', '/usr/bin/python3', *sys.argv],
                  {**os.environ, 'QVD_BENCH_NETWORK': 'own'})
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    no_pacing([])


def no_pacing(inside):
    subprocess.run([*inside, 'sysctl', '-q', '-w', 'net.ipv4.tcp_congestion_control=reno'],
                   check=True)


def pin(pids, cpu):
    """Every thread of them on one CPU; the load tool has another."""
    if os.cpu_count() > 1:
        for pid in pids:
            for task in os.listdir(f'/proc/{pid}/task'):
                os.sched_setaffinity(int(task), {cpu})


def children(pid):
    """pid and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):
            for task in os.listdir(f'/proc/{parent}/task'):
                with open(f'/proc/{parent}/task/{task}/children', encoding='ascii') as f:
                    found += [int(n) for n in f.read().split()]
    return found


def comm(pid):
    with open(f'/proc/{pid}/comm', encoding='ascii') as f:
        return f.read().strip()


def pss(pids):
    """KiB."""
    total = 0
    for pid in pids:
        with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
            total += next(int(line.split()[1]) for line in f if line.startswith('Pss:'))
    return total


class StandIn(FakeVm):
    """The one agent of all VMs; their desktops are the load tool's."""

    def _accept(self, listener, serve):
        if listener is self.agent:
            super()._accept(listener, serve)


class Qvd:
    """users: so many, each with a running VM and a token."""

    name = 'qvd'

    def __init__(self, users, release=True):
        # The L7R holds a socket for each: its limits are not what is measured.
        limits = {key: '9000' for key in (
            'l7r.sessions.max', 'l7r.limit.connections', 'l7r.limit.connections.per_source',
            'l7r.limit.connections.unauthenticated')}
        settings = {**limits, 'l7r.sweep': '1h', 'l7r.takeover.max': '1000', 'log.level': 'INFO'}
        self.farm = make_farm({'services': False, 'slots': 1, 'settings': settings})
        try:
            no_pacing(self.farm.command([]))
            self.farm.init_database()
            self.farm.start_service('l7r')
            self.node = FakeNode(self.farm)
            self._add_users(users)
        except BaseException:
            print(self.farm.logs())
            self.close()
            raise
        self.port = self.farm.l7r_port
        self.backend = self.vm.desktop

    def _add_users(self, users):
        psql = self.node.psql
        self.vm = StandIn(self.node, 0, 0, '', '', ADDRESS)
        self.node.vms.append(self.vm)
        self.tokens = [secrets.token_hex(20) for _ in range(users)]
        values = ', '.join(f"({i}, '\\x{hashlib.sha256(t.encode()).hexdigest()}'::bytea)"
                           for i, t in enumerate(self.tokens, 1))
        sql = ("INSERT INTO users (login) SELECT 'u' || n "
               f'FROM generate_series(1, {users}) n;\n'
               'INSERT INTO vms (name, user_id, osf_id, ip) SELECT login, u.id, '
               "(SELECT id FROM osfs), '10.16.0.0'::inet + substr(login, 2)::int FROM users u;\n"
               'INSERT INTO user_tokens (token_hash, user_id, expiration, multi_use) '
               "SELECT t.hash, u.id, now() + '1 day', true FROM users u JOIN "
               f"(VALUES {values}) t (n, hash) ON u.login = 'u' || t.n;\n"
               "UPDATE vm_runtimes SET vm_state = 'running', host_id = "
               f"{self.node.id}, vm_address = '{ADDRESS}', vm_vma_port = 3030, "
               'vm_x_port = 4100;\n'
               'INSERT INTO vm_secrets (vm_id, secret) SELECT id, '
               f"'\\x{self.vm.secret.hex()}' FROM vms;\n"
               f'UPDATE host_runtimes SET assigned = {users};\n')
        self.farm.run(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', '/run/postgresql', '-d',
                       'qvd'], user='postgres', input=sql)
        ids = dict(psql('SELECT login, v.id FROM users u JOIN vms v ON v.user_id = u.id'))
        self.heads = self.farm.path('connect.heads')
        self.list_heads = self.farm.path('list.heads')
        import base64  # pylint: disable=import-outside-toplevel
        with open(self.heads, 'w', encoding='ascii') as connect, \
                open(self.list_heads, 'w', encoding='ascii') as listing:
            for i, token in enumerate(self.tokens, 1):
                auth = base64.b64encode(token.encode()).decode()
                common = f'Host: localhost\r\nAuthorization: Bearer {auth}\r\n'
                vm_id = ids[f'u{i}']
                connect.write(f'GET /qvd/connect_to_vm?id={vm_id} HTTP/1.1\r\n{common}'
                              'Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n\r\n')
                listing.write(f'GET /qvd/list_of_vm HTTP/1.1\r\n{common}\r\n')

    def all_pids(self):
        """Every process of the L7R."""
        for pid in children(self.farm.outer.pid):
            if comm(pid) == 'qvd-l7r':
                return children(pid)
        raise BenchError('there is no qvd-l7r')

    @property
    def pids(self):
        """The worker: what haproxy's thread does."""
        return [p for p in self.all_pids() if comm(p) == 'qvd-l7r-worker']

    def rest(self):
        """No session is left: the next run begins as this did."""
        deadline = time.monotonic() + 30
        while self.node.psql("SELECT count(*) FROM vm_runtimes WHERE user_state <> 'disconnected'"
                             )[0][0] != '0':
            if time.monotonic() > deadline:
                raise BenchError('sessions do not end')
            time.sleep(0.02)

    def close(self):
        if hasattr(self, 'node'):
            self.node.close()
        self.farm.destroy()


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


class Program:
    """A proxy of somebody else's, configured in a folder of its own."""

    def __init__(self, pem, mode='tcp'):
        self.folder = tempfile.TemporaryDirectory(prefix=f'qvd-bench-{self.name}-')
        self.backend = socket.create_server(('127.0.0.1', 0), backlog=4096)
        self.port = free_port()
        self.heads = None
        path = os.path.join(self.folder.name, 'conf')
        self.pem = os.path.join(self.folder.name, 'both.pem')
        with open(self.pem, 'w', encoding='ascii') as f:
            f.write(pem)
        with open(path, 'w', encoding='ascii') as f:
            f.write(self.conf(mode))
        self.log = open(os.path.join(self.folder.name, 'log'), 'wb')
        self.process = subprocess.Popen(self.command(path), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', self.port)):
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log.name, encoding='utf-8', errors='replace') as f:
                    raise BenchError(f'{self.name} does not start: {f.read()}')
            time.sleep(0.02)
        # That connection has made one to the backend.
        if mode == 'tcp':
            self.backend.settimeout(0.5)
            with contextlib.suppress(OSError):
                self.backend.accept()[0].close()
            self.backend.settimeout(None)

    @property
    def pids(self):
        return children(self.process.pid)

    all_pids = pids.fget

    def rest(self):
        pass

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.backend.close()
        self.log.close()
        self.folder.cleanup()


class Haproxy(Program):
    name = 'haproxy'

    def command(self, path):
        return ['haproxy', '-db', '-f', path]

    def conf(self, mode):
        # Timeouts are needed, or it warns; it has no socket options of ours to be told.
        backend = f'  server b 127.0.0.1:{self.backend.getsockname()[1]}\n' if mode == 'tcp' else \
            '  http-request return status 200\n'
        return ('global\n  nbthread 1\n  maxconn 9000\n  ssl-default-bind-ciphersuites '
                f'{CIPHER}\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n'
                '  tune.ssl.default-dh-param 2048\n'
                f'defaults\n  mode {mode}\n  timeout connect 10s\n  timeout client 1h\n'
                '  timeout server 1h\n  option dontlognull\n'
                f'listen l\n  bind 127.0.0.1:{self.port} backlog 4096 ssl crt {self.pem}\n'
                f'{backend}')


class Hitch(Program):
    name = 'hitch'

    def command(self, path):
        return ['hitch', f'--config={path}']

    def conf(self, mode):
        return (f'frontend = "[127.0.0.1]:{self.port}"\nbackend = "[127.0.0.1]:'
                f'{self.backend.getsockname()[1]}"\nworkers = 1\npem-file = "{self.pem}"\n'
                f'tls-protos = TLSv1.3\nciphersuites = "{CIPHER}"\nuser = "nobody"\n'
                'daemon = off\nquiet = on\nbacklog = 4096\nkeepalive = 3600\n')


def certificate(farm):
    """The farm's, for all."""
    text = ''
    for name in ('cert.pem', 'key.pem'):
        with open(farm.path('etc/certs', name), encoding='ascii') as f:
            text += f.read()
    return text


def load(peer, command, *options, watch=None, cpu=0, timeout=120):
    """Runs the load tool against a peer; what it printed."""
    argv = [os.path.join(os.environ['QVD_BENCH_LOAD']), command, '--port', str(peer.port)]
    fds = []
    if peer.backend is not None and command in ('down', 'up', 'rtt', 'idle'):
        fds = [peer.backend.fileno()]
        argv += ['--backend-fd', str(fds[0])]
        if peer.heads:
            argv += ['--heads', peer.heads]
    for pid in peer.pids if watch is None else watch:
        argv += ['--watch', str(pid)]
    done = subprocess.run([*argv, *options], pass_fds=fds, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False,
                          preexec_fn=lambda: os.cpu_count() > 1
                          and os.sched_setaffinity(0, {cpu}))
    if done.returncode != 0:
        raise BenchError(f'{peer.name}: {done.stderr.strip()}')
    return json.loads(done.stdout)
