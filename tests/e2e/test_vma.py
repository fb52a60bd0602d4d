# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent and nxagent in a real container, without hkd and L7R: under sysvinit, where the agent is
a plain child of the first process, and under systemd."""

import json
import os
import secrets
import socket
import sys
import time

import pytest

from farm import sanitized, wait_until
from vmbox import VmBox, find_picture, request_auth, wait_exit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import painter  # noqa: E402  pylint: disable=wrong-import-position

FARM = {'services': False}
INITS = ['minimal', 'minimal-systemd']


@pytest.fixture(scope='module', params=INITS)
def shared(request, farm):
    """One running VM of each image, for tests that leave it usable."""
    made = VmBox(farm, request.param)
    failed_before = request.session.testsfailed
    made.start()
    yield made
    if request.session.testsfailed > failed_before:
        print(made.logs())
    made.close()


@pytest.fixture
def box(shared):
    """The shared VM with no desktop running."""
    shared.call('x_stop')
    assert shared.state() == 'stopped'
    return shared


@pytest.fixture
def own_box(request, farm):
    """Makes VMs of a test's own."""
    made = []

    def make(image='minimal', **kwargs):
        made.append(VmBox(farm, image, **kwargs))
        return made[-1]
    failed_before = request.session.testsfailed
    yield make
    for one in made:
        if request.session.testsfailed > failed_before:
            print(one.logs())
        one.close()


def paint(box, login, seed):
    with open(painter.__file__, encoding='utf-8') as f:
        box.as_user(login, 'sh', '-c', 'cat >~/painter.py', input=f.read())
    return box.spawn_as(login, 'python3', f'/home/{login}/painter.py', seed)


def see(screen, seed, timeout=20):
    rows = painter.rows(seed, 256, 256)
    wait_until(lambda: find_picture(screen, rows), timeout, 'the picture, bit by bit', 0.1)


# -- the desktop's life ------------------------------------------------------------------------------

def test_pixels_suspend_and_resume_with_every_window(box, xservers):
    seed = secrets.token_hex(8)
    first, second = xservers(), xservers()
    box.x_start()
    with box.client(first.display):
        box.wait_state('connected')
        painting = paint(box, 'ann', seed)
        see(first, seed)
    box.wait_state('suspended')
    assert painting.poll() is None
    box.x_start()
    with box.client(second.display):
        box.wait_state('connected')
        see(second, seed)
        assert painting.poll() is None
    box.wait_state('suspended')


def test_a_display_that_nxagent_cannot_take_costs_no_window(own_box, xservers):
    box = own_box(conf={'vma.timeout.listening': '1500ms'})
    box.start()
    seed, good, other = secrets.token_hex(8), xservers(), xservers(size='1024x768x16')
    box.x_start()
    with box.client(good.display):
        box.wait_state('connected')
        paint(box, 'ann', seed)
        see(good, seed)
    box.wait_state('suspended')
    box.x_start()
    with box.client(other.display):
        box.wait_state('suspended', 10)
    box.x_start()
    with box.client(good.display):
        box.wait_state('connected')
        see(good, seed)


def test_takeover_of_a_connected_desktop(box, xservers):
    seed = secrets.token_hex(8)
    first, second = xservers(), xservers()
    box.x_start()
    with box.client(first.display) as former:
        box.wait_state('connected')
        painting = paint(box, 'ann', seed)
        see(first, seed)
        box.x_start()
        wait_exit(former)
        with box.client(second.display):
            box.wait_state('connected')
            see(second, seed)
    assert painting.poll() is None


@pytest.mark.parametrize('pause', [0, 0.05, 0.15, 0.3, 0.5])
def test_takeover_while_the_former_stream_breaks(box, xservers, pause):
    screen = xservers()
    box.x_start()
    with box.client(screen.display) as former:
        box.wait_state('connected')
        former.kill()
        former.wait()
        time.sleep(pause)
        box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')


def test_ten_takeovers_in_a_row(box, xservers):
    screen = xservers()
    box.x_start()
    for _ in range(10):
        with box.client(screen.display):
            box.wait_state('connected')
            box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')


