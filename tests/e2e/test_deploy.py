# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-deploy-db: install, repeat, upgrade, refuse, destroy."""

import hashlib
import os
import pty
import re
import socket
import stat
import subprocess

import pytest

from farm import TOP, installed_tree
from pg import Cluster


@pytest.fixture(name='name')
def name_fixture(cluster, request):
    name = re.sub(r'\W', '_', request.node.name.lower())[:60]
    yield name
    cluster.psql(f'DROP DATABASE IF EXISTS {name} WITH (FORCE)')


def install(cluster, name, tmp_path):
    return cluster.deploy('--admin-password-file', str(tmp_path / 'pw'), name=name)


def test_install_and_repeat(cluster, name, tmp_path):
    assert cluster.deploy('--status', name=name, check=False).returncode == 3
    first = install(cluster, name, tmp_path)
    assert 'migration 0001 (first_desktop): applied' in first.stdout
    again = cluster.deploy(name=name)
    assert 'up to date' in again.stdout and 'applied' not in again.stdout
    status = cluster.deploy('--status', name=name)
    assert re.search(r'^  0001  first_desktop +applied \d{4}-\d\d-\d\d \d\d:\d\d UTC by '
                     r'qvd-deploy-db ', status.stdout, re.M)
    assert cluster.psql('SELECT id, name FROM tenants ORDER BY id', name) == [
        ['-1', '-'], ['0', '*'], ['1', 'default']]
    assert cluster.psql('SELECT DISTINCT tableowner FROM pg_tables '
                        "WHERE schemaname = 'public'", name) == [['qvd_owner']]


def test_first_administrator(cluster, name, tmp_path):
    install(cluster, name, tmp_path)
    path = tmp_path / 'pw'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = path.read_text().rstrip('\n')
    assert re.fullmatch(r'[A-Za-z0-9]{20}', password)
    rows = cluster.psql('SELECT tenant_id, name, password FROM administrators', name)
    assert len(rows) == 1 and rows[0][:2] == ['0', 'admin'] and rows[0][2].startswith('$y$')
    with open(cluster.log_path, encoding='utf-8', errors='replace') as f:
        assert password not in f.read()
    again = cluster.deploy('--admin-password-file', str(tmp_path / 'other'), name=name)
    assert 'is not written' in again.stdout and not (tmp_path / 'other').exists()


def test_password_is_told_nowhere_else(cluster, name, tmp_path):
    done = cluster.deploy(name=name, check=False)
    assert done.returncode == 1 and 'there is no administrator yet' in done.stderr
    assert cluster.psql('SELECT count(*) FROM administrators', name) == [['0']]
    (tmp_path / 'pw').write_text('precious')
    done = cluster.deploy('--admin-password-file', str(tmp_path / 'pw'), name=name, check=False)
    assert done.returncode == 1 and 'File exists' in done.stderr
    assert (tmp_path / 'pw').read_text() == 'precious'
    assert cluster.psql('SELECT count(*) FROM administrators', name) == [['0']]


def test_password_on_a_terminal(cluster, name):
    """Only a terminal is shown the password."""
    leader, follower = pty.openpty()
    program = os.path.join(installed_tree(), 'usr/bin/qvd-deploy-db')
    done = subprocess.run([program, '-f', cluster.write_conf(name)], stdin=subprocess.DEVNULL,
                          stdout=follower, stderr=follower, check=False)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 0, shown
    assert re.search(r'admin@\*: made, password [A-Za-z0-9]{20} \(not shown again\)', shown)


def test_foreign_tables_are_refused(cluster, name):
    cluster.psql(f'CREATE DATABASE {name}')
    cluster.psql('CREATE TABLE precious (i int); INSERT INTO precious VALUES (1)', name)
    done = cluster.deploy(name=name, check=False)
    assert done.returncode == 1
    assert f'database {name} holds 1 tables that qvd-deploy-db did not make' in done.stderr
    assert cluster.psql('SELECT i FROM precious', name) == [['1']]
    assert cluster.psql("SELECT count(to_regclass('tenants'))", name) == [['0']]


