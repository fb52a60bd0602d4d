# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a session in a step of docs/session-steps.md for as long as a test likes, and tells which
rows of that table were taken.

    hold = Holds(farm, node)
    with hold.prepare(vm) as held:          # what brings the next session of that VM there
        ...                                 # held.release() lets it go on
"""

import contextlib
import os
import re
import selectors
import socket
import subprocess
import threading

import oldclients
from farm import wait_until
from qvdfarm.farm import RUN_ENV
from vmbox import network_of

ROW = re.compile(r'\[s:(\d+) u:\d+ vm:(\d+)\] row (\S+) \| (\S+) \| (\S+)')


class Rows:
    """The rows that the broker has taken since this was made."""

    def __init__(self, farm):
        self.path = farm.path('log/l7r.log')
        self.begin = os.path.getsize(self.path)

    def all(self, vm=None):
        """(step, event, next), in their order."""
        with open(self.path, encoding='utf-8', errors='replace') as f:
            f.seek(self.begin)
            found = ROW.findall(f.read())
        return [row[2:] for row in found if vm is None or int(row[1]) == vm.id]

    def wait(self, *rows, timeout=10):
        """Until each 'step event' was taken."""
        wanted = [tuple(row.split()) for row in rows]
        wait_until(lambda: all(any(taken[:2] == row for taken in self.all()) for row in wanted),
                   timeout, f'the rows {rows}')

    def entered(self, step, timeout=10):
        wait_until(lambda: any(taken[2] == step for taken in self.all()), timeout,
                   f'the step {step}')


class Held:
    """release() may be called twice."""

    def __init__(self, *undo):
        self.undo = list(undo)

    def release(self):
        while self.undo:
            self.undo.pop()()


class Lock:
    """A transaction of PostgreSQL that stays open until release(); sql: what it does."""

    def __init__(self, farm, sql):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            farm.command(['psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-h',
                          '/run/postgresql', '-d', 'qvd', '-f', '-'], 'postgres'),
            env=RUN_ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(f"BEGIN;\n{sql};\nSELECT 'held';\n")
        self.process.stdin.flush()
        while self.process.stdout.readline() != 'held\n':
            assert self.process.poll() is None, sql

    def release(self, last=''):
        self.process.stdin.write(f'{last};\nCOMMIT;\n' if last else 'COMMIT;\n')
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def row_of(vm):
    return f'SELECT FROM vm_runtimes WHERE vm_id = {vm.id} FOR UPDATE'


def wait_for_locks(node, count):
    """Until so many statements wait for what somebody holds."""
    wait_until(lambda: int(node.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'qvd' "
                                     "AND wait_event_type = 'Lock'")[0][0]) >= count, 10,
               f'{count} statements to wait')


def pids(farm, name):
    """Those inside the farm."""
    return farm.run(['pgrep', '-x', name[:15]], check=False).stdout.split()


def owners(farm, port):
    """The pids inside the farm of the worker that has the connection from that port of ours."""
    wanted = []
    with open('/proc/net/tcp', encoding='ascii') as f:
        for line in f:
            words = line.split()
            if words[1].endswith(f':{farm.l7r_port:04X}') and words[2].endswith(f':{port:04X}'):
                wanted.append(f'socket:[{words[9]}]')
    return [pid for pid in pids(farm, 'qvd-l7r-worker') if any(
        link in wanted for link in farm.run(
            ['sh', '-c', f'for f in /proc/{pid}/fd/*; do readlink $f; done'],
            check=False).stdout.split('\n'))]


def port_of_another_worker(farm, pid):
    """A port of ours whose connections another worker than pid gets: the kernel chooses among the
    listening sockets by addresses and ports, the same each time."""
    for _ in range(60):
        with socket.create_connection((farm.address, farm.l7r_port)) as sock:
            port = sock.getsockname()[1]
            owner = wait_until(lambda: owners(farm, port), 5, 'a worker to accept')  # pylint: disable=cell-var-from-loop
            # No TIME_WAIT: the port is wanted again.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        if owner != [pid]:
            return port
    raise AssertionError('all connections go to one worker')


@contextlib.contextmanager
def from_port(port):
    """Clients made meanwhile connect from there."""
    oldclients.Wire.source = ('', port) if port else None
    try:
        yield
    finally:
        oldclients.Wire.source = None


class Gate:
    """What an agent's function answers once it is opened; called tells that it was asked."""

    def __init__(self, answer=(200, {'state': 'listening'}), first=None):
        self.asked, self.open = threading.Event(), threading.Event()
        self.answer, self.first = answer, first

    def __call__(self):
        if self.first:
            self.first()
        self.asked.set()
        self.open.wait(60)
        return self.answer


