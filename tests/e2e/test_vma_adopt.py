# SPDX-License-Identifier: GPL-3.0-or-later
"""What crashes in a VM, and who stands in the way: the agent (its successor adopts the desktop), nxagent,
the session's programs, stale and hostile files, hostile peers and users."""

import os
import secrets
import socket
import subprocess
import sys

import pytest

from farm import wait_until
from vmbox import VmBox, find_picture, request_auth, wait_exit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import painter  # noqa: E402  pylint: disable=wrong-import-position

FARM = {'services': False}


IMAGES = ['minimal', 'minimal-systemd', 'xfce']


def run_box(request, farm, image):
    made = VmBox(farm, image)
    failed_before = request.session.testsfailed
    made.start()
    yield made
    if request.session.testsfailed > failed_before:
        print(made.logs())
        print(made.sh('cat /var/log/qvd/*; journalctl -u qvd-vma 2>/dev/null | tail -50', check=False))
    made.close()


@pytest.fixture(params=IMAGES)
def crash(request, farm):
    """A VM of its own: sysvinit gives up an agent that ends ten times in two minutes."""
    yield from run_box(request, farm, request.param)


@pytest.fixture(scope='module', params=['minimal', 'xfce'])
def shared(request, farm):
    yield from run_box(request, farm, request.param)


@pytest.fixture
def box(shared):
    shared.call('x_stop')
    wait_until(lambda: shared.state() == 'stopped', 10, 'stopped')
    return shared


def paint(box, login, seed):
    with open(painter.__file__, encoding='utf-8') as f:
        box.as_user(login, 'sh', '-c', 'cat >~/painter.py', input=f.read())
    return box.spawn_as(login, 'python3', f'/home/{login}/painter.py', seed)


def see(screen, seed, timeout=30):
    rows = painter.rows(seed, 256, 256)
    wait_until(lambda: find_picture(screen, rows), timeout, 'the picture, bit by bit', 0.1)


def monitor_of(box):
    return box.sh('pgrep -x qvd-vma | head -1; true')


def end_monitor(box, also='', signal='KILL'):
    """Ends the agent; returns once a new one answers."""
    old = monitor_of(box)
    box.sh(f'kill -{signal} {old}; {also}')

    def answers():
        try:
            return monitor_of(box) not in ('', old) and box.call('ping')[0] == 200
        except OSError:
            return False
    wait_until(answers, 20, 'a new agent', 0.05)


# -- the agent ---------------------------------------------------------------------------------------

def test_a_killed_agent_is_followed_by_one_that_adopts_the_desktop(crash, xservers):
    seed, first, second = secrets.token_hex(8), xservers(), xservers()
    crash.x_start()
    with crash.client(first.display) as former:
        crash.wait_state('connected')
        painting = paint(crash, 'ann', seed)
        see(first, seed)
        agent = crash.sh('pgrep -o -x nxagent')
        end_monitor(crash)
        # Same nxagent, same stream, same picture.
        assert crash.state() == 'connected'
        assert former.poll() is None and painting.poll() is None
        assert crash.sh('pgrep -o -x nxagent') == agent
        see(first, seed)
        # It is in charge again: a takeover.
        crash.x_start()
        wait_exit(former)
        with crash.client(second.display):
            crash.wait_state('connected')
            see(second, seed)
            # And once more, for good measure, with the person leaving while nobody looks.
            end_monitor(crash, signal='USR2')
            assert crash.state() == 'connected'
    crash.wait_state('suspended')
    end_monitor(crash)
    assert crash.state() == 'suspended' and painting.poll() is None
    crash.x_start()
    with crash.client(first.display):
        crash.wait_state('connected')
        see(first, seed)
    assert crash.call('x_stop') == (200, {'state': 'stopped'})
    wait_until(lambda: crash.sh('pgrep -u ann; true') == '', 10, 'the end of the session')


