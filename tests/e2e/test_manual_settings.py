# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting that the original's manual prints is taken, or told to be obsolete in one line that
names what to use. tests/data/manual-settings.txt has them, section by section."""

import json
import os
import re
import ssl
import subprocess
import urllib.request

import pytest

from farm import TOP, installed_tree, wait_until

PROGRAM = {'node': 'usr/bin/qvd-deploy-db', 'client': 'usr/bin/qvd-deploy-db',
           'vma': 'usr/lib/qvd/qvd-vma'}
OBSOLETE = {  # docs: reference "Seed versus source differences"
    'l7r.auth.mode': 'l7r.auth.plugins', 'path.ssl.certs': 'path.l7r.ssl',
    'command.kvm-img': 'command.qemu-img', 'wat.admin.login': 'administrator',
    'wat.admin.password': 'administrator', 'l7r.as_user': 'l7r.user',
    'path.cgroup.cpu.lxc': 'path.cgroup', 'path.ssl.ca.system': 'path.ssl.ca.system.path',
    'l7r.pid_file': 'service manager', 'command.nxdiag': 'nxagent',
    'log4perl.appender.SYSLOG': 'log.target', 'log4perl.appender.SYSLOG.layout': 'log.target',
    'log4perl.appender.SYSLOG.layout.ConversionPattern': 'log.target',
}


def sections():
    """(kind, heading, [(key, value)]) of the data file."""
    found = []
    with open(os.path.join(TOP, 'tests/data/manual-settings.txt'), encoding='utf-8') as f:
        for line in f:
            head = re.fullmatch(r'\[(\w+)\] (.*)\n', line)
            if head:
                found.append((head[1], head[2], []))
            elif line.strip() and not line.startswith('#'):
                key, value = line.rstrip('\n').split(' =', 1)
                found[-1][2].append((key, value.strip()))
    return found


SECTIONS = sections()
FILES = [s for s in SECTIONS if s[0] != 'qa']
FARM = {}


def test_the_list_is_whole():
    assert len(SECTIONS) == 25 and sum(len(s[2]) for s in SECTIONS) == 128


@pytest.fixture(scope='module', name='tree')
def tree_fixture():
    return installed_tree()


@pytest.mark.parametrize('kind,heading,pairs', FILES, ids=[f'{s[0]}-{s[1]}' for s in FILES])
def test_in_a_file(tree, tmp_path, kind, heading, pairs):
    path = tmp_path / f'{kind}.conf'
    for key, value in pairs:
        path.write_text(f'{key} = {value}\n')
        path.chmod(0o600)
        done = subprocess.run([os.path.join(tree, PROGRAM[kind]), '-f', str(path),
                               '--check-config'], text=True, timeout=20, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        told = done.stderr.splitlines()
        if key == 'vm.network.bridge' and not value:
            value = ''  # "has no default": asked for by qvd-hkd alone
        assert done.returncode == 0, (key, value, done.stderr)
        if key in OBSOLETE:
            assert len(told) == 1 and f'{key} is obsolete, ignoring it: ' in told[0]
            assert OBSOLETE[key] in told[0].split('ignoring it: ')[1]
        else:
            assert told == [] or (len(told) == 1 and told[0].endswith(
                f'{key} accepted, without effect in this version')), (key, told)


def test_in_the_database(farm):
    """`qa config set KEY=VALUE` of each; a custom key and one without effect are told as such."""
    for _, heading, pairs in (s for s in SECTIONS if s[0] == 'qa'):
        for key, value in pairs:
            done = farm.qa('config', 'set', f'{key}={value}', check=False)
            if key == 'vm.lxc.unionfs.type' and done.returncode != 0:
                assert 'overlayfs' in done.stderr  # refused with the choices
                continue
            assert done.returncode == 0, (heading, key, done.stderr)
            warnings = [line for line in done.stderr.splitlines() if line.startswith('Warning')]
            if key in OBSOLETE:
                assert f'{key} is obsolete, ignoring it: ' in warnings[0]
                assert OBSOLETE[key] in warnings[0]
            elif key == 'myproperty':
                assert 'kept as a custom one' in warnings[0]
            else:
                assert not warnings or warnings[0].endswith(
                    f'{key} accepted, without effect in this version'), (key, warnings)
    listed = dict(line.split('=', 1) for line in farm.qa('config', 'get').splitlines())
    assert listed['myproperty'] == 'this is a value'
    assert listed['vm.network.ip.start'] == '10.3.15.50'
    assert listed['l7r.loadbalancer.plugin.default.weight.cpu'] == '3'
    assert 'wat.admin.login' not in listed and 'l7r.auth.mode' not in listed
    assert not [key for key in listed if key.startswith('internal.')]
    for key in ('vm.network.ip.start', 'myproperty'):
        farm.qa('config', 'del', key)
    assert 'myproperty=' not in farm.qa('config', 'get')


def test_defaults_of_new_osfs(farm):
    """osf.default.*: for all, and a tenant's own."""
    farm.qa('config', 'set', 'osf.default.memory=384', 'osf.default.overlay=0')
    farm.qa('osf', 'add', 'name=plain')
    farm.qa('osf', 'add', 'name=told', 'memory=128', 'use_overlay=yes')
    assert farm.psql('SELECT name, memory, use_overlay FROM osfs ORDER BY name') == [
        ['plain', '384', 'f'], ['told', '128', 't']]
    assert 'osf.default.memory' in farm.qa('config', 'set', 'osf.default.memory=15',
                                           check=False).stderr


def test_what_everybody_may_know(farm):
    context = ssl.create_default_context(cafile=farm.path('ca.pem'))

    def info():
        with urllib.request.urlopen(f'https://localhost:{farm.api_port}/api/1/info', timeout=10,
                                    context=context) as answer:
            return json.load(answer)
    assert info()['public'] == {} and info()['multitenant'] is False
    assert info()['separators'] == '@#'
    farm.qa('config', 'set', 'api.public.footer.link.1.label.default=Help', 'wat.multitenant=1')
    wait_until(lambda: info()['public'] == {'footer.link.1.label.default': 'Help'}, 10, 'the link')
    assert info()['multitenant'] is True
    assert 'api.public' not in json.dumps(info())


def test_group_of_the_api(farm):
    """api.group is what its server runs as; one that is missing is named."""
    with open(farm.path('etc/node.conf'), 'a', encoding='utf-8') as f:
        f.write('api.group = daemon\n')
    farm.stop_service('api')
    farm.start_service('api')
    group = farm.run(['sh', '-c', 'for p in /proc/[0-9]*; do case $(readlink $p/exe) in '
                      '*/qvd-api) grep ^Gid: $p/status; grep ^Groups: $p/status;; esac; done'])
    assert re.search(r'^Gid:\s+1\s+1\s+1\s+1\nGroups:\s*$', group.stdout, re.M), group.stdout


def test_a_setting_says_when_it_is_in_force(farm):
    for word, said in (('l7r.port=8444', 'Note: l7r.port: in force after a restart of qvd-l7r'),
                       ('hkd.sweep.interval=30s', ''),
                       ('path.l7r.ssl.cert=/x.pem', 'Note: path.l7r.ssl.cert: the file is read'),
                       ('vm.kvm.virtio=1', 'Warning: vm.kvm.virtio accepted, without effect in')):
        done = farm.qa('config', 'set', word, check=False)
        assert done.returncode == 0 and done.stderr.startswith(said) and bool(said) == bool(
            done.stderr)
        farm.qa('config', 'del', word.split('=')[0])