class Holds:
    """Each method is a context in which the next session stays in that step."""

    def __init__(self, farm, node):
        self.farm, self.node = farm, node

    @contextlib.contextmanager
    def _with(self, held):
        try:
            yield held
        finally:
            held.release()

    def signal(self, name, number):
        for pid in pids(self.farm, name):
            self.farm.run(['kill', number, pid], check=False)

    def stopped(self, name):
        """Processes of that name under SIGSTOP."""
        self.signal(name, '-STOP')
        return self._with(Held(lambda: self.signal(name, '-CONT')))

    def locked(self, sql):
        lock = Lock(self.farm, sql)
        return self._with(Held(lock.release))

    def auth(self, _vm=None):
        return self.stopped('qvd-authd')

    token = auth

    def host(self, _vm=None):
        return self.locked('LOCK TABLE hosts IN ACCESS EXCLUSIVE MODE')

    def list(self, _vm=None):
        return self.locked('LOCK TABLE vms IN ACCESS EXCLUSIVE MODE')

    def claim(self, vm):
        return self.locked(row_of(vm))

    stop = claim

    def ending(self, vm):
        """The end of its present session cannot be written, but an order to leave can."""
        return self.locked(f'SELECT FROM sessions WHERE vm_id = {vm.id} AND ended IS NULL '
                           'FOR UPDATE')

    def wait(self, vm):
        vm.set_stopped()
        return self._with(Held(vm.set_running))

    def prepare(self, vm):
        gate = Gate()
        vm.answers['x_start'] = gate

        def undo():
            vm.answers.pop('x_start', None)
            gate.open.set()
        return self._with(Held(undo))

    def ask(self, vm, client):
        """The worker of that client sleeps when the agent answers."""
        worker, = owners(self.farm, client.wire.socket.getsockname()[1])

        def first():
            vm.answers.pop('x_start', None)
            self.farm.run(['kill', '-STOP', worker])
        vm.answers['x_start'] = gate = Gate(first=first)
        gate.open.set()
        held = Held(lambda: self.farm.run(['kill', '-CONT', worker]))
        held.worker = worker
        return self._with(held)

    def cut(self, port):
        """The worker of the connected client at that port sleeps."""
        worker, = owners(self.farm, port)
        self.farm.run(['kill', '-STOP', worker])
        held = Held(lambda: self.farm.run(['kill', '-CONT', worker]))
        held.worker = worker
        return self._with(held)

    def dial(self, vm):
        """The desktop's port takes no connection: its queue is full."""
        vm.desktop.shutdown(2)
        vm.desktop.close()
        with network_of(self.farm.pid):
            full = socket.socket()
            full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            full.bind((vm.address, 4100))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
        for sock in fillers:
            sock.setblocking(False)
            sock.connect_ex((vm.address, 4100))
        # The last one's connection is still on its way: nobody else gets in either.
        with selectors.DefaultSelector() as chosen:
            chosen.register(fillers[-1], selectors.EVENT_WRITE)
            assert not chosen.select(0.2), 'the queue takes more'

        def undo():
            for sock in fillers:
                sock.close()
            full.close()
            vm.open_desktop()
        return self._with(Held(undo))

    def switch(self, vm):
        """The row is locked when the agent answers."""
        held = Held()

        def first():
            vm.answers.pop('x_start', None)
            held.undo.append(Lock(self.farm, row_of(vm)).release)
        vm.answers['x_start'] = gate = Gate(first=first)
        gate.open.set()
        return self._with(held)

    def reset(self, vm):
        """The desktop refuses, and the agent does not answer to that."""
        vm.desktop.shutdown(2)
        vm.desktop.close()
        gate = Gate()
        vm.answers['x_reset'] = gate

        def undo():
            vm.answers.pop('x_reset', None)
            gate.open.set()
        held = Held(undo, vm.open_desktop)
        held.reopen = lambda: held.undo.pop()()     # only the agent hangs then
        return self._with(held)

    def later(self, _vm=None):
        """No session's end can be written."""
        self.node.psql('REVOKE UPDATE ON sessions FROM qvd_l7r')
        return self._with(Held(lambda: self.node.psql('GRANT UPDATE ON sessions TO qvd_l7r')))
