# SPDX-License-Identifier: GPL-3.0-or-later
"""A session is taken over, or ended by an administrator, in whatever step it is; by each of the
clients that exist from each other (l7r-protocol 4.1, 11)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fakenode import NX_SERVER
from farm import wait_until
from later import Later
import oldclients
from oldclients import CClient, PerlClient, QtClient, first_nx_bytes
from steps import (Held, Holds, Rows, from_port, owners, port_of_another_worker,
                   wait_for_locks)

CLIENTS = {'perl': PerlClient, 'qt': QtClient, 'c': CClient}
SERVICES = ('l7r', 'api')
FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.sweep': '1h', 'l7r.takeover.max': '1000',
                     'l7r.limit.connections.per_source': '1000', 'l7r.relay.half_close': '200ms'}}


@pytest.fixture(name='hold')
def hold_fixture(farm, node, vm):
    yield Holds(farm, node)
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 20, 'the VM to be free')
    assert node.psql('SELECT count(*) FROM sessions WHERE ended IS NULL') == [['0']]
    vm.set_running()


def new_client(farm, vm, name):
    return CLIENTS[name]((farm.address, farm.l7r_port), vm.login, vm.password)


class Former:
    """A session that is held in a step. answer: of its connect, when it comes."""

    def __init__(self, farm, vm, name):
        self.client = new_client(farm, vm, name)
        self.connected = False
        self.answer = None
        self.vm = vm

    @property
    def port(self):
        return self.client.wire.socket.getsockname()[1]

    def begin(self):
        self.answer = Later(lambda: self.client.connect(self.vm.id))

    def connect(self):
        answer = self.client.connect(self.vm.id)
        assert first_nx_bytes(self.client.wire, answer) == NX_SERVER
        self.connected = True

    def ends(self, text):
        """It is told so, or its stream ends."""
        if self.connected:
            assert self.client.wire.record() == b''
            return
        answer = self.answer.result()
        assert answer.status == 503, answer.status
        assert text in answer.body.decode(), answer.body


# What a client does that is killed: its memory, sockets and all.
PROCESS = """
import json, signal, sys
sys.path.insert(0, sys.argv[1])
from oldclients import NX_HELLO, PerlClient
what = json.load(sys.stdin)
client = PerlClient((what['address'], what['port']), what['login'], what['password'])
print(client.wire.socket.getsockname()[1], flush=True)
answer = client.connect(what['vm'])
client.wire.send(NX_HELLO)
print(answer.status, client.wire.record().decode(), flush=True)
signal.pause()
"""


class Process:
    """The same with a client that is a process of its own, to be killed."""

    def __init__(self, farm, vm):
        self.what = {'address': farm.address, 'port': farm.l7r_port, 'vm': vm.id,
                     'login': vm.login, 'password': vm.password}
        self.process = self.port = None

    def begin(self):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [sys.executable, '-c', PROCESS, os.path.dirname(oldclients.__file__)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(self.what))
        self.process.stdin.close()
        self.port = int(self.process.stdout.readline())

    def connect(self):
        self.begin()
        assert self.process.stdout.readline() == f'101 {NX_SERVER.decode()}\n'

    def kill(self):
        self.process.kill()
        assert self.process.wait(10) == -signal.SIGKILL
        self.process.stdout.close()


@contextlib.contextmanager
def late(step, farm, hold, vm, former):
    """As held_in(), where a statement, a worker or the agent is waited for; the client stays."""
    rows = Rows(farm)
    if step in ('cut', 'close'):
        former.connect()
    with {'cut': lambda: hold.cut(former.port), 'close': lambda: hold.ending(vm),
          'claim': lambda: hold.claim(vm), 'switch': lambda: hold.switch(vm),
          'reset': lambda: hold.reset(vm)}[step]() as held:
        if step == 'cut':
            disconnect_by_hand(vm)
        elif step == 'close':
            vm.streams[-1].shutdown(2)
        else:
            former.begin()
        rows.entered(step)
        if step == 'reset':
            held.reopen()
        elif step != 'cut':
            wait_for_locks(vm.node, 1)
        yield held


def disconnect_by_hand(vm):
    vm.node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")


def port_beside(farm, client):
    """Whose worker will not be that client's."""
    worker, = owners(farm, client.wire.socket.getsockname()[1])
    return port_of_another_worker(farm, worker)


