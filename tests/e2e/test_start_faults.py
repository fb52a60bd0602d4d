# SPDX-License-Identifier: GPL-3.0-or-later
"""What daemons say, and what they do, when the schema is another, a port is taken, a clock wrong, the
database elsewhere."""

import contextlib
import glob
import json
import os
import re
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from farm import FarmError, wait_until

FARM = {'settings': {'log.level': 'INFO'}}


def log_of(farm, name):
    with open(farm.path('log', name + '.log'), encoding='utf-8', errors='replace') as f:
        return f.read()


def api_status(farm):
    """Status and message of a question to the API that needs no login."""
    context = ssl.create_default_context(cafile=farm.path('ca.pem'))
    try:
        with urllib.request.urlopen(f'https://localhost:{farm.api_port}/api/1/info', timeout=10,
                                    context=context) as answer:
            return answer.status, ''
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())['error']['message']


def l7r_status(farm):
    context = ssl.create_default_context(cafile=farm.path('ca.pem'))
    with socket.create_connection((farm.address, farm.l7r_port), 10) as raw, \
            context.wrap_socket(raw, server_hostname='localhost') as s:
        s.sendall(b'GET /qvd/list_of_vm HTTP/1.1\r\nHost: x\r\n'
                  b'Authorization: Basic bm9ib2R5Om5vdGhpbmc=\r\n\r\n')
        return int(s.recv(4096).split()[1])


SCHEMAS = {  # what is done to the table, what is said, the way back
    'newer': ("INSERT INTO schema_migrations (version, name, sha256, program) VALUES (9999, "
              f"'later', '{'0' * 64}', 'x')",
              r"the database's schema is 9999, this program is for \d+: install the newer program",
              'DELETE FROM schema_migrations WHERE version = 9999'),
    'older': ('ALTER TABLE schema_migrations RENAME TO kept; '
              'CREATE TABLE schema_migrations (version int); '
              'GRANT SELECT ON schema_migrations TO PUBLIC',
              r"the database's schema is 0, this program is for \d+: run qvd-deploy-db",
              'DROP TABLE schema_migrations; ALTER TABLE kept RENAME TO schema_migrations'),
    'none': ('ALTER TABLE schema_migrations RENAME TO kept',
             r'the database holds no schema of QVD \(.*\): run qvd-deploy-db',
             'ALTER TABLE kept RENAME TO schema_migrations'),
}


@pytest.mark.parametrize('kind', SCHEMAS)
def test_another_schema(farm, kind):
    """All say so and what to type, refuse with 503, and go on by themselves once it is mended."""
    change, said, back = SCHEMAS[kind]
    wait_until(lambda: api_status(farm)[0] == 200 and l7r_status(farm) == 401, 20, 'a whole farm')
    begin = {name: len(log_of(farm, name)) for name in ('hkd', 'l7r', 'api')}
    farm.psql(change)
    # As qvd-deploy-db tells it.
    farm.psql("NOTIFY config, 'schema 0'")
    names = ['l7r', 'api']
    if kind == 'older':  # one that starts ends, and is started again by who watches it
        farm.stop_service('hkd')
        with contextlib.suppress(FarmError):
            farm.start_service('hkd', timeout=1)
        names.append('hkd')
    for name in names:
        wait_until(lambda n=name: re.search(said, log_of(farm, n)[begin[n]:]), 20,
                   f'the word of {name}')
    assert api_status(farm)[0] == 503 and 'schema' in api_status(farm)[1]
    assert l7r_status(farm) == 503
    farm.psql(back)
    farm.psql("NOTIFY config, 'schema 0'")
    wait_until(lambda: api_status(farm)[0] == 200 and l7r_status(farm) == 401, 20, 'a whole farm')
    wait_until(lambda: farm.service('hkd')['ready'], 40, 'the node')
    # Said once, not at each question.
    assert len(re.findall(said, log_of(farm, 'l7r')[begin['l7r']:])) == 1


