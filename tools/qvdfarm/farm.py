# SPDX-License-Identifier: GPL-3.0-or-later
"""A farm in a folder: made, driven and removed from the host.

    farm = Farm('/tmp/f', tree=DESTDIR)
    farm.create(); farm.start(); farm.qa('host', 'list'); farm.destroy()

All that the farm keeps lies in the folder; all that runs ends with its supervisor.
"""

import contextlib
import ctypes
import errno
import fcntl
import grp
import hashlib
import json
import os
import pwd
import secrets
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time

from . import nat as way_out

HERE = os.path.dirname(os.path.abspath(__file__))
PG_BIN = '/usr/lib/postgresql/15/bin'
CLONE_NEWCGROUP = 0x02000000
RUN_ENV = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
           'LANG': 'C.UTF-8', 'HOME': '/root'}

# The demo's network; no uplink, so it can meet no other. Node n of a farm has 10.3.15.n.
NETWORK = {'vm.network.bridge': 'qvdnet0', 'vm.network.gateway': '10.3.15.1',
           'vm.network.netmask': '255.255.255.0', 'vm.network.ip.start': '10.3.15.50'}


class FarmError(Exception):
    pass


def lock_owner(folder):
    """The pid of the supervisor that runs the farm of that folder, or 0."""
    try:
        fd = os.open(os.path.join(folder, 'lock'), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        # struct flock: l_type, l_whence, l_start, l_len, l_pid
        asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack('hhqqi4x', fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else pid
    finally:
        os.close(fd)


def host_cgroups():
    """The cgroup hierarchies of this machine: (fstype, options for mount, mount point, path)."""
    own = {}
    with open('/proc/self/cgroup', encoding='utf-8') as f:
        for line in f:
            _, controllers, path = line.rstrip('\n').split(':', 2)
            own[controllers] = path
    found = []
    with open('/proc/self/mountinfo', encoding='utf-8') as f:
        for line in f:
            left, right = line.rstrip('\n').split(' - ')
            fstype, _, options = right.split(' ', 2)
            point = left.split(' ')[4]
            if not point.startswith('/sys/fs/cgroup') or fstype not in ('cgroup', 'cgroup2'):
                continue
            if fstype == 'cgroup2':
                # Below a group that has processes no controller can be turned on.
                found.append((fstype, '', point, '/'))
                continue
            kept = [o for o in options.split(',') if o not in ('rw', 'ro', 'xattr')
                    and not o.startswith(('release_agent=', 'clone_children'))]
            named = [o for o in kept if o.startswith('name=')]
            key = named[0] if named else ','.join(kept)
            found.append((fstype, 'none,' + named[0] if named else ','.join(kept), point,
                          own.get(key, '/')))
    return found


def open_listeners(address, port, count):
    """count sockets of one port, ready to accept; refuses a port that somebody else has."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            raise FarmError(f'port {port} of {address}: {error.strerror}; '
                            'choose another one') from None
        port = probe.getsockname()[1]
    sockets = []
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(1024)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


class Farm:
    """settings: more lines of node.conf. fsync: whether the database survives a power cut.
    bound: the farm ends with this process, however that ends. join: another farm, created before,
    whose further node this is: with namespaces, settings, logs and sockets of its own, but that
    one's database, storage, users and certificates, and its VMs' network joined by a cable. nat: its VMs reach what the host reaches."""

    # pylint: disable=too-many-instance-attributes,too-many-arguments
    def __init__(self, folder, tree, *, nodename='node1', slots=2, l7r_port=0, api_port=0,
                 address='127.0.0.1', settings=None, fsync=True, bound=False, join=None, nat=False):
        self.dir = os.path.abspath(folder)
        self.tree = tree
        self.nodename = nodename
        self.slots = slots
        self.l7r_port = l7r_port
        self.api_port = api_port
        self.address = address
        self.settings = dict(settings or {})
        self.fsync = fsync
        self.bound = bound
        self.join = join
        self.nat = nat
        self.number = join.count_node() if join else 1
        self.nodes = 1
        self.lifeline = None
        self.admin_password = None
        self.outer = None

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def count_node(self):
        self.nodes += 1
        return self.nodes

    @property
    def node_address(self):
        """The node's address in the VMs' network."""
        return f'10.3.15.{self.number}'

    # -- making -----------------------------------------------------------------------------

    def create(self):
        """Folders, users, certificates, settings, sockets and the running supervisor."""
        if os.geteuid() != 0:
            raise FarmError('a farm needs root: it makes namespaces, bridges and containers')
        if lock_owner(self.dir):
            raise FarmError(f'{self.dir}: a farm is running there already')
        os.makedirs(self.dir, exist_ok=True)
        if self.tree and not os.path.isdir(self.path('tree')):
            shutil.copytree(self.tree, self.path('tree'), symlinks=True)
        self._make_folders()
        self._make_certificates()
        self._write_node_conf()
        self._start_supervisor()
        if self.join:
            self._join_network()

    def _make_folders(self):
        # What daemons and containers own lies behind a folder that only root may enter (images
        # have setuid programs); tree, ca.pem and credentials are for the people of this machine.
        os.makedirs(self.path('private'), mode=0o700, exist_ok=True)
        # As /run after a boot.
        for name in ('run', 'pgrun'):
            shutil.rmtree(self.path('private', name), ignore_errors=True)
        for name in ('etc', 'run', 'lib', 'log', 'pg', 'pgrun', 'sys'):
            os.makedirs(self.path('private', name), exist_ok=True)
            if not os.path.islink(self.path(name)):
                os.symlink('private/' + name, self.path(name))
        for name in ('pg', 'sys/etc/upper', 'sys/etc/work', 'sys/var/upper', 'sys/var/work'):
            os.makedirs(self.path(name), exist_ok=True)
        postgres = pwd.getpwnam('postgres')
        for name in ('pg', 'pgrun'):
            os.chown(self.path(name), postgres.pw_uid, postgres.pw_gid)
        users = self._make_users()
        where = {'/run/qvd': 'run', '/etc/qvd': 'etc', '/var/log/qvd': 'log',
                 '/var/lib/qvd': 'lib'}
        with open(self.path('tree/usr/lib/tmpfiles.d/qvd.conf'), encoding='utf-8') as f:
            rows = [line.split() for line in f if line.startswith('d ')]
        for _, path, mode, user, group in rows:
            for prefix, name in where.items():
                if path == prefix or path.startswith(prefix + '/'):
                    target = self.path(name) + path[len(prefix):]
                    os.makedirs(target, exist_ok=True)
                    os.chmod(target, int(mode, 8))
                    os.chown(target, users.get(user, 0), users.get(group, 0))

    def _make_users(self):
        """The system users of sysusers.d, in the farm's own /etc; the host's is not touched."""
        upper = self.path('sys/etc/upper')
        if os.path.exists(os.path.join(upper, 'passwd')):
            with open(os.path.join(upper, 'passwd'), encoding='utf-8') as f:
                return {r[0]: int(r[2]) for r in (line.split(':') for line in f)
                        if r[0].startswith('qvd-')}
        taken = {p.pw_uid for p in pwd.getpwall()} | {g.gr_gid for g in grp.getgrall()}
        free = (n for n in range(899, 100, -1) if n not in taken)
        users = {}
        with open(self.path('tree/usr/lib/sysusers.d/qvd.conf'), encoding='utf-8') as f:
            wanted = [shlex.split(line) for line in f if line.startswith('u ')]
        text = {}
        for name in ('passwd', 'group', 'shadow'):
            with open('/etc/' + name, encoding='utf-8') as f:
                text[name] = [line for line in f.read().splitlines()
                              if line.split(':')[0] not in {w[1] for w in wanted}]
        for row in wanted:
            name, number = row[1], next(free)
            users[name] = number
            text['passwd'].append(f'{name}:x:{number}:{number}:{row[3]}:/nonexistent:'
                                  '/usr/sbin/nologin')
            text['group'].append(f'{name}:x:{number}:')
            text['shadow'].append(f'{name}:!*:1::::::')
        for name, lines in text.items():
            path = os.path.join(upper, name)
            with open(path, 'w', encoding='utf-8') as f:
                f.write('\n'.join(lines) + '\n')
            source = os.stat('/etc/' + name)
            os.chown(path, source.st_uid, source.st_gid)
            os.chmod(path, source.st_mode & 0o7777)
        return users

    def _make_certificates(self):
        """An authority of our own, and one certificate of it for L7R and API (P-256)."""
        if os.path.exists(self.path('etc/certs/cert.pem')):
            return
        if self.join:
            shutil.copytree(self.join.path('etc/certs'), self.path('etc/certs'),
                            dirs_exist_ok=True)
            shutil.copy(self.join.path('ca.pem'), self.path('ca.pem'))
            return
        ca_key, ca = self.path('ca-key.pem'), self.path('ca.pem')
        key, cert = self.path('etc/certs/key.pem'), self.path('etc/certs/cert.pem')
        request, extensions = self.path('request.pem'), self.path('extensions')
        new_key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
        with open(extensions, 'w', encoding='ascii') as f:
            f.write('basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n'
                    'extendedKeyUsage=serverAuth\n'
                    'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n')
        old = os.umask(0o077)
        try:
            for command in (
                    ['req', '-x509', *new_key, '-days', '3650', '-subj', '/CN=QVD demo authority',
                     '-addext', 'keyUsage=critical,keyCertSign,cRLSign',
                     '-keyout', ca_key, '-out', ca],
                    ['req', *new_key, '-subj', '/CN=localhost', '-keyout', key, '-out', request],
                    ['x509', '-req', '-in', request, '-CA', ca, '-CAkey', ca_key, '-days', '825',
                     '-CAcreateserial', '-extfile', extensions, '-out', cert]):
                self._host_run(['openssl', *command], 'making the certificates')
        finally:
            os.umask(old)
        os.chmod(ca, 0o644)
        os.chmod(cert, 0o644)
        for path in (request, extensions, self.path('ca.srl')):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @staticmethod
    def _host_run(command, what):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace', check=False)
        if done.returncode != 0:
            raise FarmError(f'{what}: {" ".join(command[:2])} ended with status '
                            f'{done.returncode}:\n{done.stdout}')

    def _write_node_conf(self):
        lines = {'nodename': self.nodename, 'database.host': '/run/postgresql',
                 'database.name': 'qvd', 'l7r.workers': str(self.slots), **NETWORK,
                 **({'vm.network.uplinks': 'joined0'} if self.join else {}),
                 **({'vm.network.firewall.nat.iface': way_out.DEVICE} if self.nat else {}),
                 **self.settings}
        if self.nat:
            with open(self.path('sys/etc/upper/resolv.conf'), 'w', encoding='ascii') as f:
                f.write(f'nameserver {way_out.RESOLVER}\n')
        path = self.path('etc/node.conf')
        with open(path, 'w', encoding='utf-8') as f:
            os.fchmod(f.fileno(), 0o600)
            f.write('# Written by the quickstart; all keys: /usr/share/qvd/config/node.conf\n')
            f.writelines(f'{key} = {value}\n' for key, value in lines.items())

    # -- the supervisor ---------------------------------------------------------------------

    def _services(self, l7r, api):
        return {
            **({} if self.join else {'postgres': {
                'argv': [f'{PG_BIN}/postgres', '-D', '/var/lib/postgresql/qvd/data'],
                'user': 'postgres', 'notify': True, 'stop_signal': 'SIGINT'}}),
            'hkd': {'argv': ['/usr/lib/qvd/qvd-hkd'], 'notify': True},
            'l7r': {'argv': ['/usr/lib/qvd/qvd-l7r'], 'notify': True, 'fds': l7r,
                    'fdname': 'l7r'},
            'api': {'argv': ['/usr/lib/qvd/qvd-api'], 'notify': True, 'fds': api,
                    'fdname': 'api'},
        }

    def _cgroup_name(self):
        return 'qvd-' + hashlib.sha256(self.dir.encode()).hexdigest()[:10]

    def cgroup_folders(self):
        return [(fstype, options, point, point + path.rstrip('/') + '/' + self._cgroup_name())
                for fstype, options, point, path in host_cgroups()]

    def _start_supervisor(self):
        l7r = open_listeners(self.address, self.l7r_port, self.slots)
        api = open_listeners(self.address, self.api_port, 1)
        self.l7r_port = l7r[0].getsockname()[1]
        self.api_port = api[0].getsockname()[1]
        groups = self.cgroup_folders()
        self._remove_cgroups()
        for _, _, _, folder in groups:
            os.makedirs(folder, exist_ok=True)
            for name in ('cpuset.cpus', 'cpuset.mems'):
                if os.path.exists(os.path.join(folder, name)) \
                        and not os.path.exists(os.path.join(folder, 'cgroup.controllers')):
                    with open(os.path.join(os.path.dirname(folder), name), encoding='ascii') as f:
                        value = f.read()
                    with open(os.path.join(folder, name), 'w', encoding='ascii') as f:
                        f.write(value)
        lifeline = None
        if self.bound:
            lifeline, self.lifeline = os.pipe2(os.O_CLOEXEC)
        # Its other end is the supervisor's alone: closed when that ends, however it ends.
        exit_fd, held = os.pipe2(os.O_CLOEXEC) if self.nat else (None, None)
        config = {
            'dir': self.dir,
            'lifeline': lifeline,
            'bridge': {'name': NETWORK['vm.network.bridge'], 'address': self.node_address + '/24'},
            'binds': [] if not self.join else [
                [self.join.path('lib/storage'), '/var/lib/qvd/storage'],
                [self.join.path('pgrun'), '/run/postgresql']],
            'cgroups': [group[:3] for group in groups],
            'services': self._services([s.fileno() for s in l7r], [s.fileno() for s in api]),
        }
        with open(self.path('supervisor.json'), 'w', encoding='utf-8') as f:
            json.dump(config, f, indent=1)

        def enter_cgroups():
            for _, _, _, folder in groups:
                with open(folder + '/cgroup.procs', 'w', encoding='ascii') as f:
                    f.write('0')
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP) != 0:
                raise OSError(ctypes.get_errno(), 'unshare(CLONE_NEWCGROUP)')
            for fstype, _, _, folder in groups:
                if fstype == 'cgroup2':
                    # v2 wants processes in leaves only. The name is systemd's for its first process:
                    # LXC, which begins where that is, goes up from it.
                    os.makedirs(folder + '/init.scope', exist_ok=True)
                    with open(folder + '/init.scope/cgroup.procs', 'w', encoding='ascii') as f:
                        f.write('0')

        with open(self.path('log/supervisor.log'), 'ab') as log:
            self.outer = subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn
                ['unshare', '--net', '--mount', '--pid', '--ipc', '--fork', '--kill-child', '--',
                 '/usr/bin/python3', '-I', os.path.join(HERE, 'supervisor.py'),
                 self.path('supervisor.json')],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd='/', env=RUN_ENV,
                pass_fds=[s.fileno() for s in l7r + api] + ([lifeline] if self.bound else [])
                + ([held] if self.nat else []),
                start_new_session=True,
                preexec_fn=enter_cgroups)
        for sock in l7r + api:
            sock.close()
        if self.bound:
            os.close(lifeline)
        if self.nat:
            os.close(held)
        self._wait_for_supervisor()
        if self.nat:
            failed = way_out.start(self.pid, exit_fd, self.path('log/nat.log'), RUN_ENV)
            os.close(exit_fd)
            if failed:
                raise FarmError(failed)

    def _wait_for_supervisor(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                self.control('status')
                return
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                    raise
            if self.outer.poll() is not None or time.monotonic() > deadline:
                raise FarmError('the supervisor did not start: ' + self.log_tail('supervisor'))
            # The socket appears once the mounts are made: some tens of milliseconds.
            time.sleep(0.01)

    def _join_network(self):
        """A cable to the first node: this one's end is joined0, the other up<number>.

        Made inside the namespaces, under names of their own."""
        port = f'up{self.number}'
        bridge = NETWORK['vm.network.bridge']
        self._host_run(['ip', 'link', 'add', port, 'netns', str(self.join.pid), 'type', 'veth',
                        'peer', 'name', 'joined0', 'netns', str(self.pid)], 'joining the nodes')
        self.join.run(['ip', 'link', 'set', port, 'master', bridge, 'up'])
        self.run(['ip', 'link', 'set', 'joined0', 'master', bridge, 'up'])

    @property
    def pid(self):
        """The supervisor's pid as the host sees it."""
        return lock_owner(self.dir)

    def control(self, op, timeout=60, **fields):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            # Through a descriptor: the folder's name may be longer than a socket's address.
            fd = os.open(self.path('run'), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.connect(f'/proc/self/fd/{fd}/supervisor.sock')
            finally:
                os.close(fd)
            sock.settimeout(timeout + 5)
            sock.sendall(json.dumps({'op': op, 'timeout': timeout, **fields}).encode() + b'\n')
            data = b''
            while not data.endswith(b'\n'):
                piece = sock.recv(65536)
                if not piece:
                    raise FarmError(f'the supervisor went away: {self.log_tail("supervisor")}')
                data += piece
        return json.loads(data)

    def start_service(self, name, timeout=30, env=None):
        answer = self.control('start', timeout, name=name, env=env or {})
        if not answer['ok']:
            raise FarmError(f'{answer["error"]}; the end of its log:\n{self.log_tail(name)}')
        return answer['pid']

    def stop_service(self, name, signame=None, timeout=20):
        answer = self.control('stop', timeout, name=name, signal=signame)
        if not answer['ok']:
            raise FarmError(answer['error'])

    def service(self, name):
        """pid (inside the farm), ready, restarts, last_status of a service."""
        return self.control('status')['services'][name]

    def log_tail(self, name, lines=30):
        try:
            with open(self.path('log', name + '.log'), encoding='utf-8', errors='replace') as f:
                return ''.join(f.readlines()[-lines:])
        except FileNotFoundError:
            return '(no log)'

    # -- running programs in it -------------------------------------------------------------

    def command(self, argv, user=None):
        """argv as a command for the host that runs it inside the farm."""
        pid = self.pid
        if not pid:
            raise FarmError(f'{self.dir}: no farm runs there')
        groups = [folder + ('/init.scope' if fstype == 'cgroup2' else '')
                  for fstype, _, _, folder in self.cgroup_folders()]
        inside = ['sh', '-c', 'for g in ' + ' '.join(shlex.quote(g) for g in groups)
                  + '; do echo 0 >"$g/cgroup.procs"; done; exec "$@"', 'sh',
                  'nsenter', '--target', str(pid), '--mount', '--net', '--pid', '--ipc',
                  '--cgroup', '--']
        if user:
            inside += ['setpriv', f'--reuid={user}', f'--regid={user}', '--init-groups']
        return inside + list(argv)

    def run(self, argv, *, user=None, check=True, env=None, **kwargs):
        kwargs.setdefault('stdin', subprocess.DEVNULL if 'input' not in kwargs else None)
        if kwargs['stdin'] is None:
            del kwargs['stdin']
        kwargs.setdefault('stdout', subprocess.PIPE)
        kwargs.setdefault('stderr', subprocess.PIPE)
        kwargs.setdefault('text', True)
        done = subprocess.run(self.command(argv, user), env={**RUN_ENV, **(env or {})},
                              check=False, **kwargs)
        if check and done.returncode != 0:
            raise FarmError(f'{" ".join(argv)} ended with status {done.returncode}:\n'
                            f'{done.stdout or ""}{done.stderr or ""}')
        return done

    def psql(self, sql, database='qvd', user='postgres'):
        """Rows as lists of strings; user is the system user that connects (peer)."""
        done = self.run(['psql', '-X', '-q', '-A', '-t', '-F', '\x1f', '-v', 'ON_ERROR_STOP=1',
                         '-h', '/run/postgresql', '-d', database, '-c', sql],
                        user=user if user != 'root' else None)
        return [line.split('\x1f') for line in done.stdout.splitlines()]

    # -- the services -----------------------------------------------------------------------

    def init_database(self):
        if self.join:
            self.admin_password = self.join.admin_password
            return
        if not os.path.exists(self.path('pg/data/PG_VERSION')):
            self.run([f'{PG_BIN}/initdb', '-D', '/var/lib/postgresql/qvd/data', '-E', 'UTF8',
                      '--locale=C.UTF-8', '-A', 'peer', '-U', 'postgres', '--no-sync',
                      '--no-instructions'], user='postgres')
            with open(self.path('pg/data/postgresql.conf'), 'a', encoding='utf-8') as f:
                f.write("listen_addresses = ''\nunix_socket_directories = '/run/postgresql'\n"
                        "max_connections = 60\nshared_buffers = 32MB\n"
                        "log_line_prefix = '%m [%p] %q%u@%d '\n"
                        f"fsync = {'on' if self.fsync else 'off'}\n")
            with open(self.path('pg/data/pg_hba.conf'), 'w', encoding='utf-8') as f:
                f.write('local all all peer map=qvd\n')
            with open(self.path('pg/data/pg_ident.conf'), 'w', encoding='utf-8') as f:
                f.write('qvd postgres postgres\nqvd root postgres\nqvd root qvd_hkd\n'
                        'qvd qvd-broker qvd_l7r\nqvd qvd-auth qvd_auth\nqvd qvd-api qvd_api\n')
        self.start_service('postgres')
        command = ['/usr/bin/qvd-deploy-db']
        if not os.path.exists(self.path('etc/admin-password')):
            command += ['--admin-password-file', '/etc/qvd/admin-password']
        self.run(command)
        with open(self.path('etc/admin-password'), encoding='utf-8') as f:
            self.admin_password = f.read().strip()

    def start(self):
        """All services. Those of a further node need the first one's database."""
        self.init_database()
        for name in ('api', 'hkd', 'l7r'):
            self.start_service(name)

    # -- clients on the host ----------------------------------------------------------------

    def client_env(self):
        return {**RUN_ENV, 'LD_LIBRARY_PATH': self.path('tree/usr/lib/x86_64-linux-gnu')}

    def qa(self, *args, check=True, **kwargs):
        """qa of the installed tree, on the host, as the first administrator."""
        env = {**self.client_env(), 'QA_URL': f'https://{self.address}:{self.api_port}',
               'QA_LOGIN': 'admin', 'QA_PASSWORD': self.admin_password, 'QA_TENANT': '*',
               'QA_CA': self.path('ca.pem')}
        done = subprocess.run([self.path('tree/usr/bin/qa'), *args], env=env, text=True,
                              stdin=kwargs.pop('stdin', subprocess.DEVNULL),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **kwargs)
        if check and done.returncode != 0:
            raise FarmError(f'qa {" ".join(args)}: status {done.returncode}: {done.stdout}'
                            f'{done.stderr}')
        return done.stdout if check else done

    def add_image(self, path):
        """Puts an image into the staging folder; its name there."""
        name = os.path.basename(path)
        target = self.path('lib/storage/staging', name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
        os.chmod(target, 0o644)
        return name

    # -- the end ----------------------------------------------------------------------------

    def stop(self, timeout=30, signals=(signal.SIGTERM, signal.SIGKILL)):
        """Ends every process of the farm; its folder stays."""
        pid = self.pid
        if pid:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                fd = -1
            if fd >= 0:
                try:
                    if self.pid == pid:     # still the same process
                        for number in signals:
                            with contextlib.suppress(ProcessLookupError):
                                signal.pidfd_send_signal(fd, number)
                            if select.select([fd], [], [], timeout)[0]:
                                break
                finally:
                    os.close(fd)
        if self.outer:
            self.outer.wait(timeout)
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
        self._remove_cgroups()

    def _remove_cgroups(self):
        """The kernel lets a cgroup go when its last process has been reaped: soon, not at once."""
        for _, _, _, folder in self.cgroup_folders():
            deadline = time.monotonic() + 5
            while os.path.isdir(folder):
                for root, _, _ in os.walk(folder, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(root)
                if not os.path.isdir(folder) or time.monotonic() > deadline:
                    break
                time.sleep(0.02)

    def destroy(self):
        # Nothing of it is needed any more, so nobody is asked to end well.
        self.stop(signals=(signal.SIGKILL,))
        shutil.rmtree(self.dir, ignore_errors=True)
        if os.path.exists(self.dir):
            # Files that vanish while we look are no fault; what stays is.
            shutil.rmtree(self.dir)


def new_password():
    """20 characters that can be told on the telephone."""
    return ''.join(secrets.choice('abcdefghjkmnpqrstuvwxyz23456789') for _ in range(20))
