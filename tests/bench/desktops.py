# SPDX-License-Identifier: GPL-3.0-or-later
"""From the client to pixels, against a desktop made by hand on the same image."""

import contextlib
import datetime
import os
import re
import shutil
import statistics
import subprocess
import time

import peers
from farm import XServer, built_image, installed_tree, make_farm, wait_until

HAND = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'handmade.sh')
HAND_MOST = 0.6     # a baseline that is slower proves nothing
USERS = [f'user{n}' for n in range(1, 7)]
# Where the desktop's first window has its title: letters have many colours, nothing else there has.
# The terminal is put at 60,60; its title lies below that or above it, as the window manager likes.
TITLE = (40, 20, 240, 80)
WHOLE = (0, 0, 1024, 768)
PAINTED = 8
SIZE = '1000x700'
IMAGE = 'minimal'
STILL = 1.0         # seconds; a desktop on which nothing changes for so long has come up
LOOK = 0.004        # seconds between two looks at each screen, which cost CPU that the desktops need


class Screen(XServer):
    def __init__(self):
        super().__init__(size='1024x768x24')
        self.connection.sync()
        self.seen = None

    def pixels(self, area):
        from Xlib import X
        return self.connection.screen().root.get_image(*area, X.ZPixmap, 0xffffffff).data

    def painted(self):
        from PIL import Image
        now = self.pixels(TITLE)
        if now == self.seen:
            return False
        self.seen = now
        image = Image.frombytes('RGB', TITLE[2:], now, 'raw', 'BGRX')
        return len(image.getcolors(1 << 16)) > PAINTED


def wait_still(screens):
    """People leave a desktop that is there, not one whose first programs still begin."""
    last, since = None, time.monotonic()
    while time.monotonic() - since < STILL:
        now = [s.pixels(WHOLE) for s in screens]
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.1)


def wait_painted(screens, since):
    """Seconds until all of them show a desktop; returns when nothing moves any more."""
    waiting = list(screens)
    deadline = time.monotonic() + 60
    while waiting:
        waiting = [s for s in waiting if not s.painted()]
        if time.monotonic() > deadline:
            raise peers.BenchError(f'{len(waiting)} of {len(screens)} desktops show nothing')
        if waiting:
            time.sleep(LOOK * len(waiting))
    seconds = time.monotonic() - since
    wait_still(screens)
    return seconds


@contextlib.contextmanager
def screens_of(count):
    screens = [Screen() for _ in range(count)]
    try:
        yield screens
    finally:
        for screen in screens:
            screen.close()


