# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing the packages on a bare Debian 12 changes nothing of the machine but its packages."""

import os
import shutil
import subprocess
import tempfile

import pytest

from farm import BASE_DIR, TOP
from test_farm import host_state

CACHE = os.path.join(TOP, 'build', 'cache')
ENTER = '''
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir run/lock
cp --remove-destination /etc/resolv.conf etc/resolv.conf
shift
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
'''


def bare_system(folder):
    """A Debian 12 with nothing but what dpkg and apt need, from the cache after the first time."""
    tar = os.path.join(CACHE, 'images', 'bare.tar')
    if not os.path.exists(tar):
        os.makedirs(os.path.dirname(tar), exist_ok=True)
        subprocess.run(['mmdebstrap', '--mode=unshare', '--variant=minbase', '--quiet',
                        '--format=tar', 'bookworm', tar + '.new'], check=True,
                       stdin=subprocess.DEVNULL)
        os.replace(tar + '.new', tar)
    subprocess.run(['tar', '-xf', tar, '-C', folder, '--exclude=./dev/*'], check=True)


@pytest.fixture
def bare():
    folder = tempfile.mkdtemp(prefix='qvd-bare-', dir=BASE_DIR)
    os.chmod(folder, 0o755)
    bare_system(folder)
    for part in ('tools', 'build/cache/debs'):
        os.makedirs(os.path.join(folder, 'qvd', part))
    shutil.copy(os.path.join(TOP, 'tools', 'install-deps'), os.path.join(folder, 'qvd', 'tools'))
    if os.path.isdir(os.path.join(CACHE, 'debs')):
        for name in os.listdir(os.path.join(CACHE, 'debs')):
            if name.endswith('.deb'):
                shutil.copy(os.path.join(CACHE, 'debs', name),
                            os.path.join(folder, 'qvd/build/cache/debs', name))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def enter(folder, script):
    done = subprocess.run(['unshare', '--mount', '--pid', '--fork', '--kill-child', '--propagation',
                           'private', 'sh', '-c', ENTER, 'sh', folder, 'sh', '-c', script],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_packages_come_without_services_clusters_and_bridges(bare):
    before = host_state()
    # What runs when it is done: this shell and ps, no daemon of any package.
    out = enter(bare, '/qvd/tools/install-deps run && echo RUNNING && ps -e -o comm=')
    running = out.split('RUNNING\n')[1].split()
    assert sorted(running) == ['ps', 'sh'], out
    assert host_state() == before

    def path(name):
        return os.path.join(bare, name.lstrip('/'))
    assert os.path.exists(path('/usr/lib/postgresql/15/bin/postgres'))
    clusters = path('/etc/postgresql')
    assert not os.path.isdir(clusters) or os.listdir(clusters) == []
    assert os.listdir(path('/var/lib/postgresql')) == []
    for unit in ('lxc.service', 'lxc-net.service', 'lxc-monitord.service'):
        assert os.readlink(path(f'/etc/systemd/system/{unit}')) == '/dev/null'
    with open(path('/etc/default/lxc-net'), encoding='utf-8') as f:
        assert 'USE_LXC_BRIDGE="false"' in f.read()
    # dnsmasq-base brings the program, dnsmasq would bring a service.
    assert os.path.exists(path('/usr/sbin/dnsmasq'))
    assert not os.path.exists(path('/lib/systemd/system/dnsmasq.service'))
    # What was put in place for the time of the installation is gone.
    assert not os.path.lexists(path('/usr/sbin/policy-rc.d'))
    assert not os.path.exists(path('/etc/postgresql-common/createcluster.d/qvd-install.conf'))
    # A second time there is nothing to do.
    assert enter(bare, '/qvd/tools/install-deps run') == ''
