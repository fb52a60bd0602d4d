# SPDX-License-Identifier: GPL-3.0-or-later
"""One desktop VM without hkd and L7R: a container of a real image, and the node's side of the
agent's wire spoken from here, by a code of its own.

    box = VmBox(farm, 'minimal'); box.start(); box.call('ping'); box.close()

The farm gives the namespaces and the bridge only. The container is set up as hkd does it: user
namespace, overlay, veth, key and FIFO below /dev/.qvd.
"""

import contextlib
import ctypes
import glob
import hashlib
import hmac
import http.client
import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
import time

from farm import BASE_DIR, built_image, sanitized, sanitizer_reports, wait_until
from qvdfarm.farm import RUN_ENV

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
IDMAP = 1000000
libc = ctypes.CDLL(None, use_errno=True)


def unpack_shifted(archive, target):
    """Unpacks with all ids moved by IDMAP: tar runs as root of a user namespace of its own."""
    os.makedirs(target)
    os.chown(target, IDMAP, IDMAP)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Before the change of ids: the folders on the way are root's alone.
            os.chdir(target)
            os.dup2(os.open(archive, os.O_RDONLY), 0)
            if libc.unshare(CLONE_NEWUSER) != 0:
                os._exit(1)
            os.write(ready[1], b'1')
            os.read(go[0], 1)
            os.setgid(0)
            os.setuid(0)
            os.execvp('tar', ['tar', '--zstd', '-x', '--numeric-owner'])
        finally:
            os._exit(1)
    os.read(ready[0], 1)
    for name in ('uid_map', 'gid_map'):
        with open(f'/proc/{child}/{name}', 'w', encoding='ascii') as f:
            f.write(f'0 {IDMAP} 65536')
    os.write(go[1], b'1')
    for fd in ready + go:
        os.close(fd)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f'unpacking {archive}: status {status}'