def test_takeovers_of_a_desktop_in_which_nothing_moves(own_box, xservers):
    """nxagent sees a HUP only when an X client or a signal wakes it: nothing here does, and a resume
    must not wait for the clock of a panel."""
    box, screen = own_box(conf={'command.x-session': '/bin/sleep',
                                'command.x-session.args.extra': 'infinity'}), xservers()
    box.start()
    box.x_start()
    for _ in range(8):
        with box.client(screen.display):
            box.wait_state('connected')
            began = time.monotonic()
            box.x_start()
            assert time.monotonic() - began < 5
    with box.client(screen.display):
        box.wait_state('connected')


def test_a_dial_given_up_harms_neither_a_fresh_nor_a_resumed_desktop(box, xservers):
    seed, screen = secrets.token_hex(8), xservers()
    box.x_start()
    box.dial(4100).close()
    box.call('x_reset', serial=box.serial)
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')
        paint(box, 'ann', seed)
        see(screen, seed)
    box.wait_state('suspended')
    box.x_start()
    box.dial(4100).close()
    box.call('x_reset', serial=box.serial)
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')
        see(screen, seed)


def test_orders_suspend_and_stop(box, xservers):
    assert box.call('x_suspend') == (200, {'state': 'stopped'})
    box.x_start()
    with box.client(xservers().display) as client:
        box.wait_state('connected')
        assert box.call('x_suspend') == (200, {'state': 'suspended'})
        wait_exit(client)
    assert box.call('x_suspend') == (200, {'state': 'suspended'})
    assert box.call('x_stop') == (200, {'state': 'stopped'})
    assert box.sh('pgrep nxagent; true') == ''
    wait_until(lambda: box.sh('pgrep -u ann; true') == '', 5, 'the end of the session')


def test_logging_out_ends_the_desktop(box, xservers):
    box.x_start()
    with box.client(xservers().display) as client:
        box.wait_state('connected')
        wait_until(lambda: box.sh('pgrep -u ann jwm; true'), 10, 'the window manager')
        box.sh('pkill -u ann jwm')
        box.wait_state('stopped')
        wait_exit(client)
    box.x_start()


def test_a_crash_of_nxagent_and_its_stale_locks(box, xservers):
    screen = xservers()
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')
        box.sh('pkill -KILL nxagent')
        box.wait_state('stopped')
    box.sh('echo "         1" >/tmp/.X100-lock; chmod 444 /tmp/.X100-lock; '
           'rm -f /tmp/.X11-unix/X100; mkdir -p /tmp/.X11-unix; touch /tmp/.X11-unix/X100')
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')


def test_nobody_comes_to_a_fresh_desktop(own_box):
    box = own_box(conf={'vma.timeout.listening': '500ms'})
    box.start()
    box.x_start()
    box.wait_state('stopped', 5)
    box.x_start()


def test_nobody_comes_to_a_resumed_desktop(own_box, xservers):
    box = own_box(conf={'vma.timeout.listening': '1500ms'})
    box.start()
    seed, screen = secrets.token_hex(8), xservers()
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')
        paint(box, 'ann', seed)
        see(screen, seed)
    box.wait_state('suspended')
    box.x_start()
    box.wait_state('suspended', 5)
    box.x_start()
    with box.client(screen.display):
        box.wait_state('connected')
        see(screen, seed)


def test_nxagent_that_cannot_start_is_told(own_box):
    box = own_box(conf={'command.nxagent': '/bin/false'})
    box.start()
    status, body = box.call('x_start', {'qvd.vm.user.name': 'ann'})
    assert status == 503 and 'nxagent ended before it listened (exit 1)' in body['error']
    assert box.state() == 'stopped'


