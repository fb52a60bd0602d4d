# SPDX-License-Identifier: GPL-3.0-or-later
"""qa: the manual's words, what it prints, how it ends, where it takes its settings from."""

import csv
import io
import json
import os
import pty
import select
import subprocess
import time

import pytest

from apiclient import start_api
from farm import make_farm


@pytest.fixture(scope='module')
def farm(request):
    made = make_farm({'services': False})
    try:
        made.api = start_api(made)
        with open(made.path('lib/storage/staging/desk.tar'), 'wb') as f:
            f.write(b'x' * 100000)
        failed_before = request.session.testsfailed
        yield made
        if request.session.testsfailed > failed_before:
            print(made.logs())
    finally:
        made.destroy()


def qa(farm, *words, **kwargs):
    done = farm.qa(*words, check=False, **kwargs)
    return done.returncode, done.stdout, done.stderr


def ok(farm, *words, **kwargs):
    status, out, err = qa(farm, *words, **kwargs)
    assert status == 0, (words, out, err)
    return out


def test_a_farm_is_made_in_the_manuals_words(farm):
    assert ok(farm, 'host', 'add', 'name=node1', 'address=127.0.0.1') == 'Host added with id 1\n'
    assert ok(farm, 'osf', 'add', 'name=MyOSF', 'memory=512', 'use_overlay=y') \
        == 'OSF added with id 1\n'
    assert ok(farm, 'di', 'add', 'path=desk.tar', 'osf=MyOSF') == 'DI added with id 1\n'
    assert ok(farm, 'user', 'add', 'login=alice', 'password=s3cret') == 'User added with id 1\n'
    assert ok(farm, 'vm', 'add', 'name=desk', 'user=alice', 'osf=MyOSF') == 'VM added with id 1\n'
    lines = ok(farm, 'vm', 'list').splitlines()
    assert lines[0].split() == ['Id', 'Name', 'User', 'Ip', 'OSF', 'DI_Tag', 'DI', 'Host', 'State',
                                'UserState', 'Blocked']
    assert lines[1].split() == ['1', 'desk', 'alice', '10.3.15.50', 'MyOSF', 'default', '1-desk.tar',
                                '-', 'stopped', 'disconnected', '0']
    head = ok(farm, 'host', 'list').splitlines()[0]
    for title in ('Id', 'Name', 'Address', 'HKD', 'Usable RAM', 'Usable CPU', 'VMs assigned',
                  'Blocked', 'State'):
        assert title in head
    assert ok(farm, 'di', 'list', '-q').split()[:4] == ['1', 'MyOSF',
                                                        farm.api.ok('GET', 'di/1')['version'],
                                                        '1-desk.tar']


def test_what_a_filter_finds(farm):
    for login in ('albert', 'alfred', 'zoe'):
        ok(farm, 'user', 'add', f'login={login}', 'password=x')
    for option in ('-f', '-F', '--filter'):
        out = ok(farm, 'user', 'list', '-q', option, 'login=al*,login!=alice')
        assert [line.split()[1] for line in out.splitlines()] == ['albert', 'alfred']
    assert ok(farm, 'vm', 'list', '-q', '-f', 'user=al*,state=running') == ''
    assert ok(farm, 'vm', 'list', '-q', '-f', 'user=al*,state=stopped').split()[1] == 'desk'


def test_formats(farm):
    rows = list(csv.DictReader(io.StringIO(ok(farm, 'vm', 'list', '--format', 'csv'))))
    assert (rows[0]['name'], rows[0]['ip']) == ('desk', '10.3.15.50')
    rows = json.loads(ok(farm, 'vm', 'list', '--format=json', '--fields=id,name,memory'))
    assert rows == [{'id': 1, 'name': 'desk', 'memory': 512}]
    ok(farm, 'osf', 'add', 'name=com,ma "quoted"')
    rows = list(csv.DictReader(io.StringIO(ok(farm, 'osf', 'list', '--format=csv'))))
    assert rows[1]['name'] == 'com,ma "quoted"'
    ok(farm, 'osf', 'del', '-f', "name='com,ma \"quoted\"'")


ENDS = [
    (('frob',), 2), (('vm', 'frob'), 2), (('vm', 'add', 'name'), 2), (('vm', 'start'), 2),
    (('vm', 'list', '--colour'), 2), (('vm', 'list', '-f', '(('), 2),
    (('vm', 'list', '--fields=colour'), 2), (('vm', 'edit', '-f', 'name=desk'), 2),
    (('vm', 'stop', '-f', 'name=absent'), 3), (('user', 'passwd', 'user=absent'), 3),
    (('di', 'tag', 'di_id=99', 'tag=x'), 3),
    (('vm', 'start', '-f', 'name=desk'), 4), (('osf', 'del', '-f', 'name=MyOSF'), 4),
    (('user', 'add', 'login=alice', 'password=x'), 4), (('osf', 'add', 'memory=5', 'name=x'), 2),
    (('config', 'set', 'l7r.workers=none'), 2),
    (('vm', 'list', '-u', 'https://127.0.0.1:1'), 5), (('vm', 'list', '-u', 'http://x'), 2),
    (('vm', 'list', '--ca', '/nonexistent'), 2), (('user', 'add', 'login=a:b', 'password=x'), 2),
    (('--help',), 0), (('vm', '--help'), 0), (('vm', 'start', '--help'), 0),
    (('--help', 'di', 'add'), 0), (('--version',), 0),
]