@contextlib.contextmanager
def taken_port(farm):
    """A port of the farm's own network that another program has, and its pid there."""
    script = ('import socket,sys,time\ns=socket.create_server(("0.0.0.0",0))\n'
              'print(s.getsockname()[1],flush=True)\nsys.stdin.read()')
    holder = subprocess.Popen(farm.command(['/usr/bin/python3', '-c', script]),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield int(holder.stdout.readline())
    finally:
        holder.communicate('')


@pytest.mark.parametrize('program,setting', [('qvd-l7r', 'l7r.port = {}'),
                                             ('qvd-api', 'api.url = https://*:{}/')])
def test_port_taken(farm, program, setting):
    """It tells the setting, who has the port, and what to do."""
    with taken_port(farm) as port:
        with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
            text = f.read()
        with open(farm.path('etc/other.conf'), 'w', encoding='utf-8') as f:
            f.write(text + setting.format(port) + '\n')
        done = farm.run([f'/usr/lib/qvd/{program}', '-f', '/etc/qvd/other.conf'], check=False,
                        timeout=20)
    assert done.returncode == 1
    assert re.search(rf'{setting.split(" =")[0]} = \S*{port}\S* ?.*taken: (python3 \(pid \d+\)'
                     rf"|a program of user root) .*(stop it or choose another port)", done.stderr)


def test_a_wrong_clock_is_told(farm):
    """A node whose clock is 100 s ahead says so, once, and serves; nothing is decided by it."""
    library = glob.glob('/usr/lib/*/faketime/libfaketime.so.1')[0]
    ahead = {'LD_PRELOAD': library, 'FAKETIME': '+100s', 'FAKETIME_DONT_FAKE_MONOTONIC': '1',
             'ASAN_OPTIONS': 'verify_asan_link_order=0'}
    farm.stop_service('hkd')
    farm.start_service('hkd', env=ahead)
    begin = len(log_of(farm, 'hkd'))

    def told():
        return re.findall(r"this node's clock differs from the database's by (-?[\d.]+) s; set it "
                          r'\(NTP\)', log_of(farm, 'hkd'))
    wait_until(told, 20, 'the warning')
    assert 99 <= abs(float(told()[-1])) <= 101
    farm.psql('UPDATE host_runtimes SET ok_ts = NULL')
    for _ in range(2):  # two more beats
        before = farm.psql('SELECT ok_ts FROM host_runtimes')[0][0]
        wait_until(lambda b=before: farm.psql('SELECT ok_ts FROM host_runtimes')[0][0] != b, 20,
                   'a beat')
    assert len(told()) == 1 and begin >= 0
    assert farm.psql('SELECT state FROM host_runtimes') == [['running']]
    assert abs(float(farm.psql('SELECT extract(epoch FROM now() - ok_ts) FROM host_runtimes')[0][0])
               ) < 20
    farm.qa('config', 'set', 'hkd.clock.difference=1h')
    farm.stop_service('hkd')
    farm.start_service('hkd', env=ahead)
    farm.psql('UPDATE host_runtimes SET ok_ts = NULL')
    wait_until(lambda: farm.psql('SELECT ok_ts FROM host_runtimes')[0][0], 20, 'a beat')
    assert len(told()) == 1
    assert os.path.exists(farm.path('log/hkd.log'))


def processes(farm):
    """Those that speak with the database: names and pids."""
    return farm.run(['pgrep', '-l', 'qvd-(hkd|authd|api|l7r-broker)']).stdout


def move_database(farm, address):
    """PostgreSQL listens there, and only then its name is that address."""
    with open(farm.path('pg/data/postgresql.conf'), 'a', encoding='utf-8') as f:
        f.write(f"listen_addresses = '{address}'\n")
    farm.stop_service('postgres')
    farm.start_service('postgres')
    with open(farm.path('etc/names'), 'w', encoding='utf-8') as f:
        f.write(f'{address} db.example\n')


def test_a_database_that_moves(farm):
    """Its name has another address: all find it by themselves, under their seccomp filters."""
    farm.stop_service('hkd')
    farm.start_service('hkd')
    with open(farm.path('pg/data/pg_hba.conf'), 'a', encoding='utf-8') as f:
        f.write('host all all 127.0.0.0/8 trust\n')
    move_database(farm, '127.0.0.2')
    # A name server of the test's own, which is asked each time.
    farm.run(['dnsmasq', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--local-ttl=0',
              '--addn-hosts=/etc/qvd/names', '--listen-address=127.0.0.53', '--bind-interfaces',
              '--user=root', '--pid-file=/run/qvd/names.pid'])
    with open(farm.path('etc/resolv.conf'), 'w', encoding='utf-8') as f:
        f.write('nameserver 127.0.0.53\n')
    farm.run(['mount', '--bind', '/etc/qvd/resolv.conf', '/etc/resolv.conf'])
    with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
        text = f.read()
    with open(farm.path('etc/node.conf'), 'w', encoding='utf-8') as f:
        f.write(re.sub(r'(?m)^database\.host\b.*\n', '', text) + 'database.host = db.example\n')
    for name in ('hkd', 'l7r', 'api'):
        farm.stop_service(name)
        farm.start_service(name)
    wait_until(lambda: api_status(farm)[0] == 200 and l7r_status(farm) == 401, 20, 'a whole farm')
    before = processes(farm)
    assert len(before.split()) == 12, before    # authd twice, qvd-api with its master
    for address in ('127.0.0.3', '127.0.0.2'):
        move_database(farm, address)
        farm.run(['sh', '-c', 'kill -HUP $(cat /run/qvd/names.pid)'])
        farm.psql('UPDATE host_runtimes SET ok_ts = NULL')
        wait_until(lambda: api_status(farm)[0] == 200 and l7r_status(farm) == 401
                   and farm.psql('SELECT 1 FROM host_runtimes WHERE ok_ts IS NOT NULL'), 30,
                   'all to be back')
        assert processes(farm) == before    # nobody was killed
