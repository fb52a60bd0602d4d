# SPDX-License-Identifier: GPL-3.0-or-later
"""Users at work on real desktops: typing, clipboard, sizes, slow lines, cut lines, takeovers."""

import os
import secrets
import subprocess
import sys
import time

import pytest

import painter
from farm import wait_until

sys.path.insert(0, os.path.dirname(__file__))
from test_desktop import (  # noqa: E402  pylint: disable=wrong-import-position
    LOSSLESS, differing_pixels, in_session, session_pid, type_in_terminal, wait_desktop,
    wait_disconnected, wait_picture)

FARM = {'image': 'minimal', 'users': ['alice', 'bob'], 'osf': {'user_storage_size': '100'},
        'settings': {'l7r.takeover.max': '100'}}
LIB = os.path.join(os.path.dirname(__file__), '..', 'lib')
SHOTS = os.environ.get('QVD_TEST_SHOTS')


def shot(screen, name):
    """The screen as a picture for a person, where QVD_TEST_SHOTS wants it."""
    if SHOTS:
        screen.screenshot(os.path.join(SHOTS, name + '.png'))


def put_tools(farm, login):
    for name in ('painter.py', 'deskhand.py'):
        with open(os.path.join(LIB, name), encoding='utf-8') as f:
            in_session(farm, login, 'sh', '-c', f'cat >~/{name}', input=f.read())


def hand(farm, login, *args):
    """deskhand.py in the desktop; what it prints."""
    return in_session(farm, login, 'python3', f'/home/{login}/deskhand.py', *args).stdout


def begin(farm, login, command):
    """A command of the desktop that stays."""
    in_session(farm, login, 'sh', '-c',
               f'cd; setsid sh -c \'exec {command}\' >/dev/null 2>&1 </dev/null &')


def end(farm, login, what):
    in_session(farm, login, 'pkill', '-f', what, check=False)


def log_of(client):
    with open(client.log_path, encoding='utf-8') as f:
        return f.read()


def kill_workers(farm):
    """All of them, as if they had crashed; the moment."""
    pids = farm.run(['pgrep', '-x', 'qvd-l7r-worker'[:15]]).stdout.split()
    assert pids
    farm.run(['kill', '-9', *pids])
    return time.monotonic()


# -- a line that is cut ----------------------------------------------------------------------------

def test_a_killed_worker_costs_two_seconds_and_no_window(farm, xserver):
    seed = secrets.token_hex(8)
    with farm.client('alice', xserver.display, *LOSSLESS, '-g', '1024x768') as client:
        wait_desktop(xserver)
        put_tools(farm, 'alice')
        begin(farm, 'alice', f'python3 painter.py {seed}')
        wait_picture(xserver, seed)
        pid = session_pid(farm, 'alice', 'painter.py')
        for _ in range(2):
            sessions = farm.psql('SELECT max(id) FROM sessions')[0][0]
            at = kill_workers(farm)
            wait_until(lambda s=sessions: int(farm.psql(
                "SELECT coalesce(max(id), 0) FROM sessions WHERE connected IS NOT NULL")[0][0])
                > int(s), 20, 'the next session', interval=0.05)
            took = time.monotonic() - at
            wait_picture(xserver, seed)
            assert session_pid(farm, 'alice', 'painter.py') == pid
            assert took < 2, took
        shot(xserver, 'again')
        assert client.poll() is None
        assert log_of(client).count('connected again') == 2
        # It is no takeover: none is counted.
        assert farm.psql("SELECT takeovers FROM vm_runtimes WHERE vm_id = "
                         f"{farm.vm_row('alice')['id']}") == [['0']]
        end(farm, 'alice', 'painter.py')
    wait_disconnected(farm, 'alice')


def test_a_takeover_is_told_and_nobody_fights(farm, xservers):
    first, second = xservers(), xservers()
    with farm.client('alice', first.display) as old:
        wait_desktop(first)
        with farm.client('alice', second.display) as new:
            assert old.wait(20) == 11
            assert log_of(old).splitlines()[-1].startswith(
                'qvdclient: your session was taken over by another connection')
            wait_desktop(second)
            assert new.poll() is None
            assert 'lost' not in log_of(new)
    wait_disconnected(farm, 'alice')


def test_ends_that_are_wanted_are_told_and_final(farm, xserver):
    with farm.client('alice', xserver.display) as client:
        wait_desktop(xserver)
        farm.qa('vm', 'disconnect', '-f', 'name=alice')
        assert client.wait(20) == 0
        assert log_of(client).splitlines()[-1] == \
            'qvdclient: The session has ended: disconnected by an administrator'
    wait_disconnected(farm, 'alice')
    with farm.client('alice', xserver.display) as client:
        wait_desktop(xserver)
        farm.qa('vm', 'stop', '-f', 'name=alice')
        assert client.wait(30) == 0
        assert 'connecting again' not in log_of(client)
    farm.wait_vm('alice', 'stopped')
