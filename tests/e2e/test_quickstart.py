# SPDX-License-Identifier: GPL-3.0-or-later
"""The quickstart as a person types it, and the machine afterwards as it was."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from farm import BASE_DIR, TOP, XServer, wait_until
from test_farm import assert_nothing_left, host_state
from qvdfarm.farm import Farm, lock_owner


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Demo:
    """Runs the quickstart as if it were alone on its machine: in a network of its own, so that
    what listens there is all its doing."""

    def __init__(self):
        # With the network of the machine, as it may have to fetch packages.
        subprocess.run([os.path.join(TOP, 'images', 'build'), 'minimal', '--base-only'],
                       check=True, stdout=subprocess.DEVNULL)
        self.machine = subprocess.Popen(
            ['unshare', '--net', 'sh', '-c', 'ip link set lo up; echo ready; exec sleep infinity'],
            stdout=subprocess.PIPE, text=True)
        assert self.machine.stdout.readline() == 'ready\n'
        self.inside = ['nsenter', '--target', str(self.machine.pid), '--net', '--']
        self.parent = tempfile.mkdtemp(prefix='qvd-demo-', dir=BASE_DIR)
        self.dir = os.path.join(self.parent, 'a folder')
        self.ports = (free_port(), free_port())

    def __call__(self, *args, check=True, timeout=600, **env):
        ports = ['--l7r-port', str(self.ports[0]), '--api-port', str(self.ports[1])]
        done = subprocess.run([*self.inside, os.path.join(TOP, 'quickstart'), '--dir', self.dir,
                               *ports, *args],
                              env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False)
        if check:
            assert done.returncode == 0, done.stdout
        return done.stdout

    def network(self):
        """Addresses, firewall and listeners of the machine."""
        return [subprocess.run([*self.inside, *command], stdout=subprocess.PIPE, text=True,
                               check=True).stdout
                for command in (['ip', '-o', 'addr'], ['nft', 'list', 'ruleset'],
                                ['ss', '-Hltn'])]

    def run(self, *command):
        subprocess.run([*self.inside, *command], check=True)

    def processes(self, name):
        """Processes of that name in the machine's network."""
        inode = os.stat(f'/proc/{self.machine.pid}/ns/net').st_ino
        done = subprocess.run(['pgrep', '-x', name], stdout=subprocess.PIPE, text=True, check=False)
        found = []
        for pid in done.stdout.split():
            try:
                if os.stat(f'/proc/{pid}/ns/net').st_ino == inode:
                    found.append(pid)
            except OSError:
                pass
        return found

    def listeners(self):
        return {line.split()[3] for line in self.network()[2].splitlines()}

    def credentials(self):
        with open(os.path.join(self.dir, 'credentials'), encoding='utf-8') as f:
            return dict(line.rstrip('\n').split('=', 1) for line in f)

    def close(self):
        Farm(self.dir, None).destroy()
        shutil.rmtree(self.parent, ignore_errors=True)
        self.machine.kill()
        self.machine.wait()


@pytest.fixture(scope='module')
def demo():
    made = Demo()
    yield made
    made.close()


