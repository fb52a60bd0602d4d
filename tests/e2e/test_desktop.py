# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job with real parts: PostgreSQL, LXC, nxagent, the client, and an X server that sees."""

import os
import secrets
import sys

from PIL import Image, ImageChops

from farm import wait_until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import painter  # noqa: E402  pylint: disable=wrong-import-position

FARM = {'image': 'minimal', 'users': ['alice', 'bob'], 'osf': {'user_storage_size': '100'}}
SIZE = '1024x768'
LOSSLESS = ('--link', 'local', '-x', 'pack=nopack')


def in_session(farm, login, *argv, **kwargs):
    """Runs argv as the user of the desktop, on its display."""
    return farm.in_vm(farm.vm_row(login)['id'],
                      ['setpriv', f'--reuid={login}', f'--regid={login}', '--init-groups', 'env',
                       f'HOME=/home/{login}', 'DISPLAY=:100', 'LANG=C.UTF-8',
                       'PATH=/usr/bin:/bin', *argv], **kwargs)


def differing_pixels(screen, picture):
    """How many pixels of the picture are not on the screen; all of them if it is not found."""
    want = Image.frombytes('RGB', (256, 256), b''.join(picture), 'raw', 'BGRX')
    shown = screen.image()
    at = shown.tobytes().find(want.tobytes()[:256 * 3])
    if at < 0:
        return 256 * 256
    left, top = at // 3 % shown.width, at // 3 // shown.width
    difference = ImageChops.difference(shown.crop((left, top, left + 256, top + 256)), want)
    return sum(pixel != (0, 0, 0) for pixel in difference.getdata())


def wait_picture(screen, seed, timeout=30):
    picture = painter.rows(seed, 256, 256)
    wait_until(lambda: differing_pixels(screen, picture) == 0, timeout,
               'the picture on the screen, bit by bit', interval=0.2)


def wait_desktop(screen, timeout=40):
    """Until something of the desktop can be seen: its terminal has text on it."""
    wait_until(lambda: len(screen.image().getcolors(1 << 24)) > 8, timeout, 'a painted desktop',
               interval=0.1)


def put_painter(farm, login):
    with open(painter.__file__, encoding='utf-8') as f:
        in_session(farm, login, 'sh', '-c', 'cat >~/painter.py', input=f.read())


def type_in_terminal(screen, text):
    """The terminal of the minimal desktop lies at 60,60; a click gives it the keys."""
    from Xlib import X
    from Xlib.ext import xtest
    screen.move_pointer(200, 250)
    xtest.fake_input(screen.connection, X.ButtonPress, 1)
    xtest.fake_input(screen.connection, X.ButtonRelease, 1)
    screen.connection.sync()
    screen.press(text)


def session_pid(farm, login, name):
    out = in_session(farm, login, 'pgrep', '-u', login, '-f', name, check=False).stdout.split()
    return out[0] if out else ''


def wait_disconnected(farm, login):
    wait_until(lambda: farm.vm_row(login)['user_state'] == 'disconnected', 15,
               f'{login} to be disconnected')


def test_a_desktop_shows_its_pixels_takes_keys_and_outlives_its_client(farm, xservers):
    first, second = xservers(), xservers()
    seed = secrets.token_hex(8)
    with farm.client('alice', first.display, *LOSSLESS, '-g', SIZE) as client:
        wait_desktop(first)
        assert client.poll() is None
        assert farm.vm_row('alice')['state'] == 'running'
        assert farm.vm_row('alice')['user_state'] == 'connected'
        put_painter(farm, 'alice')
        # Typed keys arrive, in the shell of a terminal: it starts the painter.
        type_in_terminal(first, f'python3 painter.py {seed}\n')
        wait_picture(first, seed)
        pid = session_pid(farm, 'alice', 'painter.py')
        assert pid
    wait_disconnected(farm, 'alice')
    assert farm.vm_row('alice')['state'] == 'running'
    assert session_pid(farm, 'alice', 'painter.py') == pid

    # From elsewhere: the same process, with its window.
    with farm.client('alice', second.display, *LOSSLESS, '-g', SIZE):
        wait_picture(second, seed)
        assert session_pid(farm, 'alice', 'painter.py') == pid
        # And the keys go to the same shell, which the painter holds until it is ended.
        in_session(farm, 'alice', 'kill', pid)
        type_in_terminal(second, 'touch typed-again\n')
        wait_until(lambda: in_session(farm, 'alice', 'test', '-e', '/home/alice/typed-again',
                                      check=False).returncode == 0, 15, 'the typed command')
    wait_disconnected(farm, 'alice')


