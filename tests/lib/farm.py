# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the end-to-end tests: running farms, X servers, screenshots and keys.

A test file takes `farm` (one farm for the file, removed after it) and says what it wants by a
module variable:

    FARM = {'image': 'minimal', 'users': ['alice', 'bob'], 'settings': {'log.level': 'DEBUG'}}

With 'nodes': 2 it has further nodes, each with namespaces of its own (TestFarm.node(2)): one
database, one storage, bridges joined by a cable. With 'judge': True somebody outside the tested
code watches which hypervisor runs where (see judge.py).

image: 'minimal', 'minimal-systemd', 'xfce' or None (no image, OSF or VM). Every user gets one VM of
his login's name unless 'vms' is False. What fails prints the logs of the farm.
"""

import contextlib
import fcntl
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import edges
import judge
import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, 'tools'))

from qvdfarm import build as qvdbuild  # noqa: E402  pylint: disable=wrong-import-position
from qvdfarm.farm import Farm, FarmError, new_password  # noqa: E402,F401

BASE_DIR = os.environ.get('QVD_TEST_DIR', '/var/tmp')


def wait_until(check, timeout=10.0, what='the condition', interval=0.02):
    """Asks check() again and again until it is true; its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f'{what}: not within {timeout:g} s')
        time.sleep(interval)


def installed_tree():
    """The DESTDIR that the tests run: QVD_TREE, or this tree built now."""
    tree = os.environ.get('QVD_TREE')
    return tree if tree else qvdbuild.install_tree(lambda text: None, 'build/e2e',
                                                   ('--buildtype=debugoptimized',))


_images = {}