def test_what_happens_while_no_agent_looks_is_noticed(crash, xservers):
    screen, old = xservers(), None
    crash.x_start()
    with crash.client(screen.display) as client:
        crash.wait_state('connected')
        old = monitor_of(crash)
        # The client goes in the moment in which no agent is there.
        crash.sh(f'kill -STOP 1; kill -KILL {old}', check=False)
        client.kill()
        client.wait()
        crash.sh('kill -CONT 1', check=False)
    wait_until(lambda: monitor_of(crash) not in ('', old), 20, 'a new agent')

    def suspended():
        try:
            return crash.state() == 'suspended'
        except OSError:
            return False
    wait_until(suspended, 20, 'suspended')
    # The person logs out in such a moment.
    crash.x_start()
    with crash.client(screen.display):
        crash.wait_state('connected')
        end_monitor(crash, 'pkill -u ann')
        crash.wait_state('stopped', 20)
    # nxagent dies in such a moment.
    crash.x_start()
    with crash.client(screen.display):
        crash.wait_state('connected')
        end_monitor(crash, 'pkill -KILL -x nxagent')
        crash.wait_state('stopped', 20)
    crash.x_start()
    with crash.client(screen.display):
        crash.wait_state('connected')


def test_an_agent_killed_in_each_phase_of_a_start(crash, xservers):
    screen = xservers()
    for wait_for in ('provisioning', 'listening'):
        begun = crash.begin('x_start', {'qvd.vm.user.name': 'ann'}, crash.next_serial())
        if wait_for == 'listening':
            assert crash.finish(begun)[0] == 200
        end_monitor(crash)
        # The broker asks again, with the same serial.
        assert crash.call('x_start', {'qvd.vm.user.name': 'ann'}, crash.serial) == (
            200, {'state': 'listening'})
        with crash.client(screen.display):
            crash.wait_state('connected')
        crash.wait_state('suspended')
        assert crash.call('x_stop')[0] == 200


def test_old_orders_stay_refused_after_a_restart_of_the_agent(crash):
    crash.next_serial()
    last = crash.next_serial()
    assert crash.call('x_stop', serial=last)[0] == 200
    end_monitor(crash)
    for function in ('x_start', 'x_stop', 'poweroff'):
        assert crash.call(function, serial=last - 1)[0] == 409
    # The same again is answered, and not done a second time.
    crash.x_start()
    serial = crash.serial
    end_monitor(crash)
    assert crash.call('x_start', {'qvd.vm.user.name': 'ben'}, serial)[0] == 200
    assert crash.sh('id -u ben 2>/dev/null; true') == ''


def test_an_agent_told_to_end_ends_the_desktop(crash):
    crash.x_start()
    end_monitor(crash, signal='TERM')
    assert crash.state() == 'stopped' and crash.sh('pgrep -x nxagent; true') == ''


# -- nxagent, the session, files in the way ----------------------------------------------------------

def test_the_end_of_the_sessions_program_is_a_log_out(box, xservers):
    screen = xservers()
    box.x_start()
    with box.client(screen.display) as client:
        box.wait_state('connected')
        # The program that the agent started: jwm or Xfce's session, by its crash.
        leader = "ps -o pid=,ppid=,sid= -u ann | awk '$1 == $3 && $1 != N {print $1}' N=$(pgrep -o -x nxagent)"
        wait_until(lambda: box.sh(leader), 10, 'the session')
        box.sh(f'kill -SEGV $({leader} | head -1)')
        box.wait_state('stopped')
        wait_exit(client)
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')