def test_two_users_at_once_see_their_own(farm, xservers):
    screens = {'alice': xservers(), 'bob': xservers()}
    seeds = {login: secrets.token_hex(8) for login in screens}
    with farm.client('alice', screens['alice'].display, *LOSSLESS, '-g', SIZE), \
            farm.client('bob', screens['bob'].display, *LOSSLESS, '-g', SIZE):
        for login, screen in screens.items():
            wait_desktop(screen)
            put_painter(farm, login)
            type_in_terminal(screen, f'python3 painter.py {seeds[login]}\n')
        for login, screen in screens.items():
            wait_picture(screen, seeds[login])
        other = painter.rows(seeds['bob'], 256, 256)
        assert differing_pixels(screens['alice'], other) == 256 * 256
        for login in screens:
            in_session(farm, login, 'pkill', '-f', 'painter.py')
    for login in screens:
        wait_disconnected(farm, login)


def test_a_takeover_moves_the_desktop(farm, xservers):
    first, second = xservers(), xservers()
    with farm.client('bob', first.display, '-g', SIZE) as old:
        wait_desktop(first)
        with farm.client('bob', second.display, '-g', SIZE) as new:
            wait_desktop(second)
            wait_until(lambda: old.poll() is not None, 15, 'the first client to end')
            assert new.poll() is None
            assert farm.vm_row('bob')['user_state'] == 'connected'
    wait_disconnected(farm, 'bob')


def restart_vm(farm, login):
    farm.qa('vm', 'stop', '-f', f'name={login}')
    farm.wait_vm(login, 'stopped')
    farm.qa('vm', 'start', '-f', f'name={login}')
    farm.wait_vm(login, 'running')


def test_the_overlay_forgets_and_the_home_remembers(farm, xserver):
    with farm.client('bob', xserver.display, '-g', SIZE):
        wait_desktop(xserver)
        vm = farm.vm_row('bob')['id']
        farm.in_vm(vm, ['touch', '/etc/marker'])
        in_session(farm, 'bob', 'sh', '-c', 'echo kept >~/marker')
    wait_disconnected(farm, 'bob')
    restart_vm(farm, 'bob')
    assert farm.in_vm(vm, ['test', '-e', '/etc/marker'], check=False).returncode == 1
    assert farm.in_vm(vm, ['cat', '/home/bob/marker']).stdout == 'kept\n'
    # Connecting again finds the owner of the home, not a new account beside it.
    with farm.client('bob', xserver.display, '-g', SIZE):
        wait_desktop(xserver)
        assert in_session(farm, 'bob', 'cat', '/home/bob/marker').stdout == 'kept\n'
        assert in_session(farm, 'bob', 'test', '-w', '/home/bob', check=False).returncode == 0
    wait_disconnected(farm, 'bob')


def test_a_wrong_password_is_one_clear_line(farm, xserver):
    right = farm.users['alice']
    farm.users['alice'] = 'wrong'
    try:
        with farm.client('alice', xserver.display) as client:
            assert client.wait(20) != 0
            with open(client.log_path, encoding='utf-8') as f:
                lines = [line for line in f.read().splitlines() if line.strip()]
            assert len(lines) == 1, lines
            assert 'wrong' not in lines[0].split('password')[-1]
    finally:
        farm.users['alice'] = right


def test_the_desktop_has_no_trace_of_the_password(farm):
    """No secret in logs: what every run of the tests used is searched for everywhere."""
    secrets_used = [*farm.users.values(), farm.admin_password]
    for root, _, names in os.walk(farm.path('log')):
        for name in names:
            with open(os.path.join(root, name), encoding='utf-8', errors='replace') as f:
                text = f.read()
            for secret in secrets_used:
                assert secret not in text, f'{name} has a password'
