# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL for tests: one cluster a run, its schema installed once by qvd-deploy-db, a database of
its own for each test file.

    def test_x(database):                   # fixture: a fresh copy of the schema
        database.psql("INSERT INTO ...")
        database.psql("SELECT ...", role='qvd_api')

Fault tests make a Cluster of their own: Cluster(fsync=True).
"""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from farm import BASE_DIR, installed_tree

PG_BIN = '/usr/lib/postgresql/15/bin'
ROLES = ('postgres', 'scarce', 'qvd_owner', 'qvd_hkd', 'qvd_l7r', 'qvd_auth', 'qvd_api')


class PgError(Exception):
    """What psql said; sqlstate and constraint where it told them."""

    def __init__(self, text):
        super().__init__(text)
        first = text.splitlines()[0] if text else ''
        # VERBOSITY=verbose: "ERROR:  23505: duplicate key ..."
        parts = first.split(':')
        self.sqlstate = parts[1].strip() if len(parts) > 2 else ''
        self.constraint = next((line.split(':', 1)[1].strip() for line in text.splitlines()
                                if line.startswith('CONSTRAINT NAME:')), '')


def as_postgres(*argv):
    return ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups',
            '--pdeathsig=SIGQUIT', *argv]


class Cluster:
    """A server with a unix socket in .dir, whose logins are by peer: root may be anybody."""

    def __init__(self, fsync=False, settings=(), port=5432):
        self.dir = tempfile.mkdtemp(prefix='qvd-pg-', dir=BASE_DIR)
        os.chmod(self.dir, 0o711)
        self.data = os.path.join(self.dir, 'data')
        self.log_path = os.path.join(self.dir, 'log')
        self.server = None
        self.port = str(port)
        self.numbers = itertools.count(1)
        os.mkdir(os.path.join(self.dir, 's'))
        shutil.chown(os.path.join(self.dir, 's'), 'postgres', 'postgres')
        os.chmod(os.path.join(self.dir, 's'), 0o755)
        self.host = os.path.join(self.dir, 's')
        os.mkdir(self.data, 0o700)
        shutil.chown(self.data, 'postgres', 'postgres')
        subprocess.run(as_postgres(f'{PG_BIN}/initdb', '-D', self.data, '-E', 'UTF8',
                                   '--locale=C.UTF-8', '-A', 'peer', '-U', 'postgres', '--no-sync',
                                   '--no-instructions'),
                       check=True, cwd='/', stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(f'{self.data}/postgresql.conf', 'a', encoding='utf-8') as f:
            f.write(f"listen_addresses = ''\nunix_socket_directories = '{self.host}'\n"
                    f"fsync = {'on' if fsync else 'off'}\nshared_buffers = 16MB\n"
                    f"max_connections = 60\nport = {port}\n" + ''.join(f'{line}\n' for line in settings))
        with open(f'{self.data}/pg_hba.conf', 'w', encoding='utf-8') as f:
            f.write('local all all peer map=qvd\n')
        with open(f'{self.data}/pg_ident.conf', 'w', encoding='utf-8') as f:
            f.write(''.join(f'qvd root {role}\n' for role in ROLES) + 'qvd postgres postgres\n'
                    'qvd qvd-broker qvd_l7r\nqvd qvd-auth qvd_auth\nqvd qvd-api qvd_api\n')
        self.start()

    def start(self):
        with open(self.log_path, 'ab') as log:
            self.server = subprocess.Popen(  # pylint: disable=consider-using-with
                as_postgres(f'{PG_BIN}/postgres', '-D', self.data), cwd='/',
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while subprocess.run([f'{PG_BIN}/pg_isready', '-q', '-h', self.host, '-p', self.port], check=False,
                             stdin=subprocess.DEVNULL).returncode != 0:
            if self.server.poll() is not None or time.monotonic() > deadline:
                with open(self.log_path, encoding='utf-8', errors='replace') as f:
                    pytest.fail('PostgreSQL does not start:\n' + f.read()[-3000:])
            time.sleep(0.02)

    def stop(self, signo=signal.SIGQUIT):
        """SIGQUIT: at once; SIGINT: in order; SIGKILL: as by a power cut of the process."""
        if self.server:
            self.server.send_signal(signo)
            self.server.wait(30)
            self.server = None

    def kill(self):
        """kill -9 of the server and all its processes."""
        children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.server.pid)],
                                  check=False, stdout=subprocess.PIPE, text=True).stdout.split()
        self.stop(signal.SIGKILL)
        for pid in children:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def psql(self, sql, database='postgres', role='postgres'):
        """Rows of the last statement as lists of strings; raises PgError."""
        done = subprocess.run(['psql', '-X', '-q', '-A', '-t', '-F', '\x1f', '-v',
                               'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-h', self.host, '-p',
                               self.port, '-U', role, '-d', database, '-f', '-'], input=sql, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise PgError(done.stderr.replace('psql:<stdin>:', '').split(': ', 1)[-1]
                          if done.stderr.startswith('psql:<stdin>') else done.stderr)
        return [line.split('\x1f') for line in done.stdout.splitlines()]

    def write_conf(self, name='qvd', **more):
        """A node.conf for that database; its path."""
        path = os.path.join(self.dir, f'node-{name}.conf')
        lines = {'nodename': 'node1', 'database.host': self.host, 'database.name': name}
        lines.update({k.replace('__', '.'): v for k, v in more.items()})
        with open(path, 'w', encoding='utf-8') as f:
            f.write(''.join(f'{k} = {v}\n' for k, v in lines.items()))
        return path

    def deploy(self, *args, name='qvd', check=True, **kwargs):
        """Runs qvd-deploy-db on that database."""
        program = os.path.join(installed_tree(), 'usr/bin/qvd-deploy-db')
        done = subprocess.run([program, '-f', self.write_conf(name), *args], text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **kwargs)
        if check and done.returncode != 0:
            pytest.fail(f'qvd-deploy-db {" ".join(args)}: status {done.returncode}\n{done.stdout}'
                        f'{done.stderr}')
        return done

    def new_database(self):
        """A copy of the schema, as qvd-deploy-db makes it."""
        if not self.psql("SELECT FROM pg_database WHERE datname = 'template_qvd'"):
            self.deploy('--admin-password-file', os.path.join(self.dir, 'admin'),
                        name='template_qvd')
        name = f'test{next(self.numbers)}'
        self.psql(f'CREATE DATABASE {name} TEMPLATE template_qvd OWNER qvd_owner')
        return Database(self, name)


class Database:
    def __init__(self, cluster_, name):
        self.cluster = cluster_
        self.name = name

    def psql(self, sql, role='postgres'):
        return self.cluster.psql(sql, self.name, role)

    def value(self, sql, role='postgres'):
        return self.psql(sql, role)[0][0]

    def refused(self, sql, role='postgres'):
        """The error that the statement must end with."""
        try:
            self.psql(sql, role)
        except PgError as e:
            return e
        return pytest.fail(f'{role} was not refused: {sql}')

    def drop(self):
        self.cluster.psql(f'DROP DATABASE {self.name} WITH (FORCE)')


@pytest.fixture(scope='session', name='cluster')
def cluster_fixture():
    c = Cluster()
    yield c
    c.remove()


@pytest.fixture(scope='module', name='database')
def database_fixture(cluster):
    d = cluster.new_database()
    yield d
    d.drop()
