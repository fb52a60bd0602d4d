# SPDX-License-Identifier: GPL-3.0-or-later
"""images/build: what is in an image, and that a changed agent does not build the base anew."""

import os
import shutil
import subprocess
import tarfile

import pytest

from farm import TOP, installed_tree

BUILD = os.path.join(TOP, 'images', 'build')


def build(*args):
    return subprocess.run([BUILD, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


@pytest.fixture
def agent(tmp_path):
    """A DESTDIR with the agent alone, to be changed at will."""
    folder = tmp_path / 'agent' / 'usr' / 'lib' / 'qvd'
    folder.mkdir(parents=True)
    for name in ('qvd-vma', 'qvd-vma-listener'):
        shutil.copy(os.path.join(installed_tree(), 'usr/lib/qvd', name), folder / name)
    return tmp_path / 'agent'


def entries(image):
    with subprocess.Popen(['zstd', '-dcq', image], stdout=subprocess.PIPE) as unpacked:
        with tarfile.open(fileobj=unpacked.stdout, mode='r|') as tar:
            found = {entry.name.removeprefix('./'): entry for entry in tar}
        unpacked.stdout.read()
    return found


@pytest.mark.parametrize('name', ['minimal', 'minimal-systemd'])
def test_what_an_image_has(name, agent, tmp_path):
    image = str(tmp_path / 'image.tar.zst')
    done = build(name, '--vma', str(agent), '--out', image)
    assert done.returncode == 0, done.stdout
    found = entries(image)
    for program in ('usr/lib/qvd/qvd-vma', 'usr/lib/qvd/qvd-vma-listener', 'usr/bin/nxagent',
                    'usr/bin/jwm', 'usr/bin/xterm', 'usr/sbin/useradd'):
        assert found[program].mode & 0o111, program
        assert (found[program].uid, found[program].gid) == (0, 0), program
    assert found['etc/qvd/vma.conf'].isfile()
    # Devices are the hypervisor's, the machine's identity is each VM's own.
    assert not [n for n, e in found.items() if e.isdev()]
    assert found['etc/machine-id'].size == 0
    assert max(e.uid for e in found.values()) < 65536
    assert not [n for n in found if n.startswith('/') or '..' in n.split('/')]
    init = found['sbin/init' if 'sbin/init' in found else 'usr/sbin/init']
    assert ('systemd' in init.linkname) == (name == 'minimal-systemd')
    # No secrets, no leftovers of the build.
    assert not [n for n in found if n.startswith(('var/lib/apt/lists/', 'var/cache/apt/arch'))]
    assert not [n for n in found if 'ssh_host' in n]


def test_a_changed_agent_costs_no_new_base(agent, tmp_path):
    first, second = str(tmp_path / 'a.tar.zst'), str(tmp_path / 'b.tar.zst')
    assert build('minimal', '--vma', str(agent), '--out', first).returncode == 0
    listener = agent / 'usr' / 'lib' / 'qvd' / 'qvd-vma-listener'
    listener.write_bytes(listener.read_bytes() + b'changed')
    done = build('minimal', '--vma', str(agent), '--out', second)
    assert done.returncode == 0
    assert 'from the cache' in done.stdout
    sizes = [entries(i)['usr/lib/qvd/qvd-vma-listener'].size for i in (first, second)]
    assert sizes[1] == sizes[0] + len('changed')


def test_an_agent_that_could_not_run_is_refused(agent, tmp_path):
    # nft needs a library that no image has.
    shutil.copy('/usr/sbin/nft', agent / 'usr' / 'lib' / 'qvd' / 'qvd-vma')
    out = tmp_path / 'image.tar.zst'
    done = build('minimal', '--vma', str(agent), '--out', str(out))
    assert done.returncode != 0
    assert 'libnftables' in done.stdout and 'images/common/packages' in done.stdout
    assert not out.exists()


def test_a_missing_agent_is_named(tmp_path):
    done = build('minimal', '--vma', str(tmp_path), '--out', str(tmp_path / 'x.tar.zst'))
    assert done.returncode != 0
    assert 'qvd-vma' in done.stdout and '--vma' in done.stdout
