# SPDX-License-Identifier: GPL-3.0-or-later
"""A node and its VMs as the L7R sees them, scripted: rows that change as hkd would change them, and
agents and desktops that answer as told. Speaks the agent's wire by a code of its own.

    node = FakeNode(farm); vm = node.add_vm('alice', state='running'); vm.on('x_start', 503)
"""

import hashlib
import json
import re
import secrets
import socket
import threading
import warnings

import pytest
from farm import new_password
from vmbox import answer_auth, network_of, request_auth

with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    import crypt

NX_SERVER = b'NXPROXY-3.5.0-3.5.99 '


class FakeVm:
    """An agent on port 3030 and a desktop on 4100 of an address of the farm's loopback."""

    # pylint: disable=too-many-instance-attributes
    def __init__(self, node, vm_id, user_id, login, password, address):
        self.node, self.id, self.user_id = node, vm_id, user_id
        self.login, self.password, self.address = login, password, address
        self.secret = secrets.token_bytes(32)
        self.calls = []        # (function, serial, parameters)
        self.answers = {}      # function -> (status, body) or a callable that gives it
        self.greetings = []    # what came to the desktop first
        self.streams = []      # sockets of the desktop
        self.dials = 0
        self.echo = True
        self.raw = None        # called with (function, socket, signed(status, body)) to speak for the agent
        self.lock = threading.Condition()
        with network_of(node.farm.pid):
            self.agent = socket.create_server((address, 3030))
        threading.Thread(target=self._accept, args=(self.agent, self._agent), daemon=True).start()
        self.open_desktop()

    def open_desktop(self):
        with network_of(self.node.farm.pid):
            self.desktop = socket.create_server((self.address, 4100))
        threading.Thread(target=self._accept, args=(self.desktop, self._desktop),
                         daemon=True).start()

    def on(self, function, status, state='listening', error=None):
        body = {'state': state} if error is None else {'state': state, 'error': error}
        self.answers[function] = (status, body)

    def called(self, function):
        return [c for c in self.calls if c[0] == function]

    def _accept(self, listener, serve):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def _agent(self, sock):
        with sock, sock.makefile('rb') as f:
            line = f.readline().decode()
            headers = {}
            while (text := f.readline().decode().strip()):
                name, value = text.split(':', 1)
                headers[name.strip().lower()] = value.strip()
            body = f.read(int(headers.get('content-length', '0')))
            function = line.split(' ')[1].rsplit('/', 1)[1]
            auth = headers['qvd-auth'].split(' ')
            good = request_auth(self.secret, function, auth[1], auth[2], body)
            status, answer = 401, {'error': 'wrong mac'}

            def signed(status, out):
                return (f'HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n'
                        f'Content-Length: {len(out)}\r\n'
                        f'QVD-Auth: {answer_auth(self.secret, status, auth[2], out)}\r\n'
                        '\r\n'.encode() + out)
            if headers['qvd-auth'] == good:
                with self.lock:
                    self.calls.append((function, int(auth[1]), json.loads(body)))
                    self.lock.notify_all()
                if self.raw:
                    self.raw(function, sock, signed)
                    return
                answer = self.answers.get(function, (200, {'state': 'listening'}))
                status, answer = answer() if callable(answer) else answer
            out = json.dumps(answer).encode()
            sock.sendall(signed(status, out))

    def _desktop(self, sock):
        with self.lock:
            self.dials += 1
            self.streams.append(sock)
            self.lock.notify_all()
        with sock:
            try:
                data = sock.recv(65536)
                if data:
                    with self.lock:
                        self.greetings.append(data)
                        self.lock.notify_all()
                    sock.sendall(NX_SERVER)
                while self.echo and data:
                    data = sock.recv(65536)
                    sock.sendall(data)
                if data:
                    sock.recv(1)
            except OSError:
                pass

    def wait(self, check, timeout=10):
        with self.lock:
            if not self.lock.wait_for(check, timeout):
                raise AssertionError('the VM did not see what it should')

    def close(self):
        for s in (self.agent, self.desktop, *self.streams):
            s.close()

    # The row --------------------------------------------------------------------------------

    def row(self):
        keys = ('vm_state', 'vm_cmd', 'user_state', 'session_id', 'host_id', 'user_cmd')
        values = self.node.psql(f"SELECT {', '.join(keys)} FROM vm_runtimes WHERE vm_id = "
                                f'{self.id}')[0]
        return dict(zip(keys, values))

    def set_running(self):
        """What hkd writes when a VM is up, and the word to its L7R."""
        self.node.psql(
            f"UPDATE host_runtimes SET assigned = assigned + 1 WHERE host_id = {self.node.id} AND "
            f"EXISTS (SELECT FROM vm_runtimes WHERE vm_id = {self.id} AND host_id IS NULL); "
            f"UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL, host_id = "
            f"{self.node.id}, vm_address = '{self.address}', vm_vma_port = 3030, vm_x_port = 4100 "
            f"WHERE vm_id = {self.id}; INSERT INTO vm_secrets (vm_id, secret) VALUES ({self.id}, "
            f"'\\x{self.secret.hex()}') ON CONFLICT (vm_id) DO UPDATE SET secret = "
            'excluded.secret')

    def set_stopped(self, blocked=None):
        reason = f", blocked = true, blocked_reason = '{blocked}'" if blocked else ''
        self.node.psql(
            f"UPDATE host_runtimes SET assigned = assigned - 1 WHERE host_id = (SELECT host_id "
            f"FROM vm_runtimes WHERE vm_id = {self.id}); "
            f"UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL, "
            f"vm_address = NULL{reason} WHERE vm_id = {self.id}; "
            f'DELETE FROM vm_secrets WHERE vm_id = {self.id}')


