# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without hkd and database: the room `node` behind tests/unit/node/node-driver, in private
namespaces with a bridge of its own, and the ways to look at it from outside."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from farm import BASE_DIR, build_image, installed_tree

BRIDGE = 'qvdnet0'
GATEWAY = '10.3.15.1'

# Runs as PID 1 of the namespaces: mounts of its own, a bridge, then sleeps.
INSIDE = r'''
set -e
dir=$1
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p "$dir/sys" "$dir/run"
mount -t sysfs sysfs "$dir/sys"
mount --rbind /sys/fs/cgroup "$dir/sys/fs/cgroup"
mount --rbind "$dir/sys" /sys
mount -t tmpfs tmpfs /run -o mode=755
ip link set lo up
if [ "$2" = bridge ]; then
    ip link add qvdnet0 type bridge
    ip addr add 10.3.15.1/24 dev qvdnet0
    ip link set qvdnet0 up
fi
echo inside
exec sleep infinity
'''

SETTINGS = '''nodename = box
path.run = /run/qvd
path.log = {dir}/log
path.storage.root = {dir}/storage
vm.network.bridge = qvdnet0
vm.network.ip.start = 10.3.15.50
vm.network.netmask = 24
vm.network.gateway = 10.3.15.1
vm.serial.capture = 1
{more}
'''


def programs():
    """Where the build has put the tests' own programs."""
    folder = os.environ.get('QVD_BUILD') or os.path.dirname(installed_tree())
    return os.path.join(folder, 'tests/unit/node')


def plain_image(name='minimal'):
    """An image with fake-vma instead of the VMA."""
    with tempfile.TemporaryDirectory(prefix='qvd-agent-') as tree:
        folder = os.path.join(tree, 'usr/lib/qvd')
        os.makedirs(folder)
        for program in ('qvd-vma', 'qvd-vma-listener'):
            shutil.copy(os.path.join(programs(), 'fake-vma'), os.path.join(folder, program))
        return build_image('plain-' + name, name, tree)


def mac_of(ip):
    return '54:52:00:' + ':'.join(f'{int(p):02x}' for p in ip.split('.')[1:])