def test_nxagent_that_hangs_is_ended(own_box):
    box = own_box(conf={'command.nxagent': '/usr/local/bin/hang', 'vma.timeout.initiating': '300ms',
                        'vma.timeout.stopping': '300ms'})
    box.write('/usr/local/bin/hang', '#!/bin/sh\ntrap "" TERM HUP\nwhile :; do sleep 1; done\n', 0o755)
    box.start()
    status, body = box.call('x_start', {'qvd.vm.user.name': 'ann'})
    assert status == 503 and 'too long in state starting' in body['error']
    box.wait_state('stopped', 5)


# -- the agent's own processes -----------------------------------------------------------------------

def status_of(box, pid):
    text = box.sh(f'cat /proc/{pid}/status; readlink /proc/{pid}/root')
    found = dict(line.split(':\t', 1) for line in text.splitlines() if ':\t' in line)
    found['root'] = text.splitlines()[-1]
    return found


def test_each_process_has_no_more_rights_than_it_needs(box, xservers):
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')
        monitor, listener = box.sh('pgrep -x qvd-vma; pgrep -x qvd-vma-listene').split()
        listening = status_of(box, listener)
        assert listening['Uid'].split()[0] == box.sh('id -u qvd-vma')
        assert listening['Groups'].strip() == ''
        assert (listening['CapEff'], listening['CapBnd']) == ('0' * 16, '0' * 16)
        assert (listening['NoNewPrivs'], listening['Seccomp']) == ('1', '2')
        # The sanitizers' build keeps its root (base/sandbox.c).
        assert listening['root'] == ('/' if sanitized(box.farm.tree) else '/run/qvd/empty')
        assert status_of(box, monitor)['Uid'].split()[0] == '0'
        for name in ('nxagent', 'jwm'):
            wait_until(lambda n=name: box.sh(f'pgrep -x {n}; true'), 10, name)
            of = status_of(box, box.sh(f'pgrep -x {name} | head -1'))
            assert of['Uid'].split() == [box.sh('id -u ann')] * 4
            assert of['CapEff'] == '0' * 16


def test_the_listener_is_replaced_and_the_desktop_stays(box, xservers):
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')
        box.sh('pkill -KILL -x qvd-vma-listene')
        wait_until(lambda: box.sh('pgrep -x qvd-vma-listene; true'), 5, 'a new listener')
        box.wait_state('connected')


def test_usr1_and_hup_do_not_end_the_monitor(box):
    old = box.sh('pgrep -x qvd-vma')
    box.sh(f'kill -USR1 {old}; kill -HUP {old}')
    assert box.call('ping')[0] == 200
    assert box.sh('pgrep -x qvd-vma') == old


@pytest.mark.parametrize('image', INITS)
def test_poweroff_ends_the_container(own_box, image):
    box = own_box(image)
    box.start()
    box.x_start()
    assert box.call('poweroff')[0] == 200
    wait_exit(box.process, 20)
    assert box.process.returncode == 0


# -- who may order what ------------------------------------------------------------------------------

def test_wrong_macs_and_malformed_requests(box):
    good = request_auth(box.secret, 'ping', 0, 'a' * 32, b'{}')
    assert box.call('ping', secret=bytes(32))[0] == 401
    assert box.call('x_state', auth=good)[0] == 401  # another function
    assert box.call('ping', body=b'{ }', auth=good)[0] == 401
    assert box.call('ping', auth='v2 0 x y')[0] == 400
    assert box.call('dance')[0] == 404
    assert box.call('ping', serial=7)[0] == 400
    assert box.call('x_stop', serial=0)[0] == 400
    assert box.call('x_start', body=b'[]')[0] == 400
    assert box.call('x_start', {'a b': 'x'})[0] == 400
    assert box.call('ping', {'k%d' % i: 'x' for i in range(300)})[0] == 400
    assert box.state() == 'stopped'


def test_serials(box):
    box.next_serial()
    last = box.next_serial()
    assert box.call('x_stop', serial=last)[0] == 200
    for function in ('x_start', 'x_stop', 'x_suspend', 'x_reset', 'poweroff', 'expire'):
        assert box.call(function, serial=last - 1)[0] == 409, function
    assert box.call('x_stop', serial=last) == (200, {'state': 'stopped'})
    assert box.state() == 'stopped'