def check_log(farm, ends_too=()):
    """No process of the L7R has ended but by order, by a test's kill -9 or as in ends_too, and no
    event came that its table does not know."""
    log = farm.log_tail('l7r', 1000000)
    ends = re.findall(r'(?:has ended: |qvd-[\w-]+: )(exit \d+|signal \d+)', log)
    assert set(ends) <= {'exit 0', 'signal 9', 'signal 15', *ends_too}, set(ends)
    for bad in ('is not expected in step', 'what it may not', 'out of memory'):
        assert bad not in log, [line for line in log.splitlines() if bad in line]


class FakeNode:
    def __init__(self, farm):
        self.farm = farm
        self.vms = []
        self.psql(f"INSERT INTO hosts (name, address) VALUES ('{farm.nodename}', '127.0.0.1')")
        self.id = int(self.psql('SELECT id FROM hosts')[0][0])
        self.psql("UPDATE host_runtimes SET state = 'running', ok_ts = now(), usable_ram = 8000, "
                  'usable_cpu = 8000, free_ram = 0.9, free_cpu = 0.9')
        self.psql("INSERT INTO osfs (name, memory) VALUES ('desk', 256)")
        self.psql("INSERT INTO dis (osf_id, path, version) SELECT id, '1-x.tar', '1' FROM osfs")
        self.psql("UPDATE di_runtimes SET state = 'published'")
        self.psql("INSERT INTO di_tags (di_id, osf_id, tag) SELECT id, osf_id, 'default' FROM dis")

    def psql(self, sql):
        return self.farm.psql(sql)

    def add_user(self, login):
        password = new_password()
        hashed = crypt.crypt(password, '$y$j9T$' + hashlib.sha256(login.encode()).hexdigest()[:20])
        self.psql(f"INSERT INTO users (login, password) VALUES ('{login}', '{hashed}')")
        return int(self.psql(f"SELECT id FROM users WHERE login = '{login}'")[0][0]), password

    def add_vm(self, login, running=True):
        user_id, password = self.add_user(login)
        number = len(self.vms) + 1
        self.psql(f"INSERT INTO vms (name, user_id, osf_id, ip) SELECT '{login}', {user_id}, id, "
                  f"'10.9.0.{number}' FROM osfs WHERE name = 'desk'")
        vm_id = int(self.psql(f"SELECT id FROM vms WHERE name = '{login}'")[0][0])
        vm = FakeVm(self, vm_id, user_id, login, password, f'127.0.9.{number}')
        self.vms.append(vm)
        if running:
            vm.set_running()
        return vm

    def close(self):
        for vm in self.vms:
            vm.close()


@pytest.fixture(name='node', scope='module')
def node_fixture(request, farm):
    """A simulated node of a farm whose L7R runs (the test file's SERVICES: what runs; ENDS: how
    processes may end in it); at the end the L7R's log tells of no fault."""
    farm.init_database()
    for name in getattr(request.module, 'SERVICES', ('l7r',)):
        farm.start_service(name)
    made = FakeNode(farm)
    yield made
    made.close()
    for name in reversed(getattr(request.module, 'SERVICES', ('l7r',))):
        farm.stop_service(name)     # in good order: a sanitizer looks for leaks then
    check_log(farm, getattr(request.module, 'ENDS', ()))


@pytest.fixture(name='vm', scope='module')
def vm_fixture(node):
    return node.add_vm('alice')
