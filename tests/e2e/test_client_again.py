# SPDX-License-Identifier: GPL-3.0-or-later
"""qvdclient after its line was cut, with a scripted server: when it connects again by itself, when
never, how long, and what the person reads."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest

from farm import installed_tree, wait_until
from l7rscript import Server, false_nxproxy, vm


class Client:
    """qvdclient with a home of its own and a false nxproxy."""

    def __init__(self, folder, display, pki):
        self.home = str(folder / 'home')
        os.mkdir(self.home)
        self.runtime_dir = tempfile.TemporaryDirectory(prefix='qvdrun-')
        self.env = {'PATH': os.environ['PATH'], 'HOME': self.home, 'DISPLAY': display,
                    'XDG_RUNTIME_DIR': self.runtime_dir.name, 'QVDPASSWORD': 'secret',
                    'QVD_CA': pki.path('ca.pem')}
        self.nxproxy, self.told_file = false_nxproxy(str(folder))

    def start(self, port, *args):
        program = os.path.join(installed_tree(), 'usr/bin/qvdclient')
        return subprocess.Popen([program, '-h', '127.0.0.1', '-p', str(port), '-u', 'alice',
                                 '--nxproxy', self.nxproxy, *args], env=self.env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def told(self):
        """What the present nxproxy was told; each is read once."""
        wait_until(lambda: os.path.exists(self.told_file), 10, 'the word of nxproxy')
        with open(self.told_file, encoding='utf-8') as f:
            told = json.load(f)
        os.unlink(self.told_file)
        return told


@pytest.fixture
def client(tmp_path, screen, pki):
    return Client(tmp_path, screen.display, pki)


class Desk:
    """A server with one machine; connects(n, connection, query) plays the n-th connect."""

    def __init__(self, connects):
        self.connects = connects
        self.queries = []
        self.agents = []
        self.times = []
        self.lock = threading.Lock()

    def __call__(self, c):
        while got := c.request():
            target, headers = got
            if target == '/qvd/list_of_vm':
                c.vms(vm(7, 'desk'))
                continue
            query = dict(urllib.parse.parse_qsl(target.split('?')[1]))
            with self.lock:
                n = len(self.queries)
                self.queries.append(query)
                self.agents.append(headers['User-Agent'])
                self.times.append(time.monotonic())
            self.connects(n, c, query)
            return

    def resumes(self):
        return [(q.get('qvd.client.resume'), q.get('qvd.client.ended')) for q in self.queries]


def serve(pki, desk):
    return Server(desk, pki.path('good.pem'), pki.path('good.key'))


def session(c, number, end=None):
    """A desktop until end is set or the client goes."""
    c.switch(session=number)
    c.receive(b'data=default ')
    c.send('NX ')
    if end:
        assert end.wait(20)
    else:
        while c.sock.recv(65536):
            pass


def test_a_cut_line_is_made_again_within_two_seconds(client, pki):
    cut, cut_at = threading.Event(), []

    def connects(n, c, query):
        if n == 0:
            session(c, 41, cut)
            cut_at.append(time.monotonic())  # returns: closed without a good-bye
        else:
            session(c, 42)
    desk = Desk(connects)
    with serve(pki, desk) as server:
        process = client.start(server.port)
        first = client.told()
        cut.set()
        second = client.told()
        assert desk.times[1] - cut_at[0] < 2
        # The same machine, credentials and client; it says which session it goes on with.
        assert desk.resumes() == [(None, None), ('41', None)]
        assert desk.agents[0] == desk.agents[1] and desk.agents[0].startswith('qvdclient/')
        assert second['pid'] != first['pid'] and second['root'] != first['root']
        assert not os.path.exists(f'/proc/{first["pid"]}') and not os.path.exists(first['root'])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 0
    lines = err.splitlines()
    assert lines[0].startswith('qvdclient: the connection was lost: ')
    assert lines[1].startswith('qvdclient: connecting again in 0.')
    assert lines[2:] == ['qvdclient: connected again']


def test_each_client_has_a_name_of_its_own(client, pki):
    desk = Desk(lambda n, c, query: c.answer(503, 'later\r\n'))
    with serve(pki, desk) as server:
        for _ in range(2):
            client.start(server.port).communicate(timeout=20)
    assert len(set(desk.agents)) == 2


def session_then(client, pki, answer, good_bye=False):
    """Session 41 stops, in good order or by a cut, and who then asks is answered so: what the
    client asked for, its status, what it said."""
    over = threading.Event()

    def connects(n, c, query):
        if n == 0:
            session(c, 41, over)
            if good_bye:
                c.good_bye()
        else:
            c.answer(answer[0], answer[1] + '\r\n')
    desk = Desk(connects)
    with serve(pki, desk) as server:
        process = client.start(server.port)
        client.told()
        over.set()
        _, err = process.communicate(timeout=15)
    return desk.resumes(), process.returncode, err


@pytest.mark.parametrize('answer,status,line', [
    ((409, 'Your session was taken over by another connection'), 11,
     'qvdclient: your session was taken over by another connection; connect again to take it back'),
    ((410, 'The session has ended: disconnected by an administrator'), 0,
     'qvdclient: The session has ended: disconnected by an administrator'),
    ((410, 'The session has ended: closed by the desktop'), 0, None),
    ((503, 'Server is restarting'), 0, None)])
def test_an_end_in_good_order_is_only_asked_about(client, pki, answer, status, line):
    resumes, code, err = session_then(client, pki, answer, good_bye=True)
    assert code == status, err
    assert resumes == [(None, None), (None, '41')]
    assert err.splitlines() == ([line] if line else [])


@pytest.mark.parametrize('answer,status,last', [
    ((409, 'x'), 11,
     'qvdclient: your session was taken over by another connection; connect again to take it back'),
    ((410, 'The session has ended: the virtual machine has stopped'), 0,
     'qvdclient: The session has ended: the virtual machine has stopped'),
    ((403, 'The virtual machine is under maintenance'), 7,
     'qvdclient: refused: The virtual machine is under maintenance (403)'),
    ((401, 'no'), 3, None)])
def test_a_cut_line_is_not_made_again_against_the_server_s_word(client, pki, answer, status, last):
    resumes, code, err = session_then(client, pki, answer)
    assert code == status, err
    assert resumes == [(None, None), ('41', None)]
    if last:
        assert err.splitlines()[-1] == last


def test_attempts_go_on_with_longer_pauses_and_each_is_told(client, pki):
    cut = threading.Event()

    def connects(n, c, query):
        if n == 0:
            session(c, 41, cut)
        elif n < 4:
            c.answer(503, 'The node is busy\r\n')
        else:
            session(c, 42)
    desk = Desk(connects)
    with serve(pki, desk) as server:
        process = client.start(server.port)
        client.told()
        cut.set()
        client.told()
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert err.count('failed: not available now: The node is busy') == 3
    assert 'connected again' in err
    pauses = [b - a for a, b in zip(desk.times[1:], desk.times[2:])]
    assert pauses[0] > 0.2 and pauses[1] > 0.45 and pauses[2] > 0.9, pauses


def test_attempts_have_a_limit(client, pki):
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, 41, cut) if n == 0 else c.answer(503, 'no\r\n'))
    with serve(pki, desk) as server:
        process = client.start(server.port, '--reconnect', '2')
        client.told()
        began = time.monotonic()
        cut.set()
        _, err = process.communicate(timeout=15)
        took = time.monotonic() - began
    assert process.returncode == 9 and 1.5 < took < 8
    assert 'did not come back within 2 s' in err and 'your desktop goes on' in err


@pytest.mark.parametrize('number,args', [(None, ()), (41, ('--reconnect', '0'))])
def test_no_attempt_without_a_number_or_a_wish(client, pki, number, args):
    """A server that does not number its sessions could not tell a cut from a takeover."""
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, number, cut))
    with serve(pki, desk) as server:
        process = client.start(server.port, *args)
        client.told()
        cut.set()
        _, err = process.communicate(timeout=15)
    assert len(desk.queries) == 1
    assert process.returncode == (9 if number else 0), err


def test_a_signal_ends_the_attempts(client, pki):
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, 41, cut) if n == 0 else c.answer(503, 'no\r\n'))
    with serve(pki, desk) as server:
        process = client.start(server.port)
        client.told()
        cut.set()
        wait_until(lambda: len(desk.queries) > 1, 10, 'an attempt')
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0  # the desktop had been there, and goes on


def test_a_server_that_is_away_for_a_while(client, pki):
    """The listening socket itself is gone: refused connections, then it is back on its port."""
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, 41 + n, cut if n == 0 else None))
    with serve(pki, desk) as server:
        port = server.port
        process = client.start(port)
        client.told()
        server.close()
        server.thread.join()
        cut.set()
        lines = []
        while not any('attempt 1 failed' in line for line in lines):
            lines.append(process.stderr.readline())
        assert 'refused' in lines[-1]
        back = Server(desk, pki.path('good.pem'), pki.path('good.key'), port=port)
        with back:
            client.told()
            process.terminate()
            process.communicate(timeout=10)
    assert desk.resumes()[-1] == ('41', None)
    assert process.returncode == 0


def test_nxproxy_that_stays_and_one_that_crashes(client, pki, tmp_path):
    """One that ignores TERM and the end of its line is gone all the same before the next comes."""
    stubborn = tmp_path / 'stubborn'
    out = tmp_path / 'pids'
    stubborn.write_text(f'''#!/usr/bin/python3
import os, signal, socket, sys, time
for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(s, signal.SIG_IGN)
path = sys.argv[2].split('connect=unix:')[1].split(',')[0]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(b'NXPROXY-x data=default ')
with open({str(out)!r}, 'a') as f:
    f.write('%d\\n' % os.getpid())
while True:
    time.sleep(100)
''')
    stubborn.chmod(0o755)
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, 41 + n, cut if n == 0 else None))

    def pids():
        return out.read_text().split() if out.exists() else []
    with serve(pki, desk) as server:
        process = client.start(server.port, '--nxproxy', str(stubborn))
        wait_until(lambda: len(pids()) == 1, 10, 'nxproxy')
        cut.set()
        wait_until(lambda: len(pids()) == 2, 10, 'the second nxproxy')
        first, second = pids()
        assert not os.path.exists(f'/proc/{first}')
        process.kill()
        process.communicate()
        wait_until(lambda: not os.path.exists(f'/proc/{second}'), 10, 'its end with the client')


def test_plain_tcp_reconnects_too(client, pki):
    """Without TLS there is no good-bye: the server's word decides."""
    cut = threading.Event()
    desk = Desk(lambda n, c, query: session(c, 41, cut) if n == 0 else
                c.answer(410, 'The session has ended: closed by the desktop\r\n'))
    with Server(desk) as server:
        process = client.start(server.port, '--no-ssl')
        client.told()
        cut.set()
        process.communicate(timeout=15)
    assert process.returncode == 0
    assert desk.resumes() == [(None, None), ('41', None)]


def test_the_line_is_watched(client, pki):
    """A line that dies without a word is noticed: the socket's keepalive is set for it."""
    desk = Desk(lambda n, c, query: session(c, 41))
    with serve(pki, desk) as server:
        process = client.start(server.port)
        client.told()
        shown = subprocess.run(['ss', '-tnope', f'dport = :{server.port}'], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        mine = [line for line in shown.splitlines() if f'pid={process.pid},' in line]
        assert mine and all('timer:(keepalive,' in line for line in mine), shown
        seconds = mine[0].split('timer:(keepalive,')[1].split(',')[0]
        assert seconds.endswith('ms') or float(seconds.rstrip('sec').replace('min', '')) <= 10
        process.terminate()
        process.communicate(timeout=10)