def test_the_same_x_start_twice_is_one(box, xservers):
    serial = box.next_serial()
    names = {'qvd.vm.user.name': 'ann'}
    both = [box.begin('x_start', names, serial), box.begin('x_start', names, serial)]
    for one in both:
        assert box.finish(one) == (200, {'state': 'listening'})
    with box.client(xservers().display):
        box.wait_state('connected')
        # A replay later on changes nothing.
        assert box.call('x_start', names, serial)[0] == 200
        assert box.state() == 'connected'


def test_a_later_order_overtakes_an_earlier_one(own_box):
    box = own_box(conf={'vma.on_action.pre-connect': '/usr/local/bin/slow'})
    box.write('/usr/local/bin/slow', '#!/bin/sh\nsleep 1\n', 0o755)
    box.start()
    start = box.begin('x_start', {'qvd.vm.user.name': 'ann'}, box.next_serial())
    wait_until(lambda: box.state() == 'provisioning', 5, 'provisioning')
    assert box.call('x_stop') == (200, {'state': 'stopped'})
    status, body = box.finish(start)
    assert status == 409 and 'overtaken' in body['error']


def test_hostile_bytes_do_no_harm(box):
    noise = [os.urandom(n) for n in (1, 100, 4096, 70000)]
    head = b'POST /vma/1/ping HTTP/1.1\r\n'
    noise += [b'\r\n' * 9000, b'GET / HTTP/1.1\r\n\r\n', head + b'Content-Length: 99999999\r\n\r\n',
              head + b'Content-Length: -1\r\n\r\n', head + b'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
              head + b'A: ' + b'x' * 20000, head + b'A : b\r\n\r\n', head + b'Content-Length: 5\r\n'
              b'Content-Length: 6\r\n\r\n', b'POST /vma/1/../../etc HTTP/1.1\r\n\r\n',
              head + b'QVD-Auth: ' + b'0' * 5000 + b'\r\nContent-Length: 0\r\n\r\n',
              b'POST ' + b'/' * 16000 + b' HTTP/1.1\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']
    for data in noise:
        with box.dial() as sock:
            sock.settimeout(15)
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                continue
            assert answer == b'' or answer.split(b' ')[1][:1] in (b'4', b'5'), (data[:60], answer)
    assert box.call('ping')[0] == 200


def test_silent_connections_do_not_shut_others_out(box):
    idle = [box.dial() for _ in range(60)]
    try:
        assert box.call('ping')[0] == 200
    finally:
        for sock in idle:
            sock.close()


# -- accounts and homes ------------------------------------------------------------------------------

def refused(box, text, **names):
    params = {'qvd.vm.user.' + k: v for k, v in names.items()}
    status, body = box.call('x_start', params)
    assert (status, text in body['error']) == (403, True), (status, body)
    assert box.state() == 'stopped'


def test_the_uid_follows_the_home_and_nothing_is_chowned(own_box):
    box = own_box()
    box.start()
    box.sh('mkdir -p /home/ann; echo mine >/home/ann/file; chown -R 4321:4322 /home/ann; '
           'echo not >/home/ann/roots')
    box.x_start('ann')
    assert box.sh('id -u ann; id -g ann').split() == ['4321', '4322']
    assert box.sh('stat -c %u:%g /home/ann/file /home/ann/roots').split() == ['4321:4322', '0:0']
    box.call('x_stop')
    box.x_start('ben')
    assert box.sh('id -u ben; stat -c %u:%U:%a /home/ben').split() == ['1000', '1000:ben:755']
    assert box.sh('ls -A /home/ben; ls -A /etc/skel').split('\n')[0] == '.bash_logout'


