# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting that the original's manual prints is taken, or told to be obsolete in one line that
names what to use. tests/data/manual-settings.txt has them, section by section."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree

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