def test_hostile_files_in_tmp_are_neither_followed_nor_in_the_way(box, xservers):
    box.sh('useradd -m mallory 2>/dev/null; echo precious >/root/precious; chmod 600 /root/precious; '
           'rm -rf /tmp/.X11-unix /tmp/.X100-lock')
    for script in ('mkdir -p /tmp/.X100-lock/deep; touch /tmp/.X100-lock/deep/file; '
                   'mkdir /tmp/.X11-unix; touch /tmp/.X11-unix/X100',
                   'ln -s /root/precious /tmp/.X100-lock; ln -s /root /tmp/.X11-unix',
                   'ln -s /root /tmp/.X100-lock; mkdir -p /tmp/.X11-unix/X100/deep',
                   'mkfifo /tmp/.X100-lock; touch /tmp/.X11-unix'):
        box.sh(f"setpriv --reuid=mallory --clear-groups sh -c '{script}'")
        box.x_start()
        assert box.sh('stat -c %u:%a /tmp/.X11-unix') == '0:1777'
        with box.client(xservers().display):
            box.wait_state('connected')
        assert box.call('x_stop')[0] == 200
        assert box.sh('cat /root/precious; stat -c %a:%u /root/precious; ls -d /root').split() == [
            'precious', '600:0', '/root']
        box.sh('rm -rf /tmp/.X11-unix /tmp/.X100-lock')


def test_users_of_the_desktop_reach_nothing_of_the_agent(box):
    box.x_start()
    monitor, listener, agent = box.sh('pgrep -x qvd-vma; pgrep -x qvd-vma-listene; pgrep -o -x nxagent'
                                      ).split()
    dial = ('import socket, sys\n'
            'for host in ("127.0.0.1", sys.argv[1]):\n'
            '    for i in range(300):\n'
            '        s = socket.create_connection((host, 3030), 5)\n'
            '        s.sendall(b"POST /vma/1/ping HTTP/1.1\\r\\n\\r\\n") if i == 0 else None\n'
            '        try:\n'
            '            assert s.recv(100) == b"", "an answer"\n'
            '        except ConnectionResetError:\n'
            '            pass\n')
    assert box.as_user('ann', 'python3', '-c', dial, box.ip).returncode == 0
    for forbidden in ('cat /dev/.qvd/secret', 'echo >/dev/.qvd/ready', 'cat /run/qvd/vma/session',
                      'cat /run/qvd/vma/serial', 'cat /run/qvd/vma/nxagent.fifo',
                      'ls /run/qvd/vma', 'cat /var/log/qvd/qvd-hooks.log',
                      f'cat /proc/{monitor}/environ', f'ls /proc/{monitor}/fd', f'ls /proc/{listener}/fd',
                      f'kill -0 {monitor}', f'kill -0 {listener}'):
        assert box.as_user('ann', 'sh', '-c', forbidden, check=False).returncode != 0, forbidden
    # What nxagent and the session hold are their output and their own sockets.
    held = box.sh(f'for p in {agent}; do readlink /proc/$p/fd/*; done').splitlines()
    assert not [path for path in held if path.startswith('/') and
                not path.startswith(('/dev/null', '/run/qvd/vma/nxagent.fifo', '/home/ann/'))], held
    # The node still gets its answers.
    assert box.call('ping')[0] == 200


# -- who knocks from outside -------------------------------------------------------------------------

def test_replays_and_floods_are_bounded(box):
    serial = box.next_serial()
    body = b'{}'
    auth = request_auth(box.secret, 'x_stop', serial, 'ab' * 16, body)
    recorded = (f'POST /vma/1/x_stop HTTP/1.1\r\nQVD-Auth: {auth}\r\nContent-Length: {len(body)}\r\n'
                '\r\n').encode() + body
    assert b' 200 ' in box.exchange(recorded).split(b'\r\n')[0]
    box.x_start()
    for _ in range(100):
        assert b' 409 ' in box.exchange(recorded).split(b'\r\n')[0]
    assert box.state() == 'listening'
    before = int(box.sh('ps -o rss= -p $(pgrep -x qvd-vma-listene)'))
    silent = []
    for _ in range(400):
        try:
            silent.append(box.dial(timeout=0.2))
            silent[-1].setblocking(False)
            silent[-1].send(b'POST /vma/1/ping HTTP/1.1\r\nA: ' + b'x' * 4000)
        except (OSError, socket.timeout):
            pass
    after = int(box.sh('ps -o rss= -p $(pgrep -x qvd-vma-listene)'))
    for one in silent:
        one.close()
    assert after - before < 20000

    def answers():
        try:
            return box.call('ping', timeout=5)[0] == 200
        except OSError:
            return False
    wait_until(answers, 20, 'an answer after the flood')


