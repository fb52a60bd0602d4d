# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole farm while hkd is killed, and while PostgreSQL is: what goes on, what is right after."""

import threading
import time

import pytest

import hkd
from farm import XServer, wait_until
from later import Later
from oldclients import PerlClient, first_nx_bytes
from test_desktop import in_session, type_in_terminal, wait_desktop

FARM = {'image': 'minimal', 'users': ['live', 'leaves', 'dies', 'starts'],
        'settings': {'hkd.sweep.interval': '1h', 'l7r.sweep': '1h', 'log.level': 'DEBUG'}}


class Typist:
    """Types numbered lines into the window that has the keys, ten a second, until it is ended."""

    def __init__(self, display):
        self.screen = XServer.__new__(XServer)      # a connection of its own, no server
        self.screen.display, self.screen._connection = display, None
        self.typed, self.ended = 0, threading.Event()
        self.later = Later(self._run)

    def _run(self):
        while not self.ended.wait(0.1):
            self.screen.press(f'{self.typed:05d}\n')
            self.typed += 1

    def end(self):
        self.ended.set()
        self.later.result(60)
        self.screen.connection.close()
        return self.typed


def client_of(farm, login):
    return PerlClient((farm.address, farm.l7r_port), login, farm.users[login])


def connect(farm, login, vm):
    client = client_of(farm, login)
    answer = client.connect(vm)
    if answer.status == 101:
        assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-')
    return client, answer


def vm_id(farm, login):
    return int(farm.vm_row(login)['id'])


def init_of(farm, vm):
    return farm.run(['lxc-info', '-P', '/run/qvd/lxc', '-n', f'qvd-{vm}', '-p', '-H'],
                    check=False).stdout.strip()


def test_hkd_killed_while_people_work(farm, xserver):
    ids = {login: vm_id(farm, login) for login in farm.users}
    leaver, answer = connect(farm, 'leaves', ids['leaves'])
    assert answer.status == 101
    hkd.order_start(farm, ids['dies'])
    hkd.wait_state(farm, ids['dies'], 'running', 60)
    with farm.client('live', xserver.display, '-g', '1024x768') as client:
        wait_desktop(xserver)
        type_in_terminal(xserver, 'cat >typed\n')
        typist = Typist(xserver.display)
        wait_until(lambda: typist.typed > 5, 10, 'some numbers')

        farm.stop_service('hkd', 'SIGKILL')
        # One user disconnects, one VM dies, one start is ordered by a user who connects.
        leaver.wire.close()
        farm.run(['kill', '-KILL', init_of(farm, ids['dies'])])
        comes = Later(lambda: connect(farm, 'starts', ids['starts']))
        wait_until(lambda: hkd.vm(farm, ids['starts'])['vm_cmd'] == 'start', 10, 'the order')
        wait_until(lambda: init_of(farm, ids['dies']) == '', 10, 'the VM to die')
        assert hkd.state(farm, ids['dies']) == 'running'

        begin = time.time()
        farm.start_service('hkd')
        hkd.wait_state(farm, ids['dies'], 'stopped', 10)
        hkd.wait_state(farm, ids['starts'], 'running', 10)
        took = [hkd.state_since(farm, ids[login]) - begin for login in ('dies', 'starts')]
        assert max(took) < 3, took
        assert farm.vm_row('leaves')['user_state'] == 'disconnected'
        assert hkd.state(farm, ids['leaves']) == 'running'
        other, answer = comes.result(60)
        assert answer.status == 101
        other.wire.close()

        time.sleep(1)
        count = typist.end()
        assert count > 20
        want = ''.join(f'{n:05d}\n' for n in range(count))

        def typed():
            return in_session(farm, 'live', 'cat', '/home/live/typed').stdout
        wait_until(lambda: len(typed()) >= len(want), 10, 'the last number')
        assert typed() == want      # no gap, no reorder, nothing twice
        assert client.poll() is None
    wait_until(lambda: farm.vm_row('live')['user_state'] == 'disconnected', 15, 'the end')


def nothing_waits(farm):
    return farm.psql(
        "SELECT count(*) FROM vm_runtimes WHERE vm_state NOT IN ('running', 'stopped')"
        " OR user_state <> 'disconnected' OR vm_cmd IS NOT NULL OR user_cmd IS NOT NULL") \
        == [['0']]


@pytest.fixture(scope='module')
def twenty(farm):
    """Users with a VM each: login -> id of the VM."""
    logins = [f'u{n}' for n in range(20)]
    for login in logins:
        farm.add_user(login)
        farm.qa('vm', 'add', f'name={login}', f'user={login}', 'osf=desk')
    return {login: vm_id(farm, login) for login in logins}


@pytest.mark.parametrize('after,away', [(0.1, 1), (0.5, 8)])
def test_postgres_killed_in_the_middle_of_20_connects(farm, twenty, after, away):
    # Half of them have a desktop that runs.
    running = list(twenty.values())[::2]
    hkd.order_start(farm, *running)
    hkd.wait_state(farm, running, 'running', 120)
    hkd.order_stop(farm, *list(twenty.values())[1::2])
    hkd.wait_state(farm, list(twenty.values())[1::2], 'stopped', 120)
    begun = [Later(lambda login=login, vm=vm: connect(farm, login, vm))
             for login, vm in twenty.items()]
    time.sleep(after)
    assert sum(later.thread.is_alive() for later in begun) > 5, 'too late to prove anything'
    hkd.kill_postgres(farm)
    time.sleep(away)
    farm.start_service('postgres')
    statuses = []
    for later in begun:
        client, answer = later.result(120)
        statuses.append(answer.status)
        client.wire.close()
    assert set(statuses) <= {101, 503}, statuses
    wait_until(lambda: nothing_waits(farm), 90, 'nothing to wait any more', interval=0.5)
    wait_until(lambda: farm.psql(
        'SELECT assigned = (SELECT count(*) FROM vm_runtimes WHERE host_id = 1)'
        ' FROM host_runtimes WHERE host_id = 1') == [['t']], 10, 'assigned to equal the count')
    assert farm.psql('SELECT count(*) FROM sessions WHERE ended IS NULL') == [['0']]
