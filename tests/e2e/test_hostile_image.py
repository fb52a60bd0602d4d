# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-unpack against images made to hurt: a clear refusal, and no file outside of its folder.

That nothing is left of a refused image (its folder goes too) is hkd's part: test_image_refused.py.
"""

import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile

import pytest

import farm as farmlib


@pytest.fixture(scope='module')
def unpacker():
    return os.path.join(farmlib.installed_tree(), 'usr/lib/qvd/qvd-unpack')


def entry(name, kind=tarfile.REGTYPE, data=b'', target='', **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.size = fields.pop('size', len(data))
    info.mode = fields.pop('mode', 0o755)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


INIT = [entry('./', tarfile.DIRTYPE), entry('./sbin', tarfile.DIRTYPE),
        entry('./sbin/init', data=b'#!/bin/sh\n')]


def pack(path, entries, fmt=tarfile.PAX_FORMAT):
    with tarfile.open(path, 'w', format=fmt) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))


class Run:
    def __init__(self, unpacker, image, into, *options, prefix=()):
        result = subprocess.run([*prefix, unpacker, '--image', str(image), '--into', str(into),
                                 *options], capture_output=True, text=True, timeout=120,
                                check=False)
        self.status = result.returncode
        self.lines = result.stdout.splitlines()
        self.errors = [line for line in self.lines if line.startswith('error ')]
        self.notes = [line for line in self.lines if line.startswith('note ')]


@pytest.fixture
def place(tmp_path):
    """Folders beside each other; `outside` must stay as it is."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'victim').write_text('untouched')
    os.chmod(outside / 'victim', 0o640)
    yield tmp_path
    assert sorted(os.listdir(tmp_path)) in (['image', 'outside'], ['image', 'new', 'outside'])
    assert os.listdir(outside) == ['victim']
    assert (outside / 'victim').read_text() == 'untouched'
    status = os.stat(outside / 'victim')
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o640, 1)


CASES = {
    'absolute name': ([entry('/tmp/qvd-escaped', data=b'x')], 'absolute name'),
    'dot-dot': ([entry('../outside/victim', data=b'x')], 'leads out of the image'),
    'dot-dot inside': ([entry('sbin/../../outside/victim', data=b'x')], 'leads out of the image'),
    'through a symlink to outside': (
        [entry('way', tarfile.SYMTYPE, target='../outside'), entry('way/victim', data=b'x')],
        'way/victim'),
    'through an absolute symlink': (
        [entry('way', tarfile.SYMTYPE, target='/sbin'), entry('way/init2', data=b'x')],
        'way/init2'),
    'hard link out': ([entry('link', tarfile.LNKTYPE, target='../outside/victim')],
                      'leads out of the image'),
    'absolute hard link': ([entry('link', tarfile.LNKTYPE, target='/etc/passwd')],
                           'leads out of the image'),
    'hard link through a symlink': (
        [entry('way', tarfile.SYMTYPE, target='../outside'),
         entry('link', tarfile.LNKTYPE, target='way/victim')], 'link'),
    'character device': ([entry('tmp/null', tarfile.CHRTYPE, devmajor=1, devminor=3)],
                         'device outside /dev'),
    'block device': ([entry('sda', tarfile.BLKTYPE, devmajor=8, devminor=0)],
                     'device outside /dev'),
    'root is a link': ([entry('./', tarfile.SYMTYPE, target='/etc')], 'root folder'),
    'long name': ([entry('/'.join(['d' * 200] * 21), data=b'x')], 'longer than 3800 bytes'),
    'owner beyond the map': ([entry('file', data=b'x', uid=65536)], 'beyond 65535'),
    'sparse 1 TB': ([entry('huge', size=1 << 40)], 'vm.lxc.image.size.max'),
}


@pytest.mark.parametrize('name', CASES)
def test_refused(unpacker, place, name):
    entries, why = CASES[name]
    with open(place / 'image', 'wb') as out:
        with tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT) as archive:
            for info, data in INIT + entries:
                if info.size > len(data) and info.isreg():
                    archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
                else:
                    archive.addfile(info, io.BytesIO(data))
    run = Run(unpacker, place / 'image', place / 'new', '--max-bytes', str(1 << 30))
    assert (run.status, len(run.errors)) == (1, 1), run.lines
    assert why in run.errors[0]
    assert not os.path.exists('/tmp/qvd-escaped')


def test_name_not_utf8(unpacker, place):
    pack(place / 'image', INIT + [entry('name\udce9', data=b'x')], fmt=tarfile.GNU_FORMAT)
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 1 and 'not UTF-8' in run.errors[0]


def test_real_sparse_file(unpacker, place):
    """GNU sparse format: 1 TB by its header, a few bytes in the archive."""
    source = place / 'outside' / 'source'
    source.mkdir()
    with open(source / 'huge', 'wb') as f:
        f.truncate(1 << 40)
    subprocess.run(['tar', '-S', '-C', source, '-cf', place / 'image', 'huge'], check=True)
    os.remove(source / 'huge')
    source.rmdir()
    assert os.path.getsize(place / 'image') < 100000
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 1 and 'vm.lxc.image.size.max' in run.errors[0]


