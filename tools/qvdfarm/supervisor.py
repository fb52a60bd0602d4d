#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first process of a farm: builds its world out of namespaces, runs its daemons, reaps all.

Started by farm.py as `unshare --net --mount --pid --ipc --fork --kill-child supervisor.py CONFIG`.
When it ends, however it ends, the kernel ends every process, mount and link of the farm.

CONFIG is a JSON object:
  dir       the folder with all state of the farm: etc, run, lib, log and pg are bound at their
            places, tree (a DESTDIR) is laid over /usr, sys/etc and sys/var take what changes there
  bridge    {name, address (CIDR)} or null
  binds     [[folder, place]]: folders of another farm, bound after those of dir
  cgroups   [[file system type, mount options, mount point]] to be mounted anew
  lifeline  a pipe's descriptor, or null: when its other end closes, the farm ends
  services  {name: {argv, user, env, fds: [fd...], fdname, notify, stop_signal}}

It answers on the unix socket run/supervisor.sock below dir, one JSON object a line:
  {op: start|stop|status|shutdown, name, timeout}
"""

import ctypes
import fcntl
import json
import os
import pwd
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

BACKOFF_FIRST, BACKOFF_MAX = 0.2, 10.0
# A daemon that has lived so long starts again with the first delay.
BACKOFF_FORGET = 30.0
STOP_PATIENCE = 8.0

libc = ctypes.CDLL(None, use_errno=True)


def log(text):
    print(f'{time.strftime("%H:%M:%S")} supervisor: {text}', file=sys.stderr, flush=True)


def mount(source, target, fstype=None, flags=0, options=None):
    def encoded(value):
        return None if value is None else os.fsencode(value)
    if libc.mount(encoded(source), encoded(target), encoded(fstype), ctypes.c_ulong(flags),
                  encoded(options)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f'mount {fstype or "bind"} {source} ({options}): '
                             f'{os.strerror(error)}', target)


class World:
    """The mounts and the network of the farm."""

    def __init__(self, config):
        self.config = config
        # By descriptor: DIR may lie below something that is covered soon.
        self.dir_fd = os.open(config['dir'], os.O_PATH | os.O_DIRECTORY)
        os.fchdir(self.dir_fd)
        self.binds = [(os.open(folder, os.O_PATH | os.O_DIRECTORY), place)
                      for folder, place in config.get('binds', [])]

    def build(self):
        mount(None, '/', flags=MS_REC | MS_PRIVATE)
        mount('proc', '/proc', 'proc', MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount('sysfs', '/sys', 'sysfs', MS_NOSUID | MS_NODEV | MS_NOEXEC)
        self._mount_cgroups()
        mount('tmpfs', '/dev/shm', 'tmpfs', MS_NOSUID | MS_NODEV, 'mode=1777')
        for part in ('etc', 'var'):
            mount('overlay', '/' + part, 'overlay', 0,
                  f'lowerdir=/{part},upperdir=sys/{part}/upper,workdir=sys/{part}/work')
        # Read-only, but for the mount points and links that the installed tree brings.
        mount('overlay', '/usr', 'overlay', MS_RDONLY, 'lowerdir=tree/usr:/usr')
        mount('tmpfs', '/run', 'tmpfs', MS_NOSUID | MS_NODEV, 'mode=755')
        for path in ('/run/qvd', '/run/lock', '/run/postgresql'):
            os.mkdir(path, 0o755)
        for source, target in (('etc', '/etc/qvd'), ('run', '/run/qvd'), ('lib', '/var/lib/qvd'),
                               ('log', '/var/log/qvd'), ('pg', '/var/lib/postgresql/qvd'),
                               ('pgrun', '/run/postgresql')):
            os.makedirs(target, exist_ok=True)
            mount(f'/proc/self/fd/{self.dir_fd}/{source}', target, flags=MS_BIND)
        for fd, target in self.binds:
            os.makedirs(target, exist_ok=True)
            mount(f'/proc/self/fd/{fd}', target, flags=MS_BIND)
            os.close(fd)
        self._build_network()

    def _mount_cgroups(self):
        groups = self.config['cgroups']
        if any(point == '/sys/fs/cgroup' and fstype == 'cgroup2' for fstype, _, point in groups):
            mount('cgroup2', '/sys/fs/cgroup', 'cgroup2', MS_NOSUID | MS_NODEV | MS_NOEXEC)
            with open('/sys/fs/cgroup/cgroup.controllers', encoding='ascii') as f:
                controllers = f.read().split()
            for name in controllers:
                with open('/sys/fs/cgroup/cgroup.subtree_control', 'w', encoding='ascii') as f:
                    f.write('+' + name)
            return
        mount('tmpfs', '/sys/fs/cgroup', 'tmpfs', MS_NOSUID | MS_NODEV | MS_NOEXEC, 'mode=755')
        for fstype, options, point in groups:
            os.makedirs(point, exist_ok=True)
            mount('cgroup', point, fstype, MS_NOSUID | MS_NODEV | MS_NOEXEC, options or None)
            # "cpu,cpuacct" is known by both names.
            name = os.path.basename(point)
            for part in name.split(',') if ',' in name else ():
                os.symlink(name, os.path.join(os.path.dirname(point), part))

    def _build_network(self):
        run = [['ip', 'link', 'set', 'lo', 'up']]
        bridge = self.config.get('bridge')
        if bridge:
            name = bridge['name']
            run += [['ip', 'link', 'add', name, 'type', 'bridge', 'stp_state', '0',
                     'forward_delay', '0'],
                    ['ip', 'address', 'add', bridge['address'], 'dev', name],
                    ['ip', 'link', 'set', name, 'up']]
        for command in run:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        with open('/proc/sys/net/ipv4/ip_forward', 'w', encoding='ascii') as f:
            f.write('1')


class Service:
    def __init__(self, name, spec):
        self.name = name
        self.spec = spec
        self.pid = 0
        self.ready = False
        self.wanted = False
        self.restarts = 0
        self.started = 0.0
        self.delay = BACKOFF_FIRST
        self.again_at = None
        self.kill_at = None
        self.last_status = None
        self.waiters = []       # (connection, wants: 'up' or 'down', deadline)

    def state(self):
        return {'pid': self.pid, 'ready': self.ready, 'wanted': self.wanted,
                'restarts': self.restarts, 'last_status': self.last_status}


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b''

    def answer(self, **fields):
        # A reader that has gone, or does not read, loses its answer; nobody waits for it.
        try:
            self.sock.send(json.dumps(fields).encode() + b'\n', socket.MSG_NOSIGNAL)
        except OSError:
            pass


class Supervisor:
    def __init__(self, config):
        self.config = config
        self.services = {name: Service(name, spec) for name, spec in config['services'].items()}
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.stop_deadline = None

    # -- world ------------------------------------------------------------------------------

    def prepare(self):
        os.chdir('/var/lib/qvd')
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._bind(self.control, '/run/qvd/supervisor.sock', 0o600)
        self.control.listen(16)
        self.control.setblocking(False)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._bind(self.notify, '/run/qvd/notify', 0o666)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notify.setblocking(False)
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.wakeup = read_end
        self.selector.register(self.control, selectors.EVENT_READ, self.on_control)
        self.selector.register(self.notify, selectors.EVENT_READ, self.on_notify)
        self.selector.register(read_end, selectors.EVENT_READ, self.on_signal)
        if self.config.get('lifeline') is not None:
            os.set_inheritable(self.config['lifeline'], False)
            self.selector.register(self.config['lifeline'], selectors.EVENT_READ,
                                   self.on_lifeline)

    @staticmethod
    def _bind(sock, path, mode):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        sock.bind(path)
        os.chmod(path, mode)

    # -- services ---------------------------------------------------------------------------

    def spawn(self, service):
        spec = service.spec
        service.again_at = None
        service.ready = False
        service.started = time.monotonic()
        out = os.open(f'/var/log/qvd/{service.name}.log',
                      os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        user = pwd.getpwnam(spec['user']) if spec.get('user') else None
        if user:
            os.fchown(out, user.pw_uid, user.pw_gid)
        pid = os.fork()
        if pid == 0:
            try:
                self._become(spec, user, out)
            except BaseException as error:  # pylint: disable=broad-except
                os.write(2, f'supervisor: {spec["argv"][0]}: {error}\n'.encode())
            os._exit(127)
        os.close(out)
        service.pid = pid
        log(f'{service.name}: started, pid {pid}')
        if not spec.get('notify'):
            self.mark_ready(service)

    def _become(self, spec, user, out):
        """In the child: descriptors, signals, user, program."""
        os.setsid()
        null = os.open('/dev/null', os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        wanted = spec.get('fds', [])
        # First out of the way of the numbers that they shall have.
        parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in wanted]
        for number, fd in enumerate(parked):
            os.dup2(fd, 3 + number, inheritable=True)
        # Sockets of other services too, whatever their numbers (the launcher may have many).
        os.closerange(3 + len(parked), 1 << 20)
        env = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
               'LANG': 'C.UTF-8', 'HOME': user.pw_dir if user else '/root'}
        if parked:
            env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(parked)),
                       LISTEN_FDNAMES=':'.join([spec['fdname']] * len(parked)))
        if spec.get('notify'):
            env['NOTIFY_SOCKET'] = '/run/qvd/notify'
        env.update(spec.get('env', {}))
        signal.set_wakeup_fd(-1)
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        if user:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        os.execve(spec['argv'][0], spec['argv'], env)

    def mark_ready(self, service):
        service.ready = True
        log(f'{service.name}: ready after {time.monotonic() - service.started:.2f} s')
        self.tell(service, 'up', ok=True, **service.state())

    @staticmethod
    def tell(service, wants, **fields):
        rest = []
        for connection, kind, deadline in service.waiters:
            if kind == wants:
                connection.answer(**fields)
            else:
                rest.append((connection, kind, deadline))
        service.waiters = rest

    def on_exit(self, service, status):
        code = os.waitstatus_to_exitcode(status)
        how = f'signal {signal.Signals(-code).name}' if code < 0 else f'status {code}'
        lived = time.monotonic() - service.started
        log(f'{service.name}: ended with {how} after {lived:.1f} s')
        was_ready = service.ready
        service.pid, service.ready, service.kill_at = 0, False, None
        service.last_status = how
        self.tell(service, 'down', ok=True, **service.state())
        if not was_ready:
            self.tell(service, 'up', ok=False, error=f'{service.name} ended with {how}',
                      **service.state())
        if service.wanted and not self.stopping:
            if lived > BACKOFF_FORGET:
                service.delay = BACKOFF_FIRST
            service.again_at = time.monotonic() + service.delay
            service.delay = min(service.delay * 2, BACKOFF_MAX)
            service.restarts += 1

    def end(self, service, number=None):
        service.wanted = False
        service.again_at = None
        if service.pid:
            os.kill(service.pid, number or getattr(
                signal, service.spec.get('stop_signal', 'SIGTERM')))
            service.kill_at = time.monotonic() + STOP_PATIENCE

    # -- events -----------------------------------------------------------------------------

    def on_signal(self, _):
        numbers = set(os.read(self.wakeup, 4096))
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.shutdown()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid:
                    self.on_exit(service, status)

    def on_lifeline(self, fd):
        log('whoever wanted this farm has gone')
        self.selector.unregister(fd)
        self.shutdown()

    def on_notify(self, _):
        data, ancillary, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(12))
        sender = 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = struct.unpack('3i', content[:12])[0]
        if b'READY=1' in data.split(b'\n'):
            for service in self.services.values():
                if service.pid == sender and not service.ready:
                    self.mark_ready(service)

    def on_control(self, _):
        sock, _ = self.control.accept()
        sock.setblocking(False)
        connection = Connection(sock)
        self.selector.register(sock, selectors.EVENT_READ,
                               lambda _: self.on_request(connection))

    def on_request(self, connection):
        try:
            data = connection.sock.recv(65536)
        except OSError:
            data = b''
        connection.buffer += data
        if not data or len(connection.buffer) > 65536:
            self.selector.unregister(connection.sock)
            connection.sock.close()
            return
        while b'\n' in connection.buffer:
            line, _, connection.buffer = connection.buffer.partition(b'\n')
            try:
                self.obey(connection, json.loads(line))
            except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
                connection.answer(ok=False, error=f'{type(error).__name__}: {error}')

    def obey(self, connection, request):
        op = request['op']
        if op == 'status':
            connection.answer(ok=True, services={n: s.state() for n, s in self.services.items()})
            return
        if op == 'shutdown':
            connection.answer(ok=True)
            self.shutdown()
            return
        service = self.services[request['name']]
        deadline = time.monotonic() + float(request.get('timeout', 30))
        if op == 'start':
            service.wanted = True
            service.spec['env'] = {**service.spec.get('env', {}), **request.get('env', {})}
            if service.ready:
                connection.answer(ok=True, **service.state())
                return
            service.waiters.append((connection, 'up', deadline))
            if not service.pid:
                service.delay = BACKOFF_FIRST
                self.spawn(service)
        elif op == 'stop':
            if not service.pid:
                self.end(service)
                connection.answer(ok=True, **service.state())
                return
            service.waiters.append((connection, 'down', deadline))
            self.end(service, getattr(signal, request['signal']) if request.get('signal') else None)
        else:
            raise ValueError(f'unknown op {op}')

    def shutdown(self):
        if self.stopping:
            return
        self.stopping = True
        self.stop_deadline = time.monotonic() + STOP_PATIENCE
        for service in self.services.values():
            self.end(service)

    def on_time(self):
        """Does what is due; returns the seconds until something is."""
        now = time.monotonic()
        due = [self.stop_deadline] if self.stop_deadline else []
        for service in self.services.values():
            if service.again_at and service.again_at <= now:
                self.spawn(service)
            if service.kill_at and service.kill_at <= now and service.pid:
                log(f'{service.name}: does not end, killed')
                os.kill(service.pid, signal.SIGKILL)
                service.kill_at = None
            for waiter in [w for w in service.waiters if w[2] <= now]:
                service.waiters.remove(waiter)
                waiter[0].answer(ok=False, error=f'{service.name}: not {waiter[1]} in time',
                                 **service.state())
            due += [t for t in (service.again_at, service.kill_at) if t]
            due += [w[2] for w in service.waiters]
        return max(0.0, min(due) - now) if due else None

    def run(self):
        while True:
            timeout = self.on_time()
            if self.stopping and (not any(s.pid for s in self.services.values())
                                  or time.monotonic() >= self.stop_deadline):
                return
            for key, _ in self.selector.select(timeout):
                key.data(key.fileobj)


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        config = json.load(f)
    # Held as long as we live: tells the world outside who we are, and needs no pid file.
    lock = os.open(os.path.join(config['dir'], 'lock'), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                   0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        World(config).build()
    except (OSError, subprocess.CalledProcessError) as error:
        log(f'cannot build the namespaces: {error}')
        sys.exit(1)
    supervisor = Supervisor(config)
    supervisor.prepare()
    log('ready')
    supervisor.run()
    log('all services have ended')
    # Not sys.exit: nothing may wait for what is still alive; the kernel ends it with us.
    os._exit(0)


if __name__ == '__main__':
    main()
