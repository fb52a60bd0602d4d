# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of its own with systemd as its first process, for what a real node does.

    with Machine('node1') as node:
        node.sh('systemctl start qvd.target')

An LXC container over an overlay of this machine's root: what is installed here is installed there,
what is written there is gone with it. It has no network but what it makes itself, its own users,
services and journal, and a real file system under /var/lib/qvd (an overlay cannot be the upper layer
of another). All of it lives in private namespaces and ends with them.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time

BASE_DIR = os.environ.get('QVD_TEST_DIR', '/var/tmp')

# Of the services that this machine may have, none shall run there.
NOT_THERE = ('cron.service', 'ssh.service', 'apt-daily.timer', 'apt-daily-upgrade.timer',
             'systemd-networkd.service', 'systemd-resolved.service', 'systemd-timesyncd.service',
             'unattended-upgrades.service', 'e2scrub_reap.service', 'networking.service')
# Of this machine's state, nothing shall be seen there.
EMPTY = ('etc/qvd', 'etc/postgresql', 'var/lib/postgresql', 'var/log/postgresql', 'var/log/journal',
         'usr/lib/qvd', 'usr/share/qvd')

CONFIG = '''
lxc.uts.name = {name}
lxc.rootfs.path = dir:{dir}/root
# The network namespace made for it: links can be put there from outside.
lxc.net.0.type = none
lxc.mount.auto = proc:rw sys:rw cgroup:rw:force
lxc.mount.entry = {qvd} var/lib/qvd none bind,create=dir 0 0
lxc.init.cmd = /lib/systemd/systemd --unit=multi-user.target
lxc.cap.drop =
lxc.pty.max = 64
lxc.tty.max = 0
lxc.console.logfile = {dir}/console
'''

START = '''
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/,upperdir={dir}/upper,workdir={dir}/work {dir}/root
cd {dir}/root
for path in {empty}; do rm -rf "$path"; done
# PostgreSQL as Debian's package makes it.
install -d -o postgres -g postgres -m 755 var/lib/postgresql
install -d -o root -g postgres -m 1775 var/log/postgresql
install -d -o postgres -g postgres -m 755 etc/postgresql
install -d etc/systemd/system
for unit in {units}; do ln -sf /dev/null "etc/systemd/system/$unit"; done
echo {name} > etc/hostname
printf '127.0.0.1 localhost {name}\\n' > etc/hosts
: > etc/machine-id
exec lxc-start -F -n {container} -P {dir}/lxc -f {dir}/config -o {dir}/lxc.log -l WARN
'''


class MachineError(Exception):
    pass


class Machine:
    def __init__(self, name, env=None, storage=None, folders=None):
        """env: more environment of what runs there. storage: another machine whose folder
        /var/lib/qvd this one shares, as if both mounted it from a server. folders: {path there:
        path here} of more folders that it shares."""
        self.name = name
        self.folders = dict(folders or {})
        self.storage = storage
        self.env = dict(env or {})
        self.process = None
        self.dir = tempfile.mkdtemp(prefix=f'qvd-machine-{name}-', dir=BASE_DIR)
        self.container = os.path.basename(self.dir)
        os.chmod(self.dir, 0o755)

    def __enter__(self):
        try:
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _boot(self):
        for part in ('upper', 'work', 'root', 'lxc', 'qvd'):
            os.mkdir(os.path.join(self.dir, part))
        with open(os.path.join(self.dir, 'config'), 'w', encoding='utf-8') as f:
            f.write(CONFIG.format(name=self.name, dir=self.dir, qvd=self.path('/var/lib/qvd/')))
            for there, here in self.folders.items():
                f.write(f'lxc.mount.entry = {here} {there.lstrip("/")} none '
                        'bind,create=dir 0 0\n')
        script = START.format(dir=self.dir, name=self.name, container=self.container,
                              empty=' '.join(EMPTY), units=' '.join(NOT_THERE))
        with open(os.path.join(self.dir, 'start.log'), 'wb') as log:
            self.process = subprocess.Popen(
                ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc',
                 'sh', '-c', script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while True:
            done = self._attach(['systemctl', 'is-system-running'], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
            if done and done.stdout.strip() in (b'running', b'degraded'):
                # LXC's mount inside /proc would keep containers in there from a /proc of their own.
                self.sh('umount /proc/sys/kernel/random/boot_id')
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f'{self.name} did not come up: {self.console()}')
            time.sleep(0.1)

    def _inside(self):
        """The pid of the first process of the namespaces; None if there is none."""
        pid = self.process.pid
        try:
            with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
                return int(f.read().split()[0])
        except (OSError, IndexError):
            return None

    def _attach(self, argv, **kwargs):
        pid = self._inside()
        if pid is None:
            return None
        env = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8', 'HOME': '/root',
               'TERM': 'dumb', **self.env}
        settings = [f'--set-var={k}={v}' for k, v in env.items()]
        return subprocess.run(
            ['nsenter', '-t', str(pid), '-m', '-n', '-p', 'lxc-attach', '-P',
             os.path.join(self.dir, 'lxc'), '-n', self.container, '--clear-env', *settings, '--',
             *argv], check=False, **kwargs)

    def sh(self, script, timeout=300, check=True):
        """Runs a script of bash as root there; its output, with what it said of errors in it."""
        done = self._attach(['bash', '-c', script], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        if done is None:
            raise MachineError(f'{self.name} is down')
        text = done.stdout.decode(errors='replace')
        if check and done.returncode != 0:
            raise MachineError(f'{self.name}: status {done.returncode} of:\n{script}\n{text}')
        return text

    def link(self, other, name):
        """A cable between this machine and another: an interface of that name on either."""
        subprocess.run(['nsenter', '-t', str(self._inside()), '-n', 'ip', 'link', 'add', name,
                        'type', 'veth', 'peer', 'name', name, 'netns', str(other._inside())],
                       check=True, stdin=subprocess.DEVNULL)

    def path(self, inside):
        """Where a file under /var/lib/qvd of the machine lies outside."""
        assert inside.startswith('/var/lib/qvd/')
        if self.storage:
            return self.storage.path(inside)
        return os.path.join(self.dir, 'qvd', inside[len('/var/lib/qvd/'):])

    def console(self):
        text = ''
        for name in ('start.log', 'lxc.log', 'console'):
            with contextlib.suppress(FileNotFoundError):
                with open(os.path.join(self.dir, name), encoding='utf-8', errors='replace') as f:
                    text += f'--- {name}\n' + '\n'.join(f.read().splitlines()[-40:]) + '\n'
        return text

    def close(self):
        if self.process:
            # Everything there is in its pid namespace and goes with its first process.
            self.process.kill()
            self.process.wait()
            deadline = time.monotonic() + 30
            while self._cgroups() and time.monotonic() < deadline:
                self._remove_cgroups()
                time.sleep(0.1)
        while os.path.exists(self.dir):
            shutil.rmtree(self.dir, ignore_errors=True)

    def _cgroups(self):
        found = []
        for folder, children, _ in os.walk('/sys/fs/cgroup'):
            mine = [c for c in children if self.container in c]
            found += [os.path.join(folder, c) for c in mine]
            children[:] = [c for c in children if c not in mine]
        return found

    def _remove_cgroups(self):
        for top in self._cgroups():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
