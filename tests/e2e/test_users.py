# SPDX-License-Identifier: GPL-3.0-or-later
"""Users at work on real desktops: typing, clipboard, sizes, slow lines, cut lines, takeovers."""

import contextlib
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


# -- the keyboard ----------------------------------------------------------------------------------

def tap(screen, *codes):
    """Key codes one after the other; a tuple is held together."""
    from Xlib import X  # pylint: disable=import-outside-toplevel
    from Xlib.ext import xtest  # pylint: disable=import-outside-toplevel
    for code in codes:
        held = code if isinstance(code, tuple) else (code,)
        for key in held:
            xtest.fake_input(screen.connection, X.KeyPress, key)
        for key in reversed(held):
            xtest.fake_input(screen.connection, X.KeyRelease, key)
        screen.connection.sync()


ENTER, SHIFT = 36, 50
# Codes of pc105: Q W E R T Y are 24 to 29, A 38, the two keys right of L 47 and 48.
KEYBOARDS = [
    ('us', [24, 25, (SHIFT, 26)], 'qwE'),
    ('ru', [24, 25, 26, 27, 28, 29, (SHIFT, 38)], 'йцукенФ'),
    # Dead keys: the acute of es and the tonos of gr, then the letter.
    ('es', [47, 48, 26, (SHIFT, 47)], 'ñéÑ'),
    ('gr', [38, 47, 38, 26], 'αάε'),
]


@pytest.mark.parametrize('layout,keys,text', KEYBOARDS)
def test_what_is_typed_arrives(farm, xservers, layout, keys, text):
    screen = xservers()
    subprocess.run(['setxkbmap', '-display', screen.display, '-model', 'pc105', '-layout', layout],
                   check=True)
    with farm.client('bob', screen.display, *LOSSLESS, '-g', '1024x768'):
        wait_desktop(screen)
        put_tools(farm, 'bob')
        in_session(farm, 'bob', 'sh', '-c', 'rm -f ~/typed')
        begin(farm, 'bob', 'xterm -title typewriter -geometry 60x10+150+200 -e sh -c "cat >~/typed"')
        wait_until(lambda: in_session(farm, 'bob', 'test', '-e', '/home/bob/typed', check=False)
                   .returncode == 0, 20, 'the window to type in')
        wait_until(lambda: typewriter_has_the_keys(farm, screen), 20, 'the keys to be its')
        tap(screen, *keys, ENTER)
        typed = wait_until(lambda: in_session(farm, 'bob', 'cat', '/home/bob/typed').stdout, 15,
                           'what was typed', interval=0.1)
        shot(screen, f'typed-{layout}')
        end(farm, 'bob', 'typewriter')
        assert typed == text + '\n'
    wait_disconnected(farm, 'bob')


def typewriter_has_the_keys(farm, screen):
    place = hand(farm, 'bob', 'where', 'typewriter').split()
    if not place:
        return False
    click(screen, int(place[0]), int(place[1]))
    return hand(farm, 'bob', 'focus') == 'typewriter\n'


def click(screen, x, y):
    from Xlib import X  # pylint: disable=import-outside-toplevel
    from Xlib.ext import xtest  # pylint: disable=import-outside-toplevel
    screen.move_pointer(x, y)
    xtest.fake_input(screen.connection, X.ButtonPress, 1)
    xtest.fake_input(screen.connection, X.ButtonRelease, 1)
    screen.connection.sync()


# -- the clipboard ---------------------------------------------------------------------------------

def test_copy_and_paste_both_ways(farm, xserver):
    with farm.client('bob', xserver.display, '-g', '1024x768'):
        wait_desktop(xserver)
        put_tools(farm, 'bob')
        for selection, tool in (('CLIPBOARD', ['xclip', '-selection', 'clipboard']),
                                ('PRIMARY', ['xsel', '--primary'])):
            env = {**os.environ, 'DISPLAY': xserver.display}
            # From the desktop to the person's display.
            word = f'from the desktop, ñ λ {secrets.token_hex(4)}'
            begin(farm, 'bob', f'python3 deskhand.py own {selection} "{word}"')
            wait_until(lambda s=selection, w=word: hand(farm, 'bob', 'read', s) == w, 10,
                       'the owner in the desktop')
            wait_until(lambda t=tool, w=word, e=env: subprocess.run(
                [*t, '-o'], env=e, stdout=subprocess.PIPE, check=False, timeout=10)
                .stdout.decode() == w, 15, 'the text outside')
            # And back.
            back = f'from outside, ñ λ {secrets.token_hex(4)}'
            subprocess.run([*tool, '-i'], env=env, input=back.encode(), check=True, timeout=10,
                           stdout=subprocess.DEVNULL)
            wait_until(lambda s=selection, b=back: hand(farm, 'bob', 'read', s) == b, 15,
                       'the text in the desktop')
            end(farm, 'bob', 'deskhand.py own')
    wait_disconnected(farm, 'bob')