def build_image(name, recipe, agent):
    """The image of that recipe with the agent of that tree: made once, by whichever test file of a
    run of ./check comes first (they share QVD_TEST_SHARED); alone, once a process."""
    if name not in _images:
        folder = os.environ.get('QVD_TEST_SHARED') or os.path.join(TOP, 'build', 'images')
        os.makedirs(folder, exist_ok=True)
        out = os.path.join(folder, f'test-{name}.tar.zst')
        with open(out + '.lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if 'QVD_TEST_SHARED' not in os.environ or not os.path.exists(out):
                subprocess.run([os.path.join(TOP, 'images', 'build'), recipe, '--vma', agent,
                                '--out', out], check=True, stdout=subprocess.DEVNULL)
        _images[name] = out
    return _images[name]


def built_image(name, tree):
    """The image of that name with the VMA of the tree."""
    return build_image(name, name, tree)


def sanitized(tree):
    """Is it the tree of ./check --asan?"""
    with open(os.path.join(tree, 'usr/lib/qvd/qvd-vma'), 'rb') as f:
        return b'libasan.so' in f.read()


def sanitizer_reports(logs):
    """What the sanitizers of ./check --asan have told in these files."""
    text = ''
    for path in logs:
        with open(path, encoding='utf-8', errors='replace') as f:
            lines = f.read().splitlines()
        found = [n for n, line in enumerate(lines) if re.search('Sanitizer:|runtime error: ', line)]
        if found:
            text += '\n'.join([path, *lines[found[0]:found[0] + 60], ''])
    return text


class TestFarm(Farm):
    """A farm with some users, whose passwords it knows, and ways to look into its VMs."""

    __test__ = False

    def __init__(self, folder, tree, **kwargs):
        super().__init__(folder, tree, fsync=kwargs.pop('fsync', False), bound=True, **kwargs)
        self.users = {}
        self.others = []
        self.reports = ''       # of sanitizers, from what the folder keeps no log of

    def node(self, number):
        """The farm's node of that number, itself a TestFarm; 1 is this one."""
        return ([self] + self.others)[number - 1]

    def all_nodes(self):
        return [self] + self.others

    def add_objects(self, image=None, users=(), vms=True, osf=None):
        """The node, and an OSF `desk` with that image, and a VM for each user."""
        for node in self.all_nodes():
            self.qa('host', 'add', f'name={node.nodename}',
                    f'address={node.node_address if self.others else self.address}')
        if image:
            fields = {'name': 'desk', 'memory': '512', **(osf or {})}
            self.qa('osf', 'add', *[f'{k}={v}' for k, v in fields.items()])
            staged = self.add_image(built_image(image, self.tree))
            self.qa('di', 'add', f'path={staged}', f'osf={fields["name"]}')
        for login in users:
            self.add_user(login)
            if image and vms:
                self.qa('vm', 'add', f'name={login}', f'user={login}', 'osf=desk')

    def add_user(self, login, password=None):
        self.users[login] = password or new_password()
        self.qa('user', 'add', f'login={login}', f'password={self.users[login]}')

    def vm_row(self, name):
        """id, state, user_state, host, address of a VM as strings; from the database."""
        rows = self.psql(
            "SELECT v.id, r.vm_state, r.user_state, coalesce(r.host_id::text, ''), "
            "host(v.ip) FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id "
            f"WHERE v.name = '{name}'")
        return dict(zip(('id', 'state', 'user_state', 'host', 'ip'), rows[0]))

    def wait_vm(self, name, state, timeout=120):
        wait_until(lambda: self.vm_row(name)['state'] == state, timeout,
                   f'VM {name} in state {state}')

    def in_vm(self, vm_id, argv, **kwargs):
        """Runs argv as root of the container."""
        return self.run(['lxc-attach', '-P', '/run/qvd/lxc', '-n', f'qvd-{vm_id}', '--clear-env',
                         '--', *argv], **kwargs)

    def client_command(self, login, *args):
        """qvdclient of the tree for that user; the password comes by the environment."""
        return [self.path('tree/usr/bin/qvdclient'), '-h', self.address, '-p',
                str(self.l7r_port), '-u', login, *args]

    @contextlib.contextmanager
    def client(self, login, display, *args, home=None):
        """A running qvdclient on that display; ended with the block."""
        own_home = home or tempfile.mkdtemp(prefix='qvdclient-', dir=BASE_DIR)
        env = {**self.client_env(), 'DISPLAY': display, 'HOME': own_home,
               'QVD_CA': self.path('ca.pem'), 'QVDPASSWORD': self.users[login]}
        log_path = os.path.join(own_home, 'client.log')
        with open(log_path, 'ab') as log:
            process = subprocess.Popen(self.client_command(login, *args), env=env, stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL)
        process.log_path = log_path
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self.reports += sanitizer_reports([log_path])
            if not home:
                shutil.rmtree(own_home, ignore_errors=True)

    def end_in_order(self):
        """A sanitizer looks for leaks when its program ends: the daemons, then the VMs, whose
        guards outlive hkd."""
        for name in ('l7r', 'api', 'hkd'):
            if self.service(name)['pid']:
                self.stop_service(name)
        self.run(['pkill', '-TERM', '-x', 'qvd-guard'], check=False)
        wait_until(lambda: self.run(['pgrep', '-x', 'qvd-guard'], check=False).returncode == 1, 30,
                   'the VMs to end')

    def destroy(self):
        for other in reversed(self.others):
            other.destroy()
        self.others = []
        try:
            if self.tree and self.pid and sanitized(self.tree):
                self.end_in_order()
        finally:
            logs = glob.glob(self.path('log', '*.log'))
            edges.collect(*logs)
            self.reports += sanitizer_reports(logs + glob.glob(self.path('log', 'lxc', '*')))
            super().destroy()
        if self.reports:
            pytest.fail(f'a sanitizer has found something:\n{self.reports}')

    def logs(self):
        """The ends of all logs, for the report of a failed test."""
        parts = []
        for name in sorted(os.listdir(self.path('log'))):
            if name.endswith('.log'):
                parts.append(f'--- {self.nodename}: {name}\n{self.log_tail(name[:-4], 80)}')
        return '\n'.join(parts + [other.logs() for other in self.others])


def add_node(farm, number, settings):
    """One more node of that farm, created, not started yet."""
    node = TestFarm(tempfile.mkdtemp(prefix=f'qvd-node{number}-', dir=BASE_DIR), farm.tree,
                    nodename=f'node{number}', join=farm, slots=farm.slots,
                    settings={**settings, 'vm.network.uplinks': 'joined0'})
    farm.others.append(node)
    node.users = farm.users
    node.create()
    return node


def make_farm(options=None, **kwargs):
    """A farm as FARM tells (see above), running; the caller destroys it."""
    options = dict(options or {})
    tree = installed_tree()
    folder = tempfile.mkdtemp(prefix='qvd-farm-', dir=BASE_DIR)
    # DEBUG: the rows of the state tables are counted from the logs.
    settings = {'log.level': 'DEBUG', **options.get('settings', {})}
    if sanitized(tree):
        settings['vm.serial.capture'] = '1'     # where the agents in VMs write their reports
    count = options.get('nodes', 1)
    if options.get('judge'):
        settings['command.lxc-start'] = judge.PROGRAM
    if count > 1:
        settings.setdefault('vm.network.uplinks',
                            ' '.join(f'up{n}' for n in range(2, count + 1)))
    farm = TestFarm(folder, tree, settings=settings, fsync=options.get('fsync', False),
                    slots=options.get('slots', 2), **kwargs)
    try:
        farm.create()
        for number in range(2, count + 1):
            add_node(farm, number, settings)
        for node in farm.all_nodes() if options.get('judge') else ():
            judge.install(node)
        if options.get('services', True):
            for node in farm.all_nodes():
                node.start()
            farm.add_objects(options.get('image'), options.get('users', ()),
                             options.get('vms', True), options.get('osf'))
    except BaseException:
        print(farm.logs())
        farm.destroy()
        raise
    return farm


@pytest.fixture(scope='module')
def farm(request):
    made = make_farm(getattr(request.module, 'FARM', {}))
    failed_before = request.session.testsfailed
    yield made
    if request.session.testsfailed > failed_before:
        print(made.logs())
    made.destroy()


# -- X ---------------------------------------------------------------------------------------------

class XServer:
    """An Xvfb of its own, by its socket only; the display number is the server's choice."""

    def __init__(self, size='1280x1024x24'):
        read_end, write_end = os.pipe()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ['Xvfb', '-displayfd', str(write_end), '-screen', '0', size, '-nolisten', 'tcp',
             '-noreset'], pass_fds=[write_end], stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log)
        os.close(write_end)
        with os.fdopen(read_end) as f:
            number = f.readline().strip()
        if not number:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f'Xvfb did not start: {self.log.read().decode()}')
        self.display = ':' + number
        self._connection = None

    @property
    def connection(self):
        if self._connection is None:
            from Xlib import display
            self._connection = display.Display(self.display)
        return self._connection

    def close(self):
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def image(self):
        """The screen as a PIL image (RGB)."""
        from PIL import Image
        from Xlib import X
        root = self.connection.screen().root
        size = root.get_geometry()
        data = root.get_image(0, 0, size.width, size.height, X.ZPixmap, 0xffffffff).data
        return Image.frombytes('RGB', (size.width, size.height), data, 'raw', 'BGRX')

    def screenshot(self, path):
        """Saves the screen as PNG and returns the number of different colours."""
        image = self.image()
        image.save(path)
        return len(image.getcolors(1 << 24))

    def windows(self):
        """Names of all viewable top-level windows."""
        from Xlib import X
        found = []
        for window in self.connection.screen().root.query_tree().children:
            with contextlib.suppress(Exception):
                if window.get_attributes().map_state == X.IsViewable:
                    found.append(window.get_wm_name() or '')
        return found

    def press(self, text):
        """Types text (letters, digits, space, newline and - / . _) by XTEST."""
        from Xlib import X, XK
        from Xlib.ext import xtest
        names = {'\n': 'Return', ' ': 'space', '-': 'minus', '/': 'slash', '.': 'period',
                 '_': 'underscore', '>': 'greater', '~': 'asciitilde'}
        shift = self.connection.keysym_to_keycode(XK.string_to_keysym('Shift_L'))
        for char in text:
            keysym = XK.string_to_keysym(names.get(char, char))
            code = self.connection.keysym_to_keycode(keysym)
            shifted = self.connection.keycode_to_keysym(code, 0) != keysym
            if shifted:
                xtest.fake_input(self.connection, X.KeyPress, shift)
            xtest.fake_input(self.connection, X.KeyPress, code)
            xtest.fake_input(self.connection, X.KeyRelease, code)
            if shifted:
                xtest.fake_input(self.connection, X.KeyRelease, shift)
        self.connection.sync()

    def move_pointer(self, x, y):
        from Xlib import X
        from Xlib.ext import xtest
        xtest.fake_input(self.connection, X.MotionNotify, x=x, y=y)
        self.connection.sync()


@pytest.fixture(scope='module')
def screen():
    """A small one for a whole file."""
    server = XServer('640x480x24')
    yield server
    server.close()


@pytest.fixture
def xserver():
    server = XServer()
    yield server
    server.close()


@pytest.fixture
def xservers():
    """Makes X servers: xservers() gives a new one each time."""
    made = []

    def make(**kwargs):
        made.append(XServer(**kwargs))
        return made[-1]
    yield make
    for server in made:
        server.close()