@pytest.mark.parametrize('words, status', ENDS, ids=[' '.join(e[0]) for e in ENDS])
def test_how_it_ends(farm, words, status):
    kwargs = {'input': 'x\n', 'stdin': None} if 'passwd' in words else {}
    got, out, err = farm_run(farm, words, **kwargs)
    assert got == status, (out, err)
    if status:
        assert err and 'Traceback' not in err


def farm_run(farm, words, env=None, **kwargs):
    full = {**farm.client_env(), 'QA_URL': f'https://{farm.address}:{farm.api_port}',
            'QA_LOGIN': 'admin', 'QA_PASSWORD': farm.admin_password, 'QA_TENANT': '*',
            'QA_CA': farm.path('ca.pem'), **(env or {})}
    if 'input' not in kwargs:
        kwargs['stdin'] = subprocess.DEVNULL
    kwargs = {k: v for k, v in kwargs.items() if v is not None}
    done = subprocess.run([farm.path('tree/usr/bin/qa'), *words],
                          env={k: v for k, v in full.items() if v is not None}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **kwargs)
    return done.returncode, done.stdout, done.stderr


def test_one_failure_does_not_hinder_the_others(farm):
    ok(farm, 'user', 'add', 'login=temp', 'password=x')
    status, out, err = qa(farm, 'user', 'del', '-f', 'login=[alice,temp]')
    assert status == 1 and 'alice' in err and 'VMs are his' in err
    assert '1' in out
    assert ok(farm, 'user', 'list', '-q', '-f', 'login=temp') == ''


def test_help_tells_every_verb(farm):
    for kind in ('vm', 'host', 'osf', 'di', 'user', 'config'):
        out = ok(farm, kind, '--help')
        for verb in {'vm': ('start', 'stop', 'block', 'unblock', 'disconnect_user', 'add', 'del',
                            'edit', 'list'), 'config': ('get', 'set', 'del', 'ssl'),
                     'di': ('add', 'del', 'list', 'tag', 'untag'), 'user': ('passwd',)}.get(kind, ('add',)):
            assert verb in out, (kind, verb)


def test_passwords_need_no_argument(farm):
    def hash_of(login):
        return farm.psql(f"SELECT password FROM users WHERE login = '{login}'")[0][0]
    before = hash_of('zoe')
    status, _, err = farm_run(farm, ('user', 'passwd', 'user=zoe'), input='from stdin\n')
    assert status == 0, err
    after = hash_of('zoe')
    assert after.startswith('$y$') and after != before
    # On a terminal: asked twice, without echo.
    master, slave = pty.openpty()
    env = {**farm.client_env(), 'QA_URL': f'https://{farm.address}:{farm.api_port}',
           'QA_LOGIN': 'admin', 'QA_TENANT': '*', 'QA_CA': farm.path('ca.pem'),
           'QA_PASSWORD': farm.admin_password}
    process = subprocess.Popen([farm.path('tree/usr/bin/qa'), 'user', 'passwd', 'user=zoe'],
                               env=env, stdin=slave, stdout=slave, stderr=slave,
                               start_new_session=True,
                               preexec_fn=lambda: __import__('fcntl').ioctl(0, 0x540E, 0))
    os.close(slave)
    said = b''

    def until(text):
        nonlocal said
        deadline = time.monotonic() + 15
        while text not in said:
            assert select.select([master], [], [], deadline - time.monotonic())[0], said
            said += os.read(master, 4096)
    until(b'zoe')
    until(b': ')
    os.write(master, b'typed pw\n')
    until(b'gain')
    os.write(master, b'typed pw\n')
    try:
        while True:
            said += os.read(master, 4096)
    except OSError:
        pass
    assert process.wait(15) == 0, said
    assert b'typed pw' not in said
    assert hash_of('zoe') != after


def test_a_password_of_the_command_line_is_wiped(farm):
    """While the server does not answer, nobody finds it in the list of processes."""
    import socket
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen(1)
        env = {**farm.client_env(), 'QA_URL': f'https://127.0.0.1:{silent.getsockname()[1]}',
               'QA_PASSWORD': 'x', 'QA_CA': farm.path('ca.pem')}
        with subprocess.Popen([farm.path('tree/usr/bin/qa'), 'user', 'add', 'login=x',
                               'password=c4n4ry'], env=env, stderr=subprocess.DEVNULL) as process:
            peer, _ = silent.accept()
            with open(f'/proc/{process.pid}/cmdline', 'rb') as f:
                line = f.read()
            peer.close()
            process.kill()
    assert b'c4n4ry' not in line