# -- the display of the client -----------------------------------------------------------------------

@pytest.fixture
def manage():
    """Puts a window manager on a screen."""
    running = []

    def start(screen):
        running.append(subprocess.Popen([sys.executable, os.path.join(
            os.path.dirname(painter.__file__), 'tinywm.py'), screen.display], stdout=subprocess.PIPE))
        assert running[-1].stdout.readline() == b'manages\n'
        return screen
    yield start
    for one in running:
        one.kill()
        one.wait()


def size_inside(box, login):
    script = ('from Xlib import display; g = display.Display().screen().root.get_geometry(); '
              'print(g.width, g.height)')
    return tuple(int(n) for n in box.as_user(login, 'python3', '-c', script).stdout.split())


def test_geometry_is_the_clients_and_another_one_at_a_resume_costs_no_window(farm, xservers, manage):
    box = VmBox(farm, 'minimal')
    box.start()
    seed = secrets.token_hex(8)
    try:
        screen = manage(xservers(size='1280x1024x24'))
        box.x_start(qvd_client_geometry='800x600')
        with box.client(screen.display):
            box.wait_state('connected')
            wait_until(lambda: size_inside(box, 'ann') == (800, 600), 10, '800x600')
            # The window manager of the desktop would put it above the picture.
            wait_until(lambda: box.sh('pkill -x xterm && echo gone; true'), 10, 'the terminal')
            painting = paint(box, 'ann', seed)
            see(screen, seed)
        box.wait_state('suspended')
        # Larger, without a window manager, smaller than the desktop was, and back again.
        for size, geometry, managed in (('1600x1200x24', '1400x1000', True),
                                        ('1280x1024x24', '1280x1024', False),
                                        ('640x480x24', '600x400', True),
                                        ('1280x1024x24', '800x600', True)):
            screen = xservers(size=size)
            if managed:
                manage(screen)
            box.x_start(qvd_client_geometry=geometry)
            with box.client(screen.display):
                box.wait_state('connected')
                if '640' not in size:  # there is no room for it
                    see(screen, seed)
                assert painting.poll() is None
            box.wait_state('suspended')
        box.call('x_stop')
        # Where no window manager runs, the whole screen is what fullscreen gives.
        screen = xservers(size='1024x768x24')
        box.x_start(qvd_client_fullscreen='1')
        with box.client(screen.display):
            box.wait_state('connected')
            wait_until(lambda: size_inside(box, 'ann') == (1024, 768), 10, 'the whole screen')
    finally:
        box.close()


# -- what the link costs -----------------------------------------------------------------------------

def test_a_slow_link_costs_fewer_bytes(farm, xservers):
    box = VmBox(farm, 'minimal')
    box.start()
    cost = {}
    try:
        for link in ('modem', 'lan', '56k', '100m'):
            screen, seed = xservers(), 'one'
            box.x_start(qvd_client_link=link)
            with box.client(screen.display):
                box.wait_state('connected')
                wait_until(lambda: box.sh('pgrep -x xterm; true'), 10, 'the terminal')

                def sent():
                    return int(box.sh('cat /sys/class/net/eth0/statistics/tx_bytes'))
                before = sent()
                box.as_user('ann', 'xterm', '-e', 'seq 1 4000')
                paint(box, 'ann', seed)
                # Until the picture is there and nothing more comes.
                seen = [0, 1]

                def quiet():
                    seen.append(sent())
                    return seen[-1] > before and seen[-1] - seen[-2] < 1000
                wait_until(quiet, 20, 'quiet', 1)
                cost[link] = seen[-1] - before
            box.call('x_stop')
    finally:
        box.close()
    print('bytes by link:', cost)
    assert cost['modem'] * 2 < cost['lan'], cost
    assert cost['56k'] * 2 < cost['100m'], cost
