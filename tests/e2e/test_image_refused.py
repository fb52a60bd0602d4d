# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile image in a whole farm: the VM is blocked with the reason, the administrator reads it,
nothing is left of the image, and other VMs go on. What qvd-unpack refuses: test_hostile_image.py."""

import io
import os
import tarfile

import farm as farmlib
import pytest

FARM = {'image': 'minimal', 'users': ['alice', 'mallory'], 'vms': True}


def add(archive, name, kind=tarfile.REGTYPE, data=b'', target=''):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, len(data), 0o755, target
    archive.addfile(info, io.BytesIO(data))


def image_with(path, *entries):
    with tarfile.open(path, 'w') as archive:
        add(archive, './', tarfile.DIRTYPE)
        add(archive, './sbin', tarfile.DIRTYPE)
        add(archive, './sbin/init', data=b'#!/bin/sh\n')
        for entry in entries:
            add(archive, *entry)


def start_and_see(farm, tmp_path, number, *entries):
    """Registers the image under an OSF of its own, starts a VM with it; the VM as qa shows it."""
    name = f'hostile{number}'
    image_with(tmp_path / f'{name}.tar', *entries)
    staged = farm.add_image(str(tmp_path / f'{name}.tar'))
    farm.qa('osf', 'add', f'name={name}', 'memory=256')
    farm.qa('di', 'add', f'path={staged}', f'osf={name}')
    farm.qa('vm', 'add', f'name={name}', 'user=mallory', f'osf={name}')
    done = farm.qa('vm', 'start', '-f', f'name={name}', '--wait', check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    return done.stderr, farm.qa('vm', 'show', '-f', f'name={name}')


@pytest.fixture(scope='module')
def storage(farm):
    """The storage as it is with one good VM running."""
    farm.qa('vm', 'start', '-f', 'name=alice', '--wait')
    return farm.path('lib/storage')


CASES = [
    ('leads out of the image', ('../../../../qvd-escaped', tarfile.REGTYPE, b'x')),
    ('absolute name', ('/qvd-escaped', tarfile.REGTYPE, b'x')),
    ('device outside /dev', ('tmp/sda', tarfile.BLKTYPE)),
    ('way/qvd-escaped', ('way', tarfile.SYMTYPE, b'', '/'), ('way/qvd-escaped', tarfile.REGTYPE, b'x')),
]


@pytest.mark.parametrize('number', range(len(CASES)))
def test_refused(farm, storage, tmp_path, number):
    why, *entries = CASES[number]
    bases = sorted(os.listdir(os.path.join(storage, 'basefs')))
    told, shown = start_and_see(farm, tmp_path, number, *entries)
    assert why in told
    assert why in shown and f'hostile{number}.tar' in shown
    farmlib.wait_until(lambda: farm.vm_row(f'hostile{number}')['state'] == 'stopped', 20,
                       'the VM stopped')
    left = [name for name in sorted(os.listdir(os.path.join(storage, 'basefs')))
            if name not in bases and not name.startswith('lock.')]
    assert left == []
    assert not any(os.path.exists(os.path.join(root, 'qvd-escaped'))
                   for root in ('/', storage, os.path.join(storage, 'basefs'),
                                os.path.join(storage, 'images'), farm.path('run')))
    assert farm.run(['test', '-e', '/qvd-escaped'], check=False).returncode == 1
    assert farm.vm_row('alice')['state'] == 'running'


def test_good_image_after_bad_ones(farm, storage):
    """The node is none the worse for it."""
    farm.qa('vm', 'start', '-f', 'name=mallory', '--wait')
    assert farm.vm_row('mallory')['state'] == 'running'