@contextlib.contextmanager
def held_in(step, farm, hold, vm, name):
    """(former, held, port): held.release() lets it go on; port: where the next one comes from."""
    # pylint: disable=too-many-branches
    rows, former = Rows(farm), Former(farm, vm, name)
    port = None
    with contextlib.ExitStack() as stack:
        if step == 'connected':
            former.connect()
            held = Held()
        elif step in ('cut', 'close', 'later'):
            former.connect()
            if step == 'cut':
                port = port_beside(farm, former.client)
                held = stack.enter_context(hold.cut(former.port))
                disconnect_by_hand(vm)
            else:
                held = stack.enter_context(getattr(hold, step.replace('close', 'claim'))(vm))
                former.client.wire.close()
        elif step == 'takeover':
            stack.enter_context(held_in('reset', farm, hold, vm, 'perl'))
            held = Held()
            former.begin()
        elif step == 'ask':
            port = port_beside(farm, former.client)
            held = stack.enter_context(hold.ask(vm, former.client))
            former.begin()
        else:
            held = stack.enter_context(getattr(hold, step.replace('unclaim', 'claim'))(vm))
            former.begin()
        if step == 'unclaim':
            rows.entered('claim')
            former.client.wire.socket.shutdown(2)
        rows.entered(step)
        if step == 'prepare':
            wait_until(lambda: len(vm.called('x_start')) > 0, 5, 'the order')
            vm.answers.pop('x_start')
        if step == 'reset':
            held.reopen()
        yield former, held, port


# When the step is let go: after a row that the newcomer makes the former one take. The others stay
# until the newcomer has its desktop.
RELEASE = {'claim': None, 'unclaim': None, 'switch': None, 'close': None, 'wait': 'wait abort',
           'dial': 'dial abort', 'cut': 'cut abort', 'reset': 'reset abort', 'later': 'later abort'}
STEPS = [('claim', 'perl', 'qt'), ('unclaim', 'qt', 'perl'), ('takeover', 'c', 'perl'),
         ('wait', 'perl', 'c'), ('prepare', 'qt', 'c'), ('ask', 'perl', 'qt'), ('ask', 'qt', 'perl'),
         ('dial', 'c', 'qt'), ('switch', 'perl', 'c'), ('cut', 'c', 'perl'), ('cut', 'perl', 'qt'),
         ('reset', 'qt', 'c'), ('close', 'c', 'perl'), ('later', 'perl', 'c'),
         *(('connected', a, b) for a in CLIENTS for b in CLIENTS)]


@pytest.mark.parametrize('step, first, second', STEPS, ids=['-'.join(row) for row in STEPS])
def test_takeover(farm, node, vm, hold, step, first, second):
    vm.calls.clear()
    rows = Rows(farm)
    with held_in(step, farm, hold, vm, first) as (former, held, port):
        claims = [r[2] for r in rows.all()].count('claim')
        with from_port(port):
            newcomer = new_client(farm, vm, second)
        answer = Later(lambda: newcomer.connect(vm.id))
        if step in RELEASE:
            wait_until(lambda: [r[2] for r in rows.all()].count('claim') > claims, 10,
                       'the claim of the newcomer')
            if RELEASE[step]:
                rows.wait(RELEASE[step])
            held.release()
        answer = answer.result(30)
        assert first_nx_bytes(newcomer.wire, answer) == NX_SERVER
        row = vm.row()
        assert row['user_state'] == 'connected'
        held.release()
        if step in ('takeover', 'wait', 'prepare', 'ask', 'dial', 'connected'):
            former.ends('taken over by another connection')
        open_ones = node.psql('SELECT id FROM sessions WHERE ended IS NULL AND connected IS NOT NULL')
        assert open_ones == [[row['session_id']]]
        newcomer.wire.send(b'mine')
        assert newcomer.wire.record() == b'mine'
    newcomer.wire.close()
    former.client.wire.close()


@pytest.mark.parametrize('step', ['takeover', 'wait', 'prepare', 'ask', 'dial', 'connected'])
def test_disconnect(farm, vm, hold, step):
    """qa vm disconnect: within a second, whatever it waits for."""
    vm.calls.clear()
    with held_in(step, farm, hold, vm, 'qt' if step == 'ask' else 'c') as (former, held, _):
        farm.qa('vm', 'disconnect', '-f', f'id={vm.id}')
        began = time.monotonic()
        if step == 'ask':       # its worker sleeps, but the VM is free
            wait_until(lambda: vm.row()['user_state'] == 'disconnected', 1, 'the VM to be free')
            held.release()
        former.ends('disconnected by an administrator')
        assert time.monotonic() - began < 1 or step == 'ask'
    former.client.wire.close()


def last_end(vm):
    return vm.node.psql(f'SELECT end_reason FROM sessions WHERE vm_id = {vm.id} ORDER BY id DESC '
                        'LIMIT 1')[0][0]


def is_free(vm):
    return vm.row()['user_state'] == 'disconnected'


BY_HAND = 'disconnected by an administrator'


