# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layer of the settings is in force, where it comes from, and the limits of all of them by the
real reader."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree, wait_until

FARM = {'settings': {'l7r.limit.head': '7s', 'hkd.sweep.interval': '20s', 'log.level': 'INFO'}}
SERVERS = ('/usr/lib/qvd/qvd-hkd', '/usr/lib/qvd/qvd-l7r', '/usr/lib/qvd/qvd-authd',
           '/usr/lib/qvd/qvd-api', '/usr/bin/qvd-deploy-db')


def dump(farm, program, *args):
    """{key: (value, where it comes from)}, and tenants' own as 'key@tenant'."""
    done = farm.run([program, '--dump-config', *args])
    found = {}
    for line, source in re.findall(r'^(?!#  )(.*)\n#   (.*)$', done.stdout, re.M):
        tenant = re.match(r'# tenant (\d+): (.*)', line)
        key, value = (tenant[2] if tenant else line).split(' =', 1)
        found[key + (f'@{tenant[1]}' if tenant else '')] = (value.strip(), source)
    return found, done


@pytest.mark.parametrize('program', SERVERS)
def test_each_layer_and_its_source(farm, program):
    farm.psql("INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'l7r.limit.head', '9s'), "
              "(1, 'l7r.auth.plugins', 'default'), (-1, 'my.own', 'x'), (-1, 'log.level', 'OFF'), "
              "(-1, 'l7r.auth.plugin.default.salt', 'secret-of-the-database'), "
              "(-1, 'auth.ldap.bindpass', 'secret-of-ldap') "
              'ON CONFLICT (tenant_id, key) DO NOTHING')
    values, done = dump(farm, program)
    assert values['l7r.limit.head'] == ('9s', 'database, reload')
    assert re.fullmatch(r'20s', values['hkd.sweep.interval'][0])
    assert re.fullmatch(r'/etc/qvd/node\.conf:\d+, live', values['hkd.sweep.interval'][1])
    assert values['l7r.port'] == ('8443', 'default, restart')
    assert values['l7r.auth.plugins@1'] == ('default', 'database (tenant 1)')
    assert values['my.own'] == ('x', 'database')
    # From files only, whatever the database says.
    assert values['log.level'][0] == 'INFO' and 'node.conf' in values['log.level'][1]
    assert values['l7r.auth.plugin.default.salt'][0] == '***'
    assert 'secret-of' not in done.stdout + done.stderr
    # What differs from the database is told.
    assert re.search(r'node\.conf:\d+: l7r\.limit\.head has another value in the database, which is '
                     'taken', done.stderr)


def test_without_the_database(farm):
    with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
        text = f.read()
    with open(farm.path('etc/away.conf'), 'w', encoding='utf-8') as f:
        f.write(text + 'database.host = /nowhere\n')
    values, done = dump(farm, '/usr/lib/qvd/qvd-hkd', '-f', '/etc/qvd/away.conf')
    assert done.stdout.startswith('# Without the settings of the database: ')
    assert values['l7r.limit.head'][0] == '7s'


# -- limits: generated from the table ------------------------------------------------------------

def rows():
    with open(os.path.join(TOP, 'src/conf/settings.def'), encoding='utf-8') as f:
        return re.findall(r'^K\("([^"]+)", (INT|DURATION|REAL), "[^"]*", (\d+), (\d+), NULL, ',
                          f.read(), re.M)


def check(tree, path, lines):
    path.write_text(''.join(f'{line}\n' for line in lines))
    path.chmod(0o600)
    return subprocess.run([os.path.join(tree, 'usr/bin/qvd-deploy-db'), '-f', str(path),
                           '--check-config'], text=True, timeout=20, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_each_limit_at_limit_and_beyond(tmp_path):
    """Every number and time of the table: its least and most are taken, one less and one more are
    refused with file, line, key and what is allowed."""
    tree, path, table = installed_tree(), tmp_path / 'x.conf', rows()
    assert len(table) > 90
    unit = {'INT': '', 'DURATION': 'ms', 'REAL': ''}
    for bound in (2, 3):
        done = check(tree, path, [f'{r[0]} = {r[bound]}{unit[r[1]]}' for r in table])
        assert (done.returncode, done.stderr) == (0, '')
    wrong = []
    for row in table:
        key, type_, least, most = row[0], row[1], int(row[2]), int(row[3])
        for value in (least - 1, most + 1):
            done = check(tree, path, ['nodename = x', f'{key} = {value}{unit[type_]}'])
            said = f'{path}:2: {key} = {value}{unit[type_]}: must be a '
            if done.returncode != 1 or said not in done.stderr:
                wrong.append((key, value, done.stderr))
    assert wrong == []


# -- what a daemon needs before it serves, from the database -----------------------------------------

def listening(farm, port):
    done = farm.run(['sh', '-c', 'cat /proc/net/tcp /proc/net/tcp6'])
    return re.search(rf': [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ', done.stdout) is not None


def test_port_of_the_database(farm):
    """l7r.port by qa config set, as the manual has it: in force at the next start, over the file's."""
    farm.qa('config', 'set', 'l7r.port=18444')
    command = farm.command(['/usr/lib/qvd/qvd-l7r'])
    with open(farm.path('log', 'second.log'), 'w', encoding='utf-8') as log:
        second = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: listening(farm, 18444), 20, 'the port of the database')
        assert not listening(farm, 8443)
    finally:
        pid = farm.run(['pgrep', '-n', '-x', 'qvd-l7r']).stdout.strip()
        farm.run(['kill', '-TERM', pid])
        second.wait(20)
        farm.qa('config', 'del', 'l7r.port')