def test_force_says_what_it_destroys(cluster, name, tmp_path):
    install(cluster, name, tmp_path)
    cluster.psql("INSERT INTO users (login) VALUES ('a'), ('b')", name)
    assert cluster.deploy(name=name).returncode == 0
    assert cluster.psql('SELECT count(*) FROM users', name) == [['2']]
    done = cluster.deploy('--force', '--admin-password-file', str(tmp_path / 'new'), name=name)
    assert re.search(rf'--force destroys the database {name} on ', done.stderr)
    assert re.search(r'^  users +2$', done.stderr, re.M)
    assert 'stay on disk' in done.stderr
    assert cluster.psql('SELECT count(*) FROM users', name) == [['0']]


def test_unknown_history_is_refused(cluster, name, tmp_path):
    install(cluster, name, tmp_path)
    cluster.psql("UPDATE schema_migrations SET sha256 = repeat('0', 64)", name)
    done = cluster.deploy(name=name, check=False)
    assert done.returncode == 1 and 'was applied with another text' in done.stderr
    cluster.psql('DELETE FROM schema_migrations; INSERT INTO schema_migrations '
                 "(version, name, sha256, program) SELECT n, 'x', repeat('0', 64), 'y' "
                 'FROM generate_series(1, 99) n', name)
    done = cluster.deploy(name=name, check=False)
    assert done.returncode == 1 and 'another text' in done.stderr


def test_two_at_once(cluster, name, tmp_path):
    """The second waits and finds everything done; the password is told once."""
    program = os.path.join(installed_tree(), 'usr/bin/qvd-deploy-db')
    conf = cluster.write_conf(name)
    runs = [subprocess.Popen([program, '-f', conf, '--admin-password-file', str(tmp_path / f'pw{i}')],
                             text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT) for i in range(4)]
    told = [p.communicate(timeout=60)[0] for p in runs]
    assert [p.returncode for p in runs] == [0] * 4, told
    assert sum('0001 (first_desktop): applied' in t for t in told) == 1
    assert len(list(tmp_path.glob('pw*'))) == 1
    assert cluster.psql('SELECT count(*) FROM administrators', name) == [['1']]


