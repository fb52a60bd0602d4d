# SPDX-License-Identifier: GPL-3.0-or-later
"""The ground that the other end-to-end tests stand on: the supervisor and what it leaves behind."""

import os
import subprocess
import sys

from farm import BASE_DIR, installed_tree, make_farm, wait_until
from qvdfarm.farm import Farm, FarmError, lock_owner

FARM = {'services': False}


def host_state():
    """What a farm must not change: addresses, firewall, mounts, folders."""
    def out(*command):
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    with open('/proc/self/mountinfo', encoding='utf-8') as f:
        mounts = sorted(line.split(' ', 4)[4] for line in f)
    # Addresses without the seconds that a lease still has.
    return {'ip': [line for line in out('ip', '-o', 'addr').splitlines() if 'dynamic' not in line],
            'nft': out('nft', 'list', 'ruleset'), 'mounts': mounts,
            'etc': sorted(os.listdir('/etc')), 'run': sorted(os.listdir('/run')),
            'lib': sorted(os.listdir('/var/lib'))}


def assert_nothing_left(farm):
    assert not os.path.exists(farm.dir)
    assert [g[3] for g in farm.cgroup_folders() if os.path.exists(g[3])] == []


def test_services_come_back_and_stay_down_when_told(farm):
    farm.run(['/usr/lib/postgresql/15/bin/initdb', '-D', '/var/lib/postgresql/qvd/data', '-A',
              'trust', '--no-sync', '--no-instructions'], user='postgres')
    with open(farm.path('pg/data/postgresql.conf'), 'a', encoding='utf-8') as f:
        f.write("listen_addresses = ''\nunix_socket_directories = '/run/postgresql'\n")
    first = farm.start_service('postgres')
    farm.run(['kill', '-KILL', str(first)])
    wait_until(lambda: farm.service('postgres')['ready']
               and farm.service('postgres')['pid'] != first, 20, 'postgres to be back')
    assert farm.service('postgres')['restarts'] == 1
    farm.stop_service('postgres', 'SIGKILL')
    assert farm.service('postgres')['pid'] == 0
    assert farm.service('postgres')['last_status'] == 'signal SIGKILL'
    farm.start_service('postgres')
    assert farm.psql('SELECT 1', 'postgres') == [['1']]


def test_the_world_of_a_farm_is_its_own(farm):
    out = farm.run(['ip', '-br', 'address']).stdout
    assert [line.split()[0] for line in out.splitlines()] == ['lo', 'qvdnet0']
    assert '10.3.15.1/24' in out
    assert farm.run(['id', '-un', 'qvd-l7r'], check=False).returncode == 0
    assert subprocess.run(['id', 'qvd-l7r'], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          check=False).returncode != 0
    assert farm.run(['cat', '/proc/1/comm']).stdout.strip() == 'python3'
    assert farm.run(['test', '-e', '/usr/lib/sysusers.d/qvd.conf'], check=False).returncode == 0
    # The node's settings hold passwords; images hold setuid programs.
    assert os.stat(farm.path('etc/node.conf')).st_mode & 0o777 == 0o600
    assert os.stat(farm.path('private')).st_mode & 0o777 == 0o700


def test_two_farms_do_not_meet_and_nothing_stays(farm):
    before = host_state()
    other = make_farm({'services': False})
    try:
        assert other.pid != farm.pid
        assert other.l7r_port != farm.l7r_port
    finally:
        other.destroy()
    assert host_state() == before
    assert_nothing_left(other)


def test_a_farm_ends_with_the_process_that_is_bound_to_it():
    before = host_state()
    folder = os.path.join(BASE_DIR, f'qvd-bound-{os.getpid()}')
    code = ('import sys, time\n'
            f'sys.path.insert(0, {os.path.dirname(__file__) + "/../../tools"!r})\n'
            'from qvdfarm.farm import Farm\n'
            f'Farm({folder!r}, {installed_tree()!r}, bound=True).create()\n'
            'print("up", flush=True)\ntime.sleep(600)\n')
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == 'up\n'
        assert lock_owner(folder)
        child.kill()
        child.wait()
        wait_until(lambda: not lock_owner(folder), 15, 'the farm to end')
    finally:
        child.kill()
        child.wait()
        bound = Farm(folder, None)
        bound.destroy()
    assert_nothing_left(bound)
    assert host_state() == before


def test_a_port_in_use_is_refused(farm):
    other = Farm(farm.dir + '-port', installed_tree(), l7r_port=farm.l7r_port)
    try:
        other.create()
    except FarmError as error:
        assert f'port {farm.l7r_port}' in str(error)
    else:
        raise AssertionError('two farms listen on one port')
    finally:
        other.destroy()