def test_a_password_is_one_users(farm):
    farm.psql("INSERT INTO tenants (name) VALUES ('lab')")
    ok(farm, 'user', 'add', 'login=zoe', 'password=x', 'tenant=lab')
    rows = "SELECT password FROM users WHERE login = 'zoe' ORDER BY id"
    before = farm.psql(rows)
    status, _, err = farm_run(farm, ('user', 'passwd', 'user=zoe'), input='fresh\n')
    assert status == 2 and 'tenant' in err
    assert farm.psql(rows) == before
    status, _, err = farm_run(farm, ('user', 'passwd', 'user=zoe', '-f', 'tenant=lab'),
                              input='fresh\n')
    assert status == 0, err
    after = farm.psql(rows)
    assert after[0] == before[0] and after[1] != before[1]


def test_no_password_no_terminal_says_what_to_do(farm):
    status, _, err = farm_run(farm, ('vm', 'list'), {'QA_PASSWORD': None}, start_new_session=True)
    assert status == 2 and 'QA_PASSWORD' in err
    status, _, err = farm_run(farm, ('vm', 'list'), {'QA_PASSWORD': 'wrong'})
    assert status == 4 and 'wrong login' in err


def test_settings_files(farm, tmp_path):
    path = tmp_path / 'qa.conf'
    path.write_text(f'qa.url = https://{farm.address}:{farm.api_port}/\nqa.login = admin\n'
                    f'qa.tenant = *\nqa.password = {farm.admin_password}\n'
                    f'qa.ca = {farm.path("ca.pem")}\nqa.format = JSON\n')
    none = {k: None for k in ('QA_URL', 'QA_LOGIN', 'QA_PASSWORD', 'QA_TENANT', 'QA_CA')}
    status, out, err = farm_run(farm, ('--config', str(path), 'host', 'list'), none)
    assert status == 0 and json.loads(out)[0]['name'] == 'node1', err
    home = tmp_path / 'home'
    (home / '.qvd').mkdir(parents=True)
    (home / '.qvd' / 'qa.conf').write_text(path.read_text())
    status, out, err = farm_run(farm, ('host', 'list'), {**none, 'HOME': str(home)})
    assert status == 0 and json.loads(out)[0]['name'] == 'node1', err
    path.write_text('qa.colour = red\nqa.format = YAML\n')
    status, _, err = farm_run(farm, ('--config', str(path), 'host', 'list'), none)
    assert status == 2 and 'qa.format' in err and ':2' in err


def test_an_unknown_certificate_is_not_trusted(farm):
    status, _, err = farm_run(farm, ('vm', 'list'), {'QA_CA': None})
    assert status == 5 and 'certificate' in err
    status, _, err = farm_run(farm, ('vm', 'list', '--insecure'), {'QA_CA': None})
    assert status == 0, err


def test_config(farm):
    assert ok(farm, 'config', 'get', 'vm.network.gateway') == 'vm.network.gateway=10.3.15.1\n'
    status, _, err = qa(farm, 'config', 'set', 'vm.network.domainn=x')
    assert status == 0 and 'vm.network.domain' in err
    assert 'vm.network.domainn=x\n' in ok(farm, 'config', 'get')
    assert '1' in ok(farm, 'config', 'del', 'vm.network.domainn')
    lines = ok(farm, 'config', 'get').splitlines()
    keys = [line.split('=')[0] for line in lines]
    assert keys == sorted(keys) and len(keys) > 50
    assert not [line for line in lines if line.startswith('internal.')]
    ok(farm, 'config', 'ssl', f'cert={farm.path("etc/certs/cert.pem")}',
       f'key={farm.path("etc/certs/key.pem")}')
    assert farm.psql('SELECT count(*) FROM ssl_configs') == [['2']]


def test_waiting_for_a_start(farm):
    """A node that is not there: the order waits; one that starts it ends the wait."""
    farm.psql("UPDATE host_runtimes SET state = 'running', usable_ram = 4000, usable_cpu = 2,"
              " free_ram = 1, free_cpu = 1, ok_ts = now()")
    env = {**farm.client_env(), 'QA_URL': f'https://{farm.address}:{farm.api_port}',
           'QA_LOGIN': 'admin', 'QA_TENANT': '*', 'QA_CA': farm.path('ca.pem'),
           'QA_PASSWORD': farm.admin_password}
    process = subprocess.Popen([farm.path('tree/usr/bin/qa'), 'vm', 'start', '--wait', '-f',
                                'name=desk'], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 10
    while farm.psql('SELECT vm_cmd FROM vm_runtimes') != [['start']]:
        assert time.monotonic() < deadline
    assert process.poll() is None
    farm.psql("UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL")
    out, err = process.communicate(timeout=15)
    assert process.returncode == 0 and out == 'Started 1 VMs.\n', err
    farm.psql("UPDATE vm_runtimes SET vm_state = 'stopped', host_id = NULL")