def test_up_connect_and_down(demo):
    before, network = host_state(), demo.network()
    demo('--image', 'minimal')
    assert lock_owner(demo.dir)
    # A second person who types it is told how to connect.
    assert 'already running' in demo('--image', 'minimal')

    values = demo.credentials()
    assert os.stat(os.path.join(demo.dir, 'credentials')).st_mode & 0o777 == 0o600
    assert values['l7r'] == f'127.0.0.1:{demo.ports[0]}'
    assert values['api'] == f'https://127.0.0.1:{demo.ports[1]}'
    assert values['user'] == 'demo' and values['admin'] == 'admin'
    assert len(values['password']) >= 20 and len(values['admin_password']) >= 20
    with open(values['ca'], encoding='ascii') as f:
        assert f.read().startswith('-----BEGIN CERTIFICATE-----')
    # Nothing but the two ports can be seen from the machine.
    assert demo.listeners() == {values['l7r'], values['api'][len('https://'):]}
    assert 'demo' in demo('--qa', 'vm', 'list')

    screen = XServer('1280x800x24')
    try:
        client = subprocess.Popen(
            [*demo.inside, os.path.join(TOP, 'quickstart'), '--dir', demo.dir, '--connect'],
            env={**os.environ, 'DISPLAY': screen.display, 'HOME': demo.parent},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_until(lambda: client.poll() is not None or len(screen.windows()) > 0, 30,
                       'the window of the desktop')
            assert client.poll() is None, client.stdout.read()
            # A window manager, a terminal and its prompt: more than a plain colour.
            wait_until(lambda: screen.screenshot(os.path.join(demo.parent, 'screen.png')) > 20,
                       30, 'the picture of the desktop')
        finally:
            client.terminate()
            client.communicate(timeout=20)
    finally:
        screen.close()

    demo('--down')
    assert host_state() == before
    assert demo.network() == network
    assert_nothing_left(Farm(demo.dir, None))


def test_second_start_from_the_cache_takes_15_seconds(demo):
    demo('--down')
    # A machine that is busy with other things may take longer by as much.
    busy = max(1, os.getloadavg()[0] / os.cpu_count())
    began = time.monotonic()
    out = demo('--image', 'minimal')
    took = time.monotonic() - began
    assert re.search(r'time to the first desktop: [\d.]+ s', out)
    assert took <= 15 * busy, out
    demo('--down')


def test_with_nat_the_desktop_reaches_what_the_machine_reaches(demo):
    """A server of the machine, at an address that only the machine knows."""
    demo('--down')
    demo.run('ip', 'addr', 'add', '198.51.100.7/32', 'dev', 'lo')
    before = demo.network()[:2]
    demo('--image', 'minimal', '--nat')
    farm = Farm(demo.dir, None)
    server = subprocess.Popen([*demo.inside, '/usr/bin/python3', '-c',
                               'import socket\ns = socket.create_server(("198.51.100.7", 80))\n'
                               'while True: c, _ = s.accept(); c.send(b"from outside"); c.close()'])
    try:
        wait_until(lambda: '198.51.100.7:80' in demo.listeners(), 10, 'the server')
        said = farm.run(['lxc-attach', '-P', '/run/qvd/lxc', '-n', 'qvd-1', '--clear-env', '--',
                         'python3', '-c', 'import socket; print(socket.create_connection('
                         '("198.51.100.7", 80), 10).recv(99))']).stdout
        assert said == "b'from outside'\n"
        assert demo.network()[:2] == before, 'the machine was changed'
        # Not the machine's own loopback, where the services listen.
        port = demo.credentials()['api'].rpartition(':')[2]
        for address in ('10.0.2.2', '127.0.0.1'):
            assert farm.run(['lxc-attach', '-P', '/run/qvd/lxc', '-n', 'qvd-1', '--clear-env', '--',
                             'python3', '-c', 'import socket; socket.create_connection('
                             f'("{address}", {port}), 2)'], check=False).returncode != 0
    finally:
        server.kill()
        server.wait()
    demo('--down')
    demo.run('ip', 'addr', 'del', '198.51.100.7/32', 'dev', 'lo')
    wait_until(lambda: not demo.processes('slirp4netns'), 10, 'the end of slirp4netns')


def test_killing_the_supervisor_ends_everything(demo):
    demo('--down')
    demo('--image', 'minimal')
    password = demo.credentials()['password']
    pid = lock_owner(demo.dir)
    namespace = os.readlink(f'/proc/{pid}/ns/pid')
    os.kill(pid, 9)

    def inside():
        found = []
        for entry in os.listdir('/proc'):
            try:
                if entry.isdigit() and os.readlink(f'/proc/{entry}/ns/pid') == namespace:
                    found.append(entry)
            except OSError:
                pass
        return found
    wait_until(lambda: not inside(), 10, 'the end of all processes')
    # As after a power cut: the next start goes on with what is there.
    assert 'going on' in demo()
    assert demo.credentials()['password'] == password
    demo('--down')
    assert_nothing_left(Farm(demo.dir, None))


def test_wrong_arguments_are_refused(demo):
    for args in (['--image', 'windows'], ['--l7r-port', '0'], ['--nonsense']):
        done = subprocess.run([os.path.join(TOP, 'quickstart'), *args], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 2, done.stdout
    keep = os.path.join(demo.parent, 'precious')
    os.makedirs(keep)
    with open(os.path.join(keep, 'thesis'), 'w', encoding='ascii') as f:
        f.write('years of work')
    for args in ([], ['--down']):
        done = subprocess.run([os.path.join(TOP, 'quickstart'), '--dir', keep, *args],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        assert done.returncode == 1, done.stdout
        assert os.listdir(keep) == ['thesis']