def test_a_plugins_uid_and_groups(own_box):
    box = own_box()
    box.start()
    status, _ = box.call('x_start', {'qvd.vm.user.name': 'ann', 'qvd.vm.user.uid': '7000',
                                     'qvd.vm.user.gid': '7001',
                                     'qvd.vm.user.groups': 'qvduser nosuch root audio'})
    assert status == 200
    assert box.sh('id -u ann; id -g ann').split() == ['7000', '7001']
    assert sorted(box.sh('id -Gn ann').split()[1:]) == ['audio', 'qvduser']
    groups = box.sh('grep ^Groups /proc/$(pgrep -o -x nxagent)/status').split()[1:]
    assert groups == sorted([box.sh(f'getent group {g} | cut -d: -f3') for g in
                             ('audio', 'qvduser')], key=int)
    box.call('x_stop')
    refused(box, 'home /home/ann belongs to uid 7000, but user ann has uid 7002', name='ann',
            uid='7002')
    refused(box, 'an account of the system', name='eve', uid='0')
    refused(box, 'an account of the system', name='eve', uid='999')
    refused(box, 'the group of root', name='eve', gid='0')


def test_accounts_of_the_image_are_refused(own_box):
    box = own_box()
    box.start()
    box.sh('useradd -m -u 1500 local')
    refused(box, 'login root is an account of the desktop\'s system (uid 0)', name='root')
    refused(box, 'login daemon is an account of the desktop\'s system (uid 1)', name='daemon')
    refused(box, 'login local is an account of the image', name='local')
    box.sh('mkdir /home/eve')
    refused(box, 'user eve would run as uid 0', name='eve')
    box.sh('ln -s /root /home/mallory')
    refused(box, 'the home is no folder', name='mallory')


def test_an_account_of_the_image_may_be_allowed(own_box):
    box = own_box(conf={'vma.user.existing': 'use'})
    box.start()
    box.sh('useradd -m -u 1500 local')
    box.x_start('local')
    assert box.sh('grep ^Uid /proc/$(pgrep -o -x nxagent)/status').split()[1] == '1500'
    box.call('x_stop')
    refused(box, 'uid 0', name='root')


def test_logins_that_are_no_unix_names(own_box):
    box = own_box()
    box.start()
    for login, name in (('Ann.Smith@corp', 'ann_smith_corp'), ('9lives', '_9lives'),
                        ('../etc', '___etc')):
        status, _ = box.call('x_start', {'qvd.vm.user.name': login})
        assert status == 200
        assert box.sh(f'getent passwd {name} | cut -d: -f6') == f'/home/{name}'
        box.call('x_stop')


def test_a_persistent_overlay_keeps_its_account(own_box):
    box = own_box()
    box.start()
    box.x_start('ann')
    box.sh('echo kept >/home/ann/note')
    uid = box.sh('id -u ann')
    box.stop()
    box.start()
    box.x_start('ann')
    assert box.sh('id -u ann; cat /home/ann/note').split() == [uid, 'kept']


# -- wishes and hooks --------------------------------------------------------------------------------

def test_a_clients_wishes_pass_an_allow_list(box):
    status, _ = box.call('x_start', {
        'qvd.vm.user.name': 'ann', 'qvd.client.keyboard': 'pc105/es', 'qvd.client.link': 'modem',
        'qvd.client.geometry': '800x600', 'qvd.client.os': 'linux;reboot',
        'qvd.client.nxagent.extra_args': 'clipboard=both accept=10.0.0.1 options=/etc/passwd '
                                         'connect=x root=/ limit=5 pack=$(id) listen=1 exec=sh'})
    assert status == 200
    options = box.sh('cat /run/qvd/vma/nxagent.conf')
    assert options == ('nx/nx,tolerancechecks=bypass,keyboard=pc105/es,link=modem,geometry=800x600,'
                       'xinerama=1,clipboard=both,limit=5:100')


def test_no_secret_in_logs_arguments_or_environments(box):
    box.x_start()
    needle = box.secret.hex()
    text = box.sh('for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline; tr "\\0" " " <$p/environ; done '
                  '2>/dev/null; cat /var/log/qvd/* 2>/dev/null; find /run/qvd/vma -type f -exec cat {} +')
    assert needle not in text and json.dumps(needle) not in text
    assert box.sh('stat -c %a:%u /dev/.qvd/secret') == '400:0'