# -- sizes -----------------------------------------------------------------------------------------

def the_window(screen):
    """The desktop's top-level window on the person's display."""
    from Xlib import X  # pylint: disable=import-outside-toplevel
    found = [w for w in screen.connection.screen().root.query_tree().children
             if w.get_attributes().map_state == X.IsViewable and w.get_geometry().width > 300]
    return found[0] if len(found) == 1 else None


def size_of(window):
    geometry = window.get_geometry()
    return geometry.width, geometry.height


def test_the_desktop_follows_its_window(farm, xserver):
    with farm.client('bob', xserver.display, *LOSSLESS, '-g', '800x600'):
        wait_desktop(xserver)
        put_tools(farm, 'bob')
        window = wait_until(lambda: the_window(xserver), 10, 'the window')
        subprocess.run(['xdotool', 'windowsize', str(window.id), '1000', '700'], check=True,
                       env={**os.environ, 'DISPLAY': xserver.display})
        wait_until(lambda: hand(farm, 'bob', 'screen').startswith('1000x700x'), 20,
                   'the desktop in its new size', interval=0.2)
        assert size_of(window) == (1000, 700)
        seed = secrets.token_hex(8)
        begin(farm, 'bob', f'python3 painter.py {seed}')
        wait_picture(xserver, seed)
        shot(xserver, 'resized')
        end(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')


@contextlib.contextmanager
def window_manager(screen):
    """Full screen is a thing between nxagent and the person's window manager."""
    process = subprocess.Popen(['openbox'], env={**os.environ, 'DISPLAY': screen.display},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atom = screen.connection.intern_atom('_NET_SUPPORTING_WM_CHECK')
    root = screen.connection.screen().root
    wait_until(lambda: root.get_full_property(atom, 0), 10, 'the window manager')
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_full_screen_and_then_another_display(farm, xservers):
    """From a window over the whole screen, and then everything is there in another size."""
    large, small = xservers(size='1280x1024x24'), xservers(size='1024x768x24')
    seed = secrets.token_hex(8)
    with window_manager(small), farm.client('bob', small.display, *LOSSLESS, '-g', '800x600'):
        wait_desktop(small)
    wait_disconnected(farm, 'bob')
    with window_manager(large), farm.client('bob', large.display, *LOSSLESS, '-f'):
        wait_desktop(large)
        put_tools(farm, 'bob')
        window = wait_until(lambda: the_window(large), 10, 'the window')
        wait_until(lambda: size_of(window) == (1280, 1024), 20, 'the window over the whole screen')
        wait_until(lambda: hand(farm, 'bob', 'screen').startswith('1280x1024x'), 20,
                   'the desktop over the whole screen')
        begin(farm, 'bob', f'python3 painter.py {seed}')
        wait_picture(large, seed)
        pid = session_pid(farm, 'bob', 'painter.py')
        shot(large, 'fullscreen')
    wait_disconnected(farm, 'bob')
    with window_manager(small), farm.client('bob', small.display, *LOSSLESS, '-f'):
        wait_until(lambda: hand(farm, 'bob', 'screen').startswith('1024x768x'), 20,
                   'the desktop in the size of the smaller display', interval=0.2)
        # The desktop's window manager has arranged its windows anew, its own above the picture.
        hand(farm, 'bob', 'raise', 'painter')
        wait_picture(small, seed)
        assert session_pid(farm, 'bob', 'painter.py') == pid
        shot(small, 'smaller')
        end(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')


def test_a_desktop_comes_back_in_the_size_that_is_asked_for(farm, xserver):
    seed = secrets.token_hex(8)
    with window_manager(xserver), farm.client('bob', xserver.display, *LOSSLESS, '-g', '800x600'):
        wait_desktop(xserver)
        put_tools(farm, 'bob')
        begin(farm, 'bob', f'python3 painter.py {seed}')
        wait_picture(xserver, seed)
        pid = session_pid(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')
    for size in ('1000x700', '900x640'):
        with window_manager(xserver), farm.client('bob', xserver.display, *LOSSLESS, '-g', size):
            wait_until(lambda s=size: hand(farm, 'bob', 'screen').startswith(f'{s}x'), 20,
                       f'the desktop in {size}', interval=0.2)
            hand(farm, 'bob', 'raise', 'painter')
            wait_picture(xserver, seed)
            assert session_pid(farm, 'bob', 'painter.py') == pid
            shot(xserver, f'back-{size}')
        wait_disconnected(farm, 'bob')
    # Nothing asked for: as it was.
    with window_manager(xserver), farm.client('bob', xserver.display, *LOSSLESS):
        wait_picture(xserver, seed)
        assert hand(farm, 'bob', 'screen').startswith('900x640x')
        end(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')


def test_another_colour_depth_is_told(farm, xservers):
    """nxagent cannot show it there: the person reads so, and finds his windows where he left them."""
    deep, poor = xservers(), xservers(size='1280x1024x16')
    seed = secrets.token_hex(8)
    with farm.client('bob', deep.display, *LOSSLESS, '-g', '1024x768'):
        wait_desktop(deep)
        put_tools(farm, 'bob')
        begin(farm, 'bob', f'python3 painter.py {seed}')
        wait_picture(deep, seed)
        pid = session_pid(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')
    with farm.client('bob', poor.display) as client:
        assert client.wait(20) == 7
        assert log_of(client).splitlines()[-1] == (
            'qvdclient: refused: The desktop refused the session: it was begun on a display of '
            'colour depth 24 and cannot be shown on one of 16; its windows are kept: connect from '
            'a display like the first, or restart the virtual machine (403)')
    with farm.client('bob', deep.display, *LOSSLESS, '-g', '1024x768'):
        wait_picture(deep, seed)
        assert session_pid(farm, 'bob', 'painter.py') == pid
        end(farm, 'bob', 'painter.py')
    wait_disconnected(farm, 'bob')


# -- drawing and slow lines ------------------------------------------------------------------------

def test_a_cut_in_the_midst_of_drawing(farm, xserver):
    seed = secrets.token_hex(8)
    in_session(farm, 'bob', 'rm', '-f', '/home/bob/enough')
    with farm.client('bob', xserver.display, *LOSSLESS, '-g', '1024x768'):
        wait_desktop(xserver)
        put_tools(farm, 'bob')
        begin(farm, 'bob', f'python3 deskhand.py draw {seed}')
        wait_until(lambda: len(xserver.image().getcolors(1 << 24) or []) > 10000, 20, 'drawing')
    wait_disconnected(farm, 'bob')  # the client was ended while pictures were under way
    pid = session_pid(farm, 'bob', 'deskhand.py draw')
    assert pid
    with farm.client('bob', xserver.display, *LOSSLESS, '-g', '1024x768'):
        wait_until(lambda: len(xserver.image().getcolors(1 << 24) or []) > 10000, 20, 'drawing')
        kill_workers(farm)  # and once more, without a good-bye
        in_session(farm, 'bob', 'touch', '/home/bob/enough')
        wait_picture(xserver, seed, timeout=40)
        assert session_pid(farm, 'bob', 'deskhand.py draw') == pid
        end(farm, 'bob', 'deskhand.py')
    wait_disconnected(farm, 'bob')


def test_a_slow_link_is_usable_and_costs_less(farm, xservers):
    """The same desktop with `modem` takes fewer bytes than with `lan`, and keys still arrive."""
    taken = {}
    for link in ('lan', 'modem'):
        screen = xservers()
        with farm.client('bob', screen.display, '--link', link, '-g', '800x600'):
            wait_desktop(screen, timeout=60)
            put_tools(farm, 'bob')
            begin(farm, 'bob', 'python3 painter.py slow')
            wait_until(lambda s=screen: len(s.image().getcolors(1 << 24) or []) > 2000, 40,
                       'the picture', interval=0.2)
            end(farm, 'bob', 'painter.py')
            in_session(farm, 'bob', 'rm', '-f', '/home/bob/slow')
            type_in_terminal(screen, 'touch slow\n')
            wait_until(lambda: in_session(farm, 'bob', 'test', '-e', '/home/bob/slow', check=False)
                       .returncode == 0, 30, 'the typed command')
            shot(screen, f'link-{link}')
        wait_disconnected(farm, 'bob')
        taken[link] = int(farm.psql('SELECT bytes_out FROM sessions WHERE ended IS NOT NULL '
                                    'ORDER BY id DESC LIMIT 1')[0][0])
    assert taken['modem'] < taken['lan'] / 2, taken
