# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-deploy-db: install, repeat, upgrade, refuse, destroy."""

import os
import pty
import re
import socket
import stat
import subprocess

import pytest

from farm import installed_tree
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