def test_million_entries(unpacker, place):
    """Refused at the limit, not after it."""
    block = entry('f')[0].tobuf()
    with gzip.open(place / 'image', 'wb', compresslevel=1) as out:
        for first in range(0, 1000000, 10000):
            out.write(b''.join(block for _ in range(10000)))
            del first
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 1 and 'vm.lxc.image.entries.max' in run.errors[0]


def test_limits_are_exact(unpacker, place):
    pack(place / 'image', INIT + [entry('file', data=b'x' * 100)])
    size = 100 + len(INIT[2][1])
    run = Run(unpacker, place / 'image', place / 'new', '--max-bytes', str(size - 1))
    assert run.status == 1
    subprocess.run(['rm', '-r', place / 'new'], check=True)
    run = Run(unpacker, place / 'image', place / 'new', '--max-bytes', str(size),
              '--max-entries', '3')
    assert run.status == 1
    subprocess.run(['rm', '-r', place / 'new'], check=True)
    run = Run(unpacker, place / 'image', place / 'new', '--max-bytes', str(size),
              '--max-entries', '4')
    assert run.status == 0, run.lines


def test_disk_full(unpacker, tmp_path):
    pack(tmp_path / 'image', INIT + [entry('file', data=os.urandom(16 << 20))])
    (tmp_path / 'small').mkdir()
    script = f'mount -t tmpfs -o size=8m none {tmp_path}/small && exec "$@"'
    run = Run(unpacker, tmp_path / 'image', tmp_path / 'small' / 'new',
              prefix=('unshare', '--mount', 'sh', '-c', script, 'sh'))
    assert run.status == 1 and 'disk is full' in run.errors[0]


def test_truncated_and_garbage(unpacker, place):
    pack(place / 'outside' / 'whole', INIT + [entry('file', data=b'x' * 100000)])
    whole = (place / 'outside' / 'whole').read_bytes()
    os.remove(place / 'outside' / 'whole')
    for data in (whole[:50000], b'no archive' * 1000, b'', gzip.compress(whole)[:-200],
                 lzma.compress(whole)[:-50]):
        (place / 'image').write_bytes(data)
        run = Run(unpacker, place / 'image', place / 'new')
        assert (run.status, len(run.errors)) == (1, 1), run.lines
        subprocess.run(['rm', '-rf', place / 'new'], check=True)


def test_no_init(unpacker, place):
    pack(place / 'image', [entry('./', tarfile.DIRTYPE), entry('etc', tarfile.DIRTYPE)])
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 1 and '/sbin/init' in run.errors[0]


def test_image_is_a_link(unpacker, place):
    os.symlink('/etc/passwd', place / 'image')
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 1 and 'cannot open' in run.errors[0]


@pytest.mark.parametrize('packer', ['none', 'gzip', 'xz', 'zstd'])
def test_good_image_keeps_what_it_says(unpacker, place, packer):
    """Owners, modes, links, capabilities, absolute links for the container; devices left out."""
    pack(place / 'image', INIT + [
        entry('dev', tarfile.DIRTYPE),
        entry('dev/null', tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry('dev/sda', tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry('bin', tarfile.SYMTYPE, target='/sbin'),
        entry('home', tarfile.DIRTYPE, mode=0o2775, gid=100),
        entry('home/file', data=b'hello', uid=65535, gid=7, mode=0o4711, mtime=1000000000),
        entry('home/again', tarfile.LNKTYPE, target='./home/file'),
        entry('home/pipe', tarfile.FIFOTYPE),
        entry('home/\u00e4', data=b'', pax_headers={
            'SCHILY.xattr.trusted.overlay.redirect': '/etc', 'SCHILY.xattr.user.note': 'kept'}),
    ])
    if packer != 'none':
        with open(place / 'packed', 'wb') as out:
            subprocess.run([packer, '-c', place / 'image'], stdout=out, check=True)
        os.replace(place / 'packed', place / 'image')
    run = Run(unpacker, place / 'image', place / 'new')
    assert run.status == 0, run.lines
    assert run.notes == ['note 2 devices or sockets left out (dev/null ...)']
    new = place / 'new'
    status = os.stat(new / 'home/file')
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65535, 7, 0o4711)
    assert (status.st_nlink, int(status.st_mtime)) == (2, 1000000000)
    assert os.path.samefile(new / 'home/again', new / 'home/file')
    assert os.readlink(new / 'bin') == '/sbin'
    assert stat.S_ISFIFO(os.stat(new / 'home/pipe').st_mode)
    assert stat.S_IMODE(os.stat(new / 'home').st_mode) == 0o2775
    assert os.listdir(new / 'dev') == []
    assert os.listxattr(new / 'home/\u00e4') == ['user.note']


def test_locked_and_there(unpacker, place):
    """The second of two unpackers waits for the lock, and finds the work done."""
    pack(place / 'image', INIT)
    (place / 'new').mkdir()
    run = Run(unpacker, place / 'image', place / 'other', '--base', str(place / 'new'),
              prefix=('sh', '-c', f'exec 3<{place}/outside/victim; exec "$@"', 'sh'))
    assert (run.status, run.lines) == (10, [])
