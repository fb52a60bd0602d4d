# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings as the daemons take them: --check-config, --dump-config, templates, no idle key."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree

DAEMONS = {  # program: its file
    'usr/lib/qvd/qvd-hkd': 'node.conf', 'usr/lib/qvd/qvd-l7r': 'node.conf',
    'usr/lib/qvd/qvd-authd': 'node.conf', 'usr/lib/qvd/qvd-api': 'node.conf',
    'usr/bin/qvd-deploy-db': 'node.conf', 'usr/lib/qvd/qvd-vma': 'vma.conf',
}
MINIMUM = {'node.conf': 'nodename = node1\ndatabase.host = /run/postgresql\n'
                        'vm.network.ip.start = 10.3.15.100\nvm.network.netmask = 24\n'
                        'vm.network.gateway = 10.3.15.1\n',
           'vma.conf': ''}


@pytest.fixture(scope='module', name='tree')
def tree_fixture():
    return installed_tree()


def run(tree, program, *args):
    return subprocess.run([os.path.join(tree, program), *args], text=True, timeout=20, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def conf(tmp_path, program, more=''):
    path = tmp_path / 'x.conf'
    path.write_text(MINIMUM[DAEMONS[program]] + more)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize('program', DAEMONS)
def test_good(tree, tmp_path, program):
    done = run(tree, program, '-f', conf(tmp_path, program), '--check-config')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('program', DAEMONS)
def test_bad_value_names_file_line_key_and_what_is_allowed(tree, tmp_path, program):
    path = conf(tmp_path, program, 'log.level = LOUD\n')
    line = MINIMUM[DAEMONS[program]].count('\n') + 1
    for option in ('--check-config', '--config'):
        done = run(tree, program, *(('--config', path, option) if option != '--config'
                                    else ('--config', path)))
        assert done.returncode == 1
        assert (f'{path}:{line}: log.level = LOUD: must be one of: ALL TRACE DEBUG INFO WARN ERROR '
                'FATAL OFF') in done.stderr


@pytest.mark.parametrize('program', DAEMONS)
def test_unknown_key_warns_with_the_nearest(tree, tmp_path, program):
    path = conf(tmp_path, program, 'log.lewel = INFO\n')
    done = run(tree, program, '-f', path, '--check-config')
    assert done.returncode == 0
    assert re.search(rf'{path}:\d+: unknown key log\.lewel; did you mean log\.level\?', done.stderr)


@pytest.mark.parametrize('program', DAEMONS)
def test_dump(tree, tmp_path, program):
    path = conf(tmp_path, program, 'log.level = WARN\ndatabase.password = hunter2\n')
    done = run(tree, program, '-f', path, '--dump-config')
    assert done.returncode == 0 and 'hunter2' not in done.stdout + done.stderr
    line = MINIMUM[DAEMONS[program]].count('\n') + 1
    assert f'\nlog.level = WARN\n#   {path}:{line}, reload\n' in '\n' + done.stdout
    # The dump is itself a settings file that says the same.
    again = tmp_path / 'again.conf'
    again.write_text(done.stdout)
    def values(text):
        return [line for line in text.splitlines() if not line.startswith('#')]

    assert values(run(tree, program, '-f', str(again), '--dump-config').stdout) == values(
        done.stdout)


def test_readable_passwords_are_told(tree, tmp_path):
    path = conf(tmp_path, 'usr/lib/qvd/qvd-hkd', 'database.hkd.password = x\n')
    told = f'{path}:6: others may read database.hkd.password: chmod 0600 {path}'
    for mode, expected in ((0o600, False), (0o640, True), (0o604, True)):
        os.chmod(path, mode)
        done = run(tree, 'usr/lib/qvd/qvd-hkd', '-f', path, '--check-config')
        assert done.returncode == 0 and (told in done.stderr) == expected


@pytest.mark.parametrize('program', DAEMONS)
def test_usage(tree, program):
    name = os.path.basename(program)
    told = run(tree, program, '--help')
    assert told.returncode == 0 and told.stdout.startswith(f'usage: {name} [options]\n')
    for option in ('--config FILE', '--check-config', '--dump-config', '--version', '--help'):
        assert option in told.stdout
    assert re.fullmatch(rf'{name} \d+\.\d+\.\d+\n', run(tree, program, '--version').stdout)
    assert run(tree, program, '--nonsense').returncode == 2
    assert run(tree, program, 'stray').returncode == 2
    missing = run(tree, program, '-f', '/nonexistent.conf')
    assert missing.returncode == 1 and '/nonexistent.conf: No such file' in missing.stderr


@pytest.mark.parametrize('name', ['node.conf', 'vma.conf', 'client.conf', 'qa.conf'])
def test_templates(tree, tmp_path, name):
    """Each template is taken as it stands, and with every line switched on."""
    with open(os.path.join(tree, 'usr/share/qvd/config', name), encoding='utf-8') as f:
        text = f.read()
    assert text.startswith(f'# {name}: settings of QVD.')
    on = re.sub(r'^#(?=\S+ = )', '', text, flags=re.M)
    for content in (text, MINIMUM['node.conf'] + on.replace('nodename = \n', '').replace(
            'vm.network.', '#vm.network.').replace('database.host = localhost', '')):
        path = tmp_path / name
        path.write_text(content)
        path.chmod(0o600)
        done = run(tree, 'usr/bin/qvd-deploy-db', '-f', str(path), '--check-config')
        assert (done.returncode, done.stderr) == (0, '')


def test_no_key_is_idle():
    """What the table offers is asked for by some program: a setting without effect is a lie."""
    with open(os.path.join(TOP, 'src/conf/settings.def'), encoding='utf-8') as f:
        rows = re.findall(r'^K\("([^"]+)", (\w+),', f.read(), re.M)
    assert len(rows) > 100
    source = ''
    for folder, _, names in os.walk(os.path.join(TOP, 'src')):
        for name in names:
            if name.endswith(('.c', '.h')):
                with open(os.path.join(folder, name), encoding='utf-8') as f:
                    source += f.read()
    idle = [key for key, type_ in rows if type_ not in ('OBSOLETE', 'RESERVED') and not is_read(key, source)]
    assert idle == []


def is_read(key, source):
    if f'"{key}"' in source or f'"{key[:-1]}' in source and key.endswith('.*'):
        return True
    if any(f'"{key[:i + 1]}"' in source for i, c in enumerate(key) if c == '.' and i > 4):
        return True
    # Asked for by a name that is put together: "database.%s.password", "log.%s.filename".
    words = key.split('.')
    return len(words) == 3 and (f'"{words[0]}.%s.{words[2]}"' in source
                                or f'"{words[0]}.%s.%s"' in source) or any(
        f'${{{key}}}' in line for line in open_settings())


def open_settings():
    with open(os.path.join(TOP, 'src/conf/settings.def'), encoding='utf-8') as f:
        return f.read().splitlines()
