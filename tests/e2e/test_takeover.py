# SPDX-License-Identifier: GPL-3.0-or-later
"""A session is taken over, or ended by an administrator, in whatever step it is; by each of the
clients that exist from each other (l7r-protocol 4.1, 11)."""

import contextlib
import time

import pytest

from fakenode import NX_SERVER
from farm import wait_until
from later import Later
from oldclients import CClient, PerlClient, QtClient, first_nx_bytes
from steps import Held, Holds, Rows, from_port, owners, port_of_another_worker

CLIENTS = {'perl': PerlClient, 'qt': QtClient, 'c': CClient}
SERVICES = ('l7r', 'api')
FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.sweep': '1h', 'l7r.takeover.max': '1000',
                     'l7r.limit.connections.per_source': '1000'}}


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
                held = stack.enter_context(hold.cut(former.client))
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