class Driver:
    """The running node-driver: orders in, events out."""

    def __init__(self, box):
        self.box = box
        self.events = []  # all
        self.waiting = []  # those that nobody has asked for
        self.last = ''
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            box.inside([box.program('node-driver'), box.settings, box.libexec, box.data]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors='replace')
        self.pid = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip('\n'))
        self.lines.put(None)

    def order(self, *words):
        self.process.stdin.write(' '.join(str(w) for w in words) + '\n')
        self.process.stdin.flush()

    def expect(self, *words, timeout=20):
        """The rest of the next event that begins with the words; the others wait for their turn."""
        start = ' '.join(str(w) for w in words)
        deadline = time.monotonic() + timeout
        at = 0
        while True:
            while at < len(self.waiting):
                rest = self.waiting[at].split(' ', 1)[1]
                if rest == start or rest.startswith(start + ' '):
                    self.last = self.waiting.pop(at)
                    return rest[len(start):].strip()
                at += 1
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f'no "{start}" within {timeout} s, but {self.events[-20:]}')
            self.events.append(line)
            self.waiting.append(line)

    def start(self, vm, image, *options, ip=None, di=1, memory=256, hypervisor='lxc'):
        ip = ip or f'10.3.15.{50 + vm}'
        self.order('start', vm, hypervisor, di, image, ip, mac_of(ip), memory, *options)

    def kill(self):
        """As kill -9 of hkd: what it started must live on. (The process that we know is nsenter.)"""
        for pid in self.box.children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def quit(self):
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.order('quit')
            try:
                assert self.process.wait(20) == 0, 'the driver did not end well'
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class NodeBox:
    """The namespaces, the folder and the tree that is tested."""

    def __init__(self, settings='', bridge=True):
        self.dir = tempfile.mkdtemp(prefix='qvd-node-', dir=BASE_DIR)
        os.chmod(self.dir, 0o711)
        self.tree = installed_tree()
        # A copy where a container's root may walk: the tree may lie below a closed folder.
        self.libexec = self.dir + '/lib'
        self.data = self.dir + '/share'
        shutil.copytree(self.tree + '/usr/lib/qvd', self.libexec)
        shutil.copytree(self.tree + '/usr/share/qvd', self.data)
        self.storage = self.dir + '/storage'
        os.makedirs(self.storage + '/images')
        os.chmod(self.storage, 0o711)
        self.settings = self.dir + '/node.conf'
        with open(self.settings, 'w', encoding='utf-8') as f:
            f.write(SETTINGS.format(dir=self.dir, more=settings))
        self.drivers = []
        self.outer = subprocess.Popen(
            ['unshare', '--net', '--mount', '--pid', '--ipc', '--fork', '--kill-child', 'sh', '-c',
             INSIDE, 'inside', self.dir, 'bridge' if bridge else 'none'],
            stdout=subprocess.PIPE, text=True)
        assert self.outer.stdout.readline() == 'inside\n'
        with open(f'/proc/{self.outer.pid}/task/{self.outer.pid}/children', encoding='ascii') as f:
            self.pid = int(f.read().split()[0])

    def close(self):
        try:
            for driver in self.drivers:
                driver.quit()
        finally:
            self._end()

    def _end(self):
        left = self.cgroups()
        self.outer.kill()
        self.outer.wait()
        for _ in range(100):
            if not os.path.exists(f'/proc/{self.pid}'):
                break
            time.sleep(0.02)
        self.remove_cgroups(left)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def program(self, name):
        return os.path.join(programs(), name)

    def inside(self, argv):
        return ['nsenter', '--target', str(self.pid), '--mount', '--net', '--pid', '--ipc', '--',
                *argv]

    def run(self, argv, check=True, timeout=30, **kwargs):
        done = subprocess.run(self.inside(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, errors='replace', timeout=timeout, check=False, **kwargs)
        if check and done.returncode != 0:
            raise AssertionError(f'{argv} ended with {done.returncode}: {done.stdout}'
                                 f'{done.stderr}')
        return done

    def sh(self, text, **kwargs):
        return self.run(['sh', '-c', text], **kwargs).stdout

    def in_vm(self, vm, argv, **kwargs):
        return self.run(['lxc-attach', '-P', '/run/qvd/lxc', '-n', f'qvd-{vm}', '--clear-env', '--',
                         *argv], **kwargs)

    def vm_sh(self, vm, text, **kwargs):
        return self.in_vm(vm, ['sh', '-c', text], **kwargs).stdout

    def driver(self):
        driver = Driver(self)
        self.drivers.append(driver)
        driver.expect('begun')
        return driver

    def add_image(self, name='1-minimal.tar.zst', source=None):
        """Links a built image under that name in the images' folder; its name."""
        source = source or plain_image()
        target = f'{self.storage}/images/{name}'
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
        return name

    # What the host's root sees -------------------------------------------------------------

    def children(self, pid):
        try:
            with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
                return [int(p) for p in f.read().split()]
        except FileNotFoundError:
            return []

    def processes(self):
        """All processes of the box, by the host's pid."""
        own = os.readlink(f'/proc/{self.pid}/ns/pid')
        found = {}
        for name in os.listdir('/proc'):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open(f'/proc/{name}/cmdline', 'rb') as f:
                    argv = f.read().decode(errors='replace').split('\0')
                found[int(name)] = (argv, os.readlink(f'/proc/{name}/ns/pid') == own)
        return found

    def guard_pid(self, vm):
        """The host's pid of a VM's guard."""
        for pid, (argv, inside) in self.processes().items():
            if inside and argv[0].endswith('qvd-guard') and argv[1:3] == ['--vm', str(vm)]:
                return pid
        return None

    def lxc_pid(self, vm):
        children = self.children(self.guard_pid(vm))
        return children[0] if children else None

    def init_pid(self, vm):
        for pid in self.children(self.lxc_pid(vm)):
            with open(f'/proc/{pid}/status', encoding='utf-8') as f:
                nspid = [line.split()[1:] for line in f if line.startswith('NSpid:')][0]
            if nspid[-1] == '1':
                return pid
        return None

    def cgroups(self):
        """All cgroups of the box's VMs."""
        inode = os.stat(f'/proc/{self.pid}/ns/pid').st_ino
        found = []
        for folder, names, _ in os.walk('/sys/fs/cgroup'):
            found += [os.path.join(folder, n) for n in names if n.startswith(f'qvd-{inode}-')]
        return found

    def remove_cgroups(self, found):
        """Only what a failed test left; asked for before the namespace ends."""
        for top in found:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def overlay(self, vm, di=1):
        return f'{self.storage}/overlayfs/{di}-{vm}-overlayfs'

    def nft(self, *names):
        return self.run(['nft', 'list', *names], check=False).stdout

    def traces(self, vm):
        """What must not be there any more once a VM is gone."""
        found = [p for p in self.cgroups() if p.endswith(f'-{vm}')]
        if self.run(['test', '-e', f'/run/qvd/vm/{vm}'], check=False).returncode == 0:
            found.append(f'/run/qvd/vm/{vm}')
        if self.run(['ip', 'link', 'show', f'qvd{vm}'], check=False).returncode == 0:
            found.append(f'link qvd{vm}')
        if f'"qvd{vm}"' in self.nft('ruleset'):
            found.append('firewall elements')
        if mac_of(f'10.3.15.{50 + vm}') in self.sh('ip neigh'):
            found.append('neighbour')
        if self.guard_pid(vm):
            found.append('guard')
        return found


def wait_for(check, timeout=10, what='condition'):
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f'{what}: not within {timeout} s'
        time.sleep(0.01)