@contextlib.contextmanager
def network_of(pid):
    """Sockets made inside belong to that process's network."""
    with open('/proc/self/ns/net', 'rb') as own, open(f'/proc/{pid}/ns/net', 'rb') as theirs:
        assert libc.setns(theirs.fileno(), CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(own.fileno(), CLONE_NEWNET) == 0


def request_auth(secret, function, serial, nonce, body):
    text = (f'qvd1 request\n{function}\n{serial}\n{nonce}\n'
            f'{hashlib.sha256(body).hexdigest()}')
    return f'v1 {serial} {nonce} {hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()}'


def answer_auth(secret, status, nonce, body):
    text = f'qvd1 answer\n{status}\n{nonce}\n{hashlib.sha256(body).hexdigest()}'
    return 'v1 ' + hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


class VmBox:
    """conf: more lines of vma.conf. init: the first process ("" lets none run)."""

    # pylint: disable=too-many-instance-attributes,too-many-public-methods
    number = 0  # of the last one made

    def __init__(self, farm, image='minimal', conf=None):
        VmBox.number += 1
        self.number = VmBox.number
        self.farm = farm
        self.name = f'box{self.number}'
        self.ip = f'10.3.15.{100 + self.number}'
        self.dir = tempfile.mkdtemp(prefix='vmbox-', dir=farm.path('lib'))
        self.inside = '/var/lib/qvd/' + os.path.basename(self.dir)
        os.chmod(self.dir, 0o711)
        os.chmod(farm.path('lib'), 0o711)
        self.secret = b''
        self.serial = 0
        self.process = None
        self.image = image
        self.conf = conf or {}
        self._make_root()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def _make_root(self):
        base = self.farm.path('lib', 'vmbox-base-' + self.image)
        if not os.path.exists(base):
            unpack_shifted(built_image(self.image, self.farm.tree), base)
        for name in ('upper', 'work', 'root'):
            os.makedirs(self.path(name))
            os.chown(self.path(name), IDMAP, IDMAP)
        self.farm.run(['mount', '-t', 'overlay', 'overlay', '-o',
                       f'lowerdir=/var/lib/qvd/vmbox-base-{self.image},'
                       f'upperdir={self.inside}/upper,workdir={self.inside}/work',
                       f'{self.inside}/root'])
        if self.conf:
            with open(os.path.join(base, 'etc/qvd/vma.conf'), encoding='utf-8') as f:
                text = f.read()
            text += ''.join(f'{k} = {v}\n' for k, v in self.conf.items())
            self.write('/etc/qvd/vma.conf', text)

    def write(self, path, text, mode=0o644):
        """A file of the root, before or while it runs."""
        self.farm.run(['sh', '-c', f'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod {mode:o} "$1"'
                       f' && chown {IDMAP}:{IDMAP} "$1"', 'sh', f'{self.inside}/root{path}'],
                      input=text)

    def _config(self):
        v1 = 'lxc.cgroup' if not os.path.exists('/sys/fs/cgroup/cgroup.controllers') \
            else 'lxc.cgroup2'
        d = self.inside
        return f'''
lxc.uts.name = {self.name}
lxc.rootfs.path = dir:{d}/root
lxc.init.cmd = /sbin/init
lxc.idmap = u 0 {IDMAP} 65536
lxc.idmap = g 0 {IDMAP} 65536
lxc.autodev = 1
lxc.pty.max = 1024
lxc.tty.max = 0
lxc.cap.drop = audit_control audit_read block_suspend mac_admin mac_override net_raw
lxc.cap.drop = sys_module sys_rawio sys_time syslog wake_alarm
lxc.apparmor.profile = unconfined
{v1}.pids.max = 512
lxc.log.level = WARN
lxc.log.file = {d}/lxc.log
lxc.console.logfile = {d}/console.log
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.mount.entry = {d}/secret dev/.qvd/secret none bind,ro,create=file 0 0
lxc.mount.entry = {d}/ready dev/.qvd/ready none bind,create=file 0 0
lxc.mount.entry = tmpfs tmp tmpfs nosuid,nodev,mode=1777 0 0
lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=0755 0 0
lxc.net.0.type = veth
lxc.net.0.link = qvdnet0
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = 54:52:00:03:0f:{self.number:02x}
lxc.net.0.ipv4.address = {self.ip}/24
lxc.net.0.ipv4.gateway = 10.3.15.1
'''

    def start(self, timeout=30):
        """Boots; returns once the agent has told that it listens."""
        self.secret = secrets.token_bytes(32)
        self.serial = 0
        with open(self.path('secret'), 'wb') as f:
            os.fchmod(f.fileno(), 0o400)
            f.write(self.secret)
        os.chown(self.path('secret'), IDMAP, IDMAP)
        if not os.path.exists(self.path('ready')):
            os.mkfifo(self.path('ready'), 0o600)
            os.chown(self.path('ready'), IDMAP, IDMAP)
        with open(self.path('config'), 'w', encoding='utf-8') as f:
            f.write(self._config())
        fifo = os.open(self.path('ready'), os.O_RDWR | os.O_NONBLOCK)
        try:
            with open(self.path('start.log'), 'ab') as log:
                self.process = subprocess.Popen(
                    self.farm.command(['lxc-start', '-F', '-P', '/run/qvd/lxc', '-n', self.name,
                                       '-f', f'{self.inside}/config']),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=RUN_ENV)
            readable = select.select([fifo], [], [], timeout)[0]
            assert readable and os.read(fifo, 100), f'no sign of the agent\n{self.logs()}'
        finally:
            os.close(fifo)

    def run(self, argv, **kwargs):
        """argv as root of the container."""
        return self.farm.run(['lxc-attach', '-P', '/run/qvd/lxc', '-n', self.name, '--clear-env',
                              '--', *argv], **kwargs)

    def sh(self, script, check=True):
        return self.run(['sh', '-c', script], check=check).stdout.strip()

    def as_user(self, login, *argv, **kwargs):
        return self.run(['setpriv', f'--reuid={login}', f'--regid={login}', '--init-groups', 'env',
                         f'HOME=/home/{login}', 'DISPLAY=:100', 'PATH=/usr/bin:/bin', *argv],
                        **kwargs)

    def spawn_as(self, login, *argv):
        """The same without waiting for its end."""
        return subprocess.Popen(
            self.farm.command(['lxc-attach', '-P', '/run/qvd/lxc', '-n', self.name, '--clear-env',
                               '--', 'setpriv', f'--reuid={login}', f'--regid={login}',
                               '--init-groups', 'env', f'HOME=/home/{login}', 'DISPLAY=:100',
                               'PATH=/usr/bin:/bin', *argv]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=RUN_ENV)

    def logs(self):
        parts = []
        for name in ('start.log', 'lxc.log', 'console.log', 'root/var/log/qvd/qvd-nxagent.log'):
            path = self.path(name) if not name.startswith('root') else self.path('upper', name[5:])
            with contextlib.suppress(OSError), open(path, encoding='utf-8', errors='replace') as f:
                parts.append(f'--- {self.name} {name}\n' + ''.join(f.readlines()[-60:]))
        return '\n'.join(parts)

    # -- the wire ---------------------------------------------------------------------------

    def dial(self, port=3030, timeout=10):
        with network_of(self.farm.pid):
            return socket.create_connection((self.ip, port), timeout)

    def exchange(self, data, timeout=30):
        """Raw bytes to the agent; all that comes back until it closes."""
        with self.dial() as sock:
            sock.settimeout(timeout)
            sock.sendall(data)
            back = b''
            while True:
                try:
                    piece = sock.recv(65536)
                except ConnectionResetError:
                    return back
                if not piece:
                    return back
                back += piece

    def call(self, function, params=None, serial=None, timeout=40, **kwargs):
        """(status, body as JSON). serial None: the next one for an order, 0 for a question."""
        if serial is None:
            serial = 0 if function in ('ping', 'x_state') else self.next_serial()
        return self.finish(self.begin(function, params, serial, timeout, **kwargs))

    def next_serial(self):
        self.serial += 1
        return self.serial

    def begin(self, function, params, serial, timeout=40, secret=None, body=None, auth=None):
        body = json.dumps(params or {}).encode() if body is None else body
        nonce = secrets.token_hex(16)
        auth = auth or request_auth(secret or self.secret, function, serial, nonce, body)
        connection = http.client.HTTPConnection(self.ip, 3030, timeout=timeout)
        with network_of(self.farm.pid):
            connection.connect()
        connection.request('POST', '/vma/1/' + function, body,
                           {'QVD-Auth': auth, 'Content-Type': 'application/json'})
        return connection, nonce, secret or self.secret

    @staticmethod
    def finish(begun):
        connection, nonce, secret = begun
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        signed = answer.getheader('QVD-Auth')
        if signed is None:
            return answer.status, None
        assert signed == answer_auth(secret, answer.status, nonce, body), 'the answer\'s MAC'
        return answer.status, json.loads(body)

    def x_start(self, login='ann', serial=None, **params):
        """x_start with the client's usual wishes; must do well."""
        names = {'qvd.vm.user.name': login, 'qvd.client.link': 'local',
                 'qvd.client.keyboard': 'pc105/us', 'qvd.client.os': 'linux'}
        names.update({k.replace('_', '.'): v for k, v in params.items()})
        status, body = self.call('x_start', names, serial)
        assert (status, body.get('state')) == (200, 'listening'), (status, body, self.logs())

    def state(self):
        return self.call('x_state')[1]['state']

    def wait_state(self, state, timeout=15):
        # Asking is what a test may do; the system itself waits for events.
        wait_until(lambda: self.state() == state, timeout, f'{self.name} {state}', 0.05)

    @contextlib.contextmanager
    def client(self, display):
        """An nxproxy on that display, as the client would run it."""
        root = tempfile.mkdtemp(prefix='nxroot-', dir=BASE_DIR)
        options = f'nx/nx,connect=tcp:{self.ip}:4100,root={root},id=c{secrets.token_hex(4)}:40'
        with open(os.path.join(root, 'proxy.log'), 'wb') as log:
            process = subprocess.Popen(
                # nsenter has a child of its own: it dies with it.
                self.farm.command(['setpriv', '--pdeathsig', 'KILL', 'env', f'DISPLAY={display}',
                                   'NX_CLIENT=/bin/true', f'HOME={root}', 'nxproxy', '-S',
                                   options]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=RUN_ENV)
        process.log_path = os.path.join(root, 'proxy.log')
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            shutil.rmtree(root, ignore_errors=True)

    # -- the end ----------------------------------------------------------------------------

    def stop(self, kill=True):
        if self.process and self.process.poll() is None:
            self.farm.run(['lxc-stop', '-P', '/run/qvd/lxc', '-n', self.name]
                          + (['--kill'] if kill else []), check=False)
            self.process.wait(30)

    def close(self):
        # In good order where a sanitizer looks for leaks then.
        self.stop(kill=not sanitized(self.farm.tree))
        self.farm.reports += sanitizer_reports(glob.glob(self.path('console.log')))
        self.farm.run(['umount', '-l', f'{self.inside}/root'], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_exit(process, timeout=20):
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is not None, 'the process still runs'


def find_picture(screen, rows):
    """Where painter.py's picture is on the screen, bit by bit; None when it is not."""
    from PIL import Image
    want = Image.frombytes('RGB', (256, 256), b''.join(rows), 'raw', 'BGRX')
    shown = screen.image()
    at = shown.tobytes().find(want.tobytes()[:256 * 3])
    if at < 0:
        return None
    left, top = at // 3 % shown.width, at // 3 // shown.width
    part = shown.crop((left, top, left + 256, top + 256))
    return (left, top) if part.tobytes() == want.tobytes() else None