def test_check(cluster, name, tmp_path):
    install(cluster, name, tmp_path)
    done = cluster.deploy('--check', name=name, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 3  # the tests' cluster has fsync off
    assert [line for line in lines if not line.startswith('ok')] == [
        'FAIL  fsync = on: without it a power cut may destroy the database']
    assert 'ok    max_connections = 60, 1 nodes may use 24' in lines
    assert 'ok    qvd-broker may be qvd_l7r over the unix socket' in lines
    cluster.psql("INSERT INTO hosts (name, address) SELECT 'n' || i, '10.0.0.0'::inet + i "
                 'FROM generate_series(1, 50) i', name)
    done = cluster.deploy('--check', name=name, check=False)
    assert ('FAIL  max_connections = 60, 50 nodes may use 367: set it to 367 or more and restart '
            'PostgreSQL') in done.stdout.splitlines()


def test_settings_and_usage(cluster):
    program = os.path.join(installed_tree(), 'usr/bin/qvd-deploy-db')
    conf = cluster.write_conf('x', **{'l7r__port': '70000'})

    def run(*args):
        return subprocess.run([program, *args], text=True, check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    done = run('-f', conf, '--check-config')
    assert done.returncode == 1
    assert (f'{conf}:4: l7r.port = 70000: must be a whole number between 1 and 65535'
            in done.stderr)
    conf = cluster.write_conf('x', **{'l7r__prot': '7', 'database__password': 'hunter2'})
    done = run('-f', conf, '--check-config')
    assert done.returncode == 0
    assert f'{conf}:4: unknown key l7r.prot; did you mean l7r.port?' in done.stderr
    done = run('-f', conf, '--dump-config')
    assert done.returncode == 0 and 'hunter2' not in done.stdout + done.stderr
    assert f'database.name = x\n#   {conf}:3, restart\n' in done.stdout
    assert run('-f', '/nonexistent').returncode == 1
    assert run('--nonsense').returncode == 2
    assert run('stray').returncode == 2
    assert run('--help').stdout.startswith('usage: qvd-deploy-db [options]\n')
    assert run('-f', conf, '--status', '--check').returncode == 2


def test_passwords_over_tcp(tmp_path):
    """Over TCP each role has the password of its setting; the server's log has none of them."""
    with socket.socket() as s:  # a port that is free now
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    own = Cluster(settings=("listen_addresses = '127.0.0.1'", "log_statement = 'all'"), port=port)
    try:
        with open(f'{own.data}/pg_hba.conf', 'a', encoding='utf-8') as f:
            f.write('host all all 127.0.0.1/32 scram-sha-256\n')
        name = 'overtcp'
        own.psql("ALTER ROLE postgres PASSWORD 'the-superuser'; SELECT pg_reload_conf()")
        secrets = {f'database__{part}__password': f'secret-of-{part}'
                   for part in ('hkd', 'l7r', 'auth', 'api')}
        conf = own.write_conf(name, **secrets, database__host='127.0.0.1', database__port=str(port))
        program = os.path.join(installed_tree(), 'usr/bin/qvd-deploy-db')
        done = subprocess.run([program, '-f', conf, '--admin-password-file', str(tmp_path / 'pw')],
                              env={**os.environ, 'PGPASSWORD': 'the-superuser'}, text=True,
                              check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        for part in ('hkd', 'l7r', 'auth', 'api'):
            for password, status in ((f'secret-of-{part}', 0), ('wrong', 2)):
                login = subprocess.run(['psql', '-X', '-h', '127.0.0.1', '-p', str(port), '-U',
                                        f'qvd_{part}', '-d', name, '-c', 'SELECT 1'],
                                       env={**os.environ, 'PGPASSWORD': password}, check=False,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
                assert login.returncode == status, part
        with open(own.log_path, encoding='utf-8', errors='replace') as f:
            log = f.read()
        assert 'ALTER ROLE' in log and 'secret-of' not in log
    finally:
        own.remove()


def test_a_migration_that_fails_leaves_nothing(cluster, name):
    """In the middle of 0001 something is in the way: no table, no type, no record of it remains."""
    cluster.psql(f'CREATE DATABASE {name}')
    cluster.psql('CREATE VIEW vm_effective_properties AS SELECT 1 AS x', name)
    done = cluster.deploy(name=name, check=False)
    assert done.returncode == 1
    assert 'migration 0001 (first_desktop), nothing of it remains' in done.stderr
    assert cluster.psql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                        "AND relkind IN ('r', 'v', 'S') ORDER BY 1", name) == [
                            ['schema_migrations'], ['vm_effective_properties']]
    assert cluster.psql('SELECT count(*) FROM schema_migrations', name) == [['0']]
    cluster.psql('DROP VIEW vm_effective_properties', name)
    again = cluster.deploy(name=name, check=False)
    assert 'migration 0001 (first_desktop): applied' in again.stdout


OLD_DATA = """
INSERT INTO tenants (id, name) VALUES (2, 'acme');
INSERT INTO hosts (name, address) VALUES ('node1', '10.3.15.1'), ('node2', '10.3.15.2');
INSERT INTO administrators (tenant_id, name, password)
    VALUES (0, 'admin', '$y$j9T$salt$hashhashhash'), (2, 'boss', '$y$j9T$salt$hashhashhash');
INSERT INTO users (tenant_id, login, password)
    SELECT 1 + n % 2, 'user' || n, '$y$j9T$salt$hash' || n || 'hash' FROM generate_series(1, 200) n;
INSERT INTO osfs (tenant_id, name, memory) VALUES (1, 'desk', 512), (2, 'desk', 1024);
INSERT INTO dis (osf_id, path, version) SELECT o.id, o.id || '-i' || n || '.tar.zst', 'v' || n
    FROM osfs o, generate_series(1, 3) n;
INSERT INTO vms (name, user_id, osf_id, ip) SELECT 'vm-' || u.login, u.id, o.id,
    '10.3.16.0'::inet + u.id FROM users u JOIN osfs o ON o.tenant_id = u.tenant_id;
INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'l7r.limit.head', '5s'),
    (2, 'l7r.auth.plugins', 'default'), (-1, 'my.own', 'x');
"""
KEPT = {'tenants': 'name', 'hosts': 'name || host(address)', 'users': 'tenant_id || login || password',
        'administrators': 'name || password', 'osfs': 'name || memory', 'dis': 'path || version',
        'vms': 'name || user_id || host(ip)', 'configs': 'key || value', 'vm_runtimes': 'vm_state'}


def first_schema(cluster, name):
    """A database as the first release made it."""
    folder = os.path.join(TOP, 'src/db/migrations')
    file = next(f for f in sorted(os.listdir(folder)) if f.startswith('0001_'))
    with open(os.path.join(folder, file), 'rb') as f:
        sql = f.read()
    cluster.psql(f'CREATE DATABASE {name} OWNER qvd_owner')
    cluster.psql(
        'GRANT CREATE, USAGE ON SCHEMA public TO qvd_owner; SET ROLE qvd_owner; '
        'CREATE TABLE schema_migrations (version integer PRIMARY KEY, name text NOT NULL, '
        'sha256 text NOT NULL, program text NOT NULL, '
        'applied_at timestamptz NOT NULL DEFAULT clock_timestamp());\n'
        f'{sql.decode()};\n'
        "INSERT INTO schema_migrations (version, name, sha256, program) VALUES "
        f"(1, '{file[5:-4]}', '{hashlib.sha256(sql).hexdigest()}', 'qvd-deploy-db 0.1.0');", name)


def test_upgrade_keeps_what_was_there(cluster, name, tmp_path):
    """A database of the first release, filled, becomes the newest: each row is still there."""
    cluster.new_database().drop()  # makes the roles
    first_schema(cluster, name)
    cluster.psql(OLD_DATA, name)

    def content():
        return {table: cluster.psql(f'SELECT {what} FROM {table} ORDER BY 1', name)
                for table, what in KEPT.items()}
    before = content()
    assert len(before['users']) == len(before['vms']) == len(before['vm_runtimes']) == 200
    later = sorted(f for f in os.listdir(os.path.join(TOP, 'src/db/migrations'))
                   if f.endswith('.sql') and not f.startswith('0001_'))
    status = cluster.deploy('--status', name=name, check=False)
    assert status.returncode == (3 if later else 0)
    done = cluster.deploy('--admin-password-file', str(tmp_path / 'pw'), name=name)
    for file in later:
        assert f'migration {file[:4]} ({file[5:-4]}): applied' in done.stdout
        assert f'  {file[:4]}  {file[5:-4]}' in status.stdout
    assert content() == before
    assert not (tmp_path / 'pw').exists()  # there are administrators
    assert cluster.deploy('--status', name=name).returncode == 0
    # What it has become is what a new one is.
    fresh = cluster.new_database()
    describe = ("SELECT table_name, column_name, data_type, is_nullable, column_default "
                "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2")
    try:
        assert [r for r in cluster.psql(describe, name) if r[0] != 'schema_migrations'] == [
            r for r in fresh.psql(describe) if r[0] != 'schema_migrations']
    finally:
        fresh.drop()


def test_a_newer_schema_is_left_alone(cluster, name, tmp_path):
    install(cluster, name, tmp_path)
    cluster.psql("INSERT INTO schema_migrations (version, name, sha256, program) VALUES (9999, "
                 f"'later', '{'0' * 64}', 'qvd-deploy-db 99')", name)
    for option in ((), ('--status',)):
        done = cluster.deploy(*option, name=name, check=False)
        assert done.returncode == 1
        assert 'has migration 9999 (later), which this qvd-deploy-db' in done.stderr
        assert 'install the newer program' in done.stderr
