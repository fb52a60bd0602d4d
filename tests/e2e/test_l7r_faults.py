# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole farm with real desktops, and its database killed in the midst of many connects."""

import collections
import threading
import time

import pytest

from farm import wait_until
from oldclients import Answer, PerlClient, Wire, basic, first_nx_bytes, request

USERS = [f'u{n}' for n in range(5)]
FARM = {'image': 'minimal', 'fsync': True, 'users': USERS, 'osf': {'memory': '128'},
        'settings': {'l7r.takeover.max': '1000', 'l7r.limit.connections.per_source': '500'}}


@pytest.fixture(name='vms', scope='module')
def vms_fixture(farm):
    return {login: int(farm.vm_row(login)['id']) for login in USERS}


@pytest.fixture(name='ends', scope='module')
def ends_fixture():
    """How all connects of this file ended."""
    return collections.Counter()


def connect(farm, login, vm, results):
    try:
        client = PerlClient((farm.address, farm.l7r_port), login, farm.users[login])
        client.wire.socket.settimeout(60)
        answer = client.connect(vm)
        results.append(answer.status)
        time.sleep(0.2)
        client.wire.close()
    except OSError as error:
        results.append(repr(error))


def waiting_rows(farm):
    return int(farm.psql("SELECT count(*) FROM vm_runtimes WHERE user_state <> 'disconnected' OR "
                         "vm_cmd IS NOT NULL OR vm_state NOT IN ('stopped', 'running')")[0][0])


def twenty_connects(farm, vms, moment):
    results, threads = [], []
    for n in range(20):
        login = USERS[n % len(USERS)]
        threads.append(threading.Thread(target=connect, args=(farm, login, vms[login], results)))
    for thread in threads:
        thread.start()
    time.sleep(moment)
    farm.run(['kill', '-9', str(farm.service('postgres')['pid'])])
    for thread in threads:
        thread.join(90)
    assert len(results) == 20
    return results


def all_at_rest(farm):
    wait_until(lambda: farm.service('postgres')['ready'], 20, 'the database')
    wait_until(lambda: not waiting_rows(farm), 60, 'all rows at rest', interval=0.2)
    assigned, count, unended = farm.psql(
        'SELECT (SELECT sum(assigned) FROM host_runtimes), (SELECT count(host_id) FROM '
        'vm_runtimes), (SELECT count(*) FROM sessions WHERE ended IS NULL)')[0]
    assert assigned == count
    assert unended == '0'


def serves_again(farm, vms):
    client = PerlClient((farm.address, farm.l7r_port), 'u0', farm.users['u0'])

    def desktop():
        wire = Wire((farm.address, farm.l7r_port))
        wire.send(request('/qvd/list_of_vm', [('Authorization', basic('u0', farm.users['u0']))]))
        status = Answer(wire).status
        wire.close()
        return status == 200
    wait_until(desktop, 20, 'the L7R to serve again', interval=0.2)
    assert first_nx_bytes(client.wire, client.connect(vms['u0'])).startswith(b'NXPROXY')
    client.wire.close()
    wait_until(lambda: not waiting_rows(farm), 20, 'all rows at rest', interval=0.2)


# The first round finds all machines stopped, the others running.
@pytest.mark.parametrize('moment', [0.4, 0.15, 0.3])
def test_postgresql_killed_in_the_midst_of_20_connects(farm, vms, ends, moment):
    """Each ends in 101 or 503; afterwards nothing waits and `assigned` is the count."""
    results = twenty_connects(farm, vms, moment)
    assert set(results) <= {101, 503}, results
    ends.update(results)
    all_at_rest(farm)
    serves_again(farm, vms)


def test_both_ends_have_been_seen(ends):
    """Else the moments were badly chosen, and nothing was shown."""
    assert ends[101] and ends[503], ends