class Hand:
    """Desktops by hand, numbered from 1."""

    def __init__(self, farm):
        self.farm = farm
        self.base = farm.run(['sh', '-c', 'ls -d /var/lib/qvd/storage/basefs/*']).stdout.split()[0]

    def begin(self, action, number, *args):
        return subprocess.Popen(self.farm.command(['sh', HAND, action, str(number), *args]),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def do(self, action, number, *args):
        if self.begin(action, number, *args).wait(60) != 0:
            raise peers.BenchError(f'handmade.sh {action} failed')

    def started(self, screens):
        began = time.monotonic()
        running = [self.begin('start', n, self.base, s.display)
                   for n, s in enumerate(screens, 1)]
        seconds = wait_painted(screens, began)
        for process in running:
            process.wait(30)
        return seconds

    def resumed(self, screen):
        began = time.monotonic()
        process = self.begin('resume', 1, screen.display)
        seconds = wait_painted([screen], began)
        process.wait(30)
        return seconds


class Ours:
    def __init__(self, farm):
        self.farm = farm
        self.clients = contextlib.ExitStack()

    def connected(self, screens):
        began = time.monotonic()
        for login, screen in zip(USERS, screens):
            self.clients.enter_context(self.farm.client(login, screen.display, '--link', 'lan',
                                                        '-x', 'pack=nopack', '-g', SIZE))
        return wait_painted(screens, began)

    def disconnect(self):
        self.clients.close()
        for login in USERS:
            wait_until(lambda name=login: self.farm.vm_row(name)['user_state'] == 'disconnected',
                       30, 'the sessions to end')

    def stop(self):
        """Every VM stopped: the next connection starts it."""
        running = [n for n in USERS if self.farm.vm_row(n)['state'] != 'stopped']
        for name in running:
            self.farm.qa('vm', 'stop', '-f', f'name={name}')
        for name in running:
            self.farm.wait_vm(name, 'stopped')

    def wait_suspended(self, login):
        vm_id = self.farm.vm_row(login)['id']
        path = '/var/log/qvd/qvd-nxagent.log'

        def suspended():
            text = self.farm.in_vm(vm_id, ['cat', path], check=False).stdout
            ends = re.findall(r'Session: Session (suspended|started|resumed) at', text)
            return bool(ends) and ends[-1] == 'suspended'
        wait_until(suspended, 30, 'the session to be suspended', interval=0.1)


def one_start(ours, hand):
    with screens_of(1) as screens:
        by_hand = hand.started(screens)
    hand.do('suspend', 1)
    with screens_of(1) as screens:
        hand_resumed = hand.resumed(screens[0])
    hand.do('stop', 1)
    with screens_of(1) as screens:
        through = ours.connected(screens)
        ours.disconnect()
    ours.wait_suspended(USERS[0])
    with screens_of(1) as screens:
        resumed = ours.connected(screens)
        ours.disconnect()
    ours.stop()
    return by_hand, through, hand_resumed, resumed


def six_starts(ours, hand):
    with screens_of(len(USERS)) as screens:
        by_hand = hand.started(screens)
    for number in range(1, len(USERS) + 1):
        hand.do('stop', number)
    with screens_of(len(USERS)) as screens:
        through = ours.connected(screens)
        ours.disconnect()
    ours.stop()
    return by_hand, through


def seconds_of(stamp):
    return datetime.datetime.strptime(stamp, '%Y-%m-%dT%H:%M:%S.%f%z').timestamp()


def logged(farm):
    """From the broker's log: [(session, step, seconds since 1970)], first row of each."""
    with open(farm.path('log/l7r.log'), encoding='utf-8', errors='replace') as f:
        text = f.read()
    found = {}
    for stamp, session, step in re.findall(
            r'^(\S+) qvd-l7r-broker\S* debug: \[s:(\d+) [^\]]*\] row (\w+) \| done ', text, re.M):
        found.setdefault((int(session), step), seconds_of(stamp))
    return text, found


def between(farm):
    """What lies between the parts, in ms: [order to hypervisor], [listening to 101], and
    [connection to 101] of sessions that found a suspended desktop."""
    text, rows = logged(farm)
    with open(farm.path('run/starts'), encoding='ascii') as f:
        starts = [float(line) for line in f]
    ordered = [seconds_of(s) for s in re.findall(
        r'^(\S+) qvd-l7r-broker\S* info: .* VM start ordered$', text, re.M)]
    to_start = []
    for when in ordered:
        after = [s for s in starts if s >= when - 0.001]
        if after:
            to_start.append(max(0, (after[0] - when) * 1000))
            starts.remove(after[0])
    to_101 = [(when - rows[session, 'prepare']) * 1000 for (session, step), when in rows.items()
              if step == 'switch' and (session, 'prepare') in rows]
    resumed = []
    for session, ms in re.findall(r'\[s:(\d+) [^\]]*\] connected after (\d+) ms', text):
        end = re.search(rf'\[s:{session} [^\]]*\] session ended: .*? tls (\d+), auth (\d+|-), '
                        r'claim (\d+|-), start (\d+|-),', text)
        if end and end.group(4) == '-':
            # The list before it on this connection has asked for the password; it counts here.
            resumed.append(int(ms) + int(end.group(1)) + password_ms(text, int(session)))
    return to_start, to_101, resumed


def password_ms(text, session):
    """How long the login took that came before the session on its connection."""
    at = text.index(f'[s:{session} ')
    asked = re.findall(r'^(\S+) \S+ debug: \[s:0 u:0 vm:0\] row new \| done \| auth', text[:at],
                       re.M)
    good = re.findall(r'^(\S+) \S+ debug: \[s:0 u:\d+ vm:0\] row auth \| done ', text[:at], re.M)
    return (seconds_of(good[-1]) - seconds_of(asked[-1])) * 1000 if asked and good else 0


def tell(results, ones, sixes, parts):
    def show(v):
        return f'{v:.2f} s'
    by_hand = [r[0] for r in ones]
    if statistics.median(by_hand) > HAND_MOST:
        results.void.append(f'the start by hand took {statistics.median(by_hand):.2f} s, more than '
                            f'{HAND_MOST} s: the machine was busy or slow')
    part = 'From the client to pixels'
    results.ratio(part, 'VM stopped, to the first pixels', [r[1] for r in ones], by_hand, most=1.3,
                  show=show, peer='by hand')
    results.ratio(part, 'six at once, all painted', [r[1] for r in sixes], [r[0] for r in sixes],
                  most=1.3, show=show, peer='by hand')
    ours, hand = (statistics.median(r[i] for r in ones) for i in (3, 2))
    results.add(part, 'reconnect to a suspended session', f'{ours * 1000:.0f} ms',
                f'by hand {hand * 1000:.0f} ms', f'{(ours - hand) * 1000:+.0f} ms',
                'at most 50 ms more', ours - hand <= 0.05)
    to_start, to_101, resumed = parts
    part = 'Between the parts (medians)'
    for what, values, most in (
            ('TCP accepted to 101, VM running, session suspended', resumed, 40),
            ("start order committed to the hypervisor's start", to_start, 20),
            ("VMA's \"listening\" to the user's 101", to_101, 20)):
        value = statistics.median(values)
        results.add(part, what, f'{value:.1f} ms ({len(values)} of them)', '', '',
                    f'under {most} ms', value < most)


def prepare():
    """Before there is a network of our own: the making of an image may need the machine's."""
    built_image(IMAGE, installed_tree())


def run(results, short):
    # The rows of the tables are in the log at this level; they are what the times are read from.
    farm = make_farm({'services': False,
                      'settings': {'command.lxc-start': '/etc/qvd/lxc-start',
                                   'log.level': 'DEBUG'}})
    try:
        put_stamp(farm)
        farm.start()
        farm.add_objects(IMAGE, USERS)
        ours = Ours(farm)
        with screens_of(1) as screens:      # unpacks the image
            ours.connected(screens)
            ours.disconnect()
        ours.stop()
        hand = Hand(farm)
        ones = [one_start(ours, hand) for _ in range(results.runs)]
        parts = between(farm)
        sixes = [six_starts(ours, hand) for _ in range(2 if short else results.runs)]
        tell(results, ones, sixes, parts)
    except BaseException:
        print(farm.logs())
        raise
    finally:
        farm.destroy()


def put_stamp(farm):
    """The first moment of the hypervisor's process is written down by a program before it."""
    shutil.copy(os.path.join(os.path.dirname(os.environ['QVD_BENCH_LOAD']), 'bench-stamp'),
                farm.path('etc/lxc-start'))