@pytest.mark.parametrize('step', ['claim', 'switch'])
def test_disconnect_right_behind_a_statement(farm, node, vm, hold, step):
    """The order waits for the same row, so that it is the first that comes after the statement."""
    former = Former(farm, vm, 'perl')
    with late(step, farm, hold, vm, former) as held:
        order = Later(lambda: farm.qa('vm', 'disconnect', '-f', f'id={vm.id}'))
        wait_for_locks(node, 2)
        held.release()
        order.result()
        wait_until(lambda: is_free(vm), 1, 'the VM to be free')
        if step == 'claim':
            former.ends(BY_HAND)
        else:   # it was connected for a moment
            assert former.answer.result().status == 101
            assert former.client.wire.record() == b''
        assert last_end(vm) == BY_HAND
    former.client.wire.close()


def test_disconnect_right_before_the_switch(farm, node, vm, hold):
    """Written by who holds the row: the switch finds it."""
    former = Former(farm, vm, 'c')
    with late('switch', farm, hold, vm, former) as held:
        held.undo.pop()(f"SET qvd.notify = 'store'; UPDATE vm_runtimes SET user_cmd = 'abort' "
                        f'WHERE vm_id = {vm.id}')
        wait_until(lambda: is_free(vm), 1, 'the VM to be free')
        former.ends(BY_HAND)
        assert last_end(vm) == BY_HAND
        assert len(vm.called('x_reset')) > 0, 'a dial that was not used'
    former.client.wire.close()


def test_disconnect_of_a_start_right_behind_the_claim(farm, node, vm, hold):
    """The VM is stopped: nothing else would look at its row for a long time."""
    vm.set_stopped()
    former = Former(farm, vm, 'qt')
    with late('claim', farm, hold, vm, former) as held:
        order = Later(lambda: farm.qa('vm', 'disconnect', '-f', f'id={vm.id}'))
        wait_for_locks(node, 2)
        held.release()
        order.result()
        former.ends(BY_HAND)
        assert is_free(vm)
    former.client.wire.close()


@pytest.mark.parametrize('step, reason', [
    ('cut', BY_HAND), ('close', 'closed by the desktop'),
    ('reset', 'the desktop does not take the connection')])
def test_disconnect_of_what_ends_already(farm, vm, hold, step, reason):
    """It is taken, changes nothing, and the VM is free as soon as what is waited for comes."""
    rows, former = Rows(farm), Former(farm, vm, 'qt')
    with late(step, farm, hold, vm, former) as held:
        farm.qa('vm', 'disconnect', '-f', f'id={vm.id}')
        if step != 'cut':   # ordered already
            rows.wait(f'{step} abort')
        held.release()
        wait_until(lambda: is_free(vm), 1, 'the VM to be free')
        assert last_end(vm) == reason
    assert farm.qa('vm', 'disconnect', '-f', f'id={vm.id}', check=False).returncode != 0
    former.client.wire.close()


def test_disconnect_while_a_claim_is_given_up(farm, node, vm, hold):
    former = Former(farm, vm, 'perl')
    rows = Rows(farm)
    with late('claim', farm, hold, vm, former) as held:
        former.client.wire.socket.shutdown(2)
        rows.entered('unclaim')
        order = Later(lambda: farm.qa('vm', 'disconnect', '-f', f'id={vm.id}', check=False))
        wait_for_locks(node, 2)
        held.release()
        order.result()
        wait_until(lambda: is_free(vm), 1, 'the VM to be free')
        assert last_end(vm) == 'the client has gone'


def test_who_takes_over_and_goes_at_once_changes_nothing(farm, vm, hold):
    former, newcomer, rows = Former(farm, vm, 'perl'), Former(farm, vm, 'qt'), Rows(farm)
    former.connect()
    session = vm.row()['session_id']
    with late('claim', farm, hold, vm, newcomer) as held:
        newcomer.client.wire.socket.shutdown(2)
        rows.entered('unclaim')
        held.release()
        rows.wait('unclaim hold')
        wait_until(lambda: vm.row()['session_id'] == session, 5, 'the VM to be in the former one')
    assert vm.row()['user_state'] == 'connected'
    former.client.wire.send(b'still mine')
    assert former.client.wire.record() == b'still mine'
    former.client.wire.close()


@pytest.mark.parametrize('step, reason', [
    ('claim', 'the client has gone'), ('switch', 'the client has gone'), ('cut', BY_HAND),
    ('close', 'closed by the desktop'), ('reset', 'the desktop does not take the connection')])
def test_kill_of_the_client(farm, vm, hold, step, reason):
    vm.calls.clear()
    former, rows = Process(farm, vm), Rows(farm)
    with late(step, farm, hold, vm, former) as held:
        former.kill()
        if step in ('claim', 'switch'):
            rows.wait(f'{step} abort')
        held.release()
        wait_until(lambda: is_free(vm), 2, 'the VM to be free')
        assert last_end(vm) == reason
        if step == 'switch':
            assert len(vm.called('x_reset')) > 0, 'a dial that was not used'
    newcomer = Former(farm, vm, 'c')
    newcomer.connect()
    newcomer.client.wire.close()
