# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks and accounts in a real VM: which program runs when, with which names (the manual, chapter "VMA
Hooks"), what its failure does, and what becomes of accounts, groups and homes."""

import re
import socket
import time

import pytest

from farm import wait_until
from vmbox import VmBox, network_of

FARM = {'services': False}
HOOK = '/usr/local/bin/hook'
KEYS = ('vma.on_action.pre-connect', 'vma.on_action.connect', 'vma.on_action.stop',
        'vma.on_action.suspend', 'vma.on_action.poweroff', 'vma.on_action.expire',
        'vma.on_state.connected', 'vma.on_state.suspended', 'vma.on_state.disconnected',
        'vma.on_provisioning.mount_home', 'vma.on_provisioning.after_add_user',
        'vma.on_printing.connected', 'vma.on_printing.stopped')
# Notes its arguments; what /root/fail names fails, what /root/hang names hangs with a child.
SCRIPT = '''#!/bin/sh
echo "$*" >>/root/notes
for what; do :; done
echo "output of $what"
[ "$what" = after_add_user ] && stat -c %U:%a /home/*/.profile >>/root/skel
if grep -qx "$what" /root/hang 2>/dev/null; then sleep 4711 & sleep 4712; fi
if grep -qx "$what" /root/fail 2>/dev/null; then echo "reason of $what" >&2; exit 3; fi
exit 0
'''


@pytest.fixture(scope='module')
def shared(request, farm):
    made = VmBox(farm, conf={**{key: HOOK for key in KEYS}, 'vma.hook.timeout': '1s',
                             'vma.printing.enable': '1'})
    made.write(HOOK, SCRIPT, 0o755)
    failed_before = request.session.testsfailed
    made.start()
    yield made
    if request.session.testsfailed > failed_before:
        print(made.logs())
        print(made.sh('cat /root/notes /var/log/qvd/qvd-hooks.log', check=False))
    made.close()


@pytest.fixture
def box(shared):
    shared.sh('rm -f /root/fail /root/hang')
    shared.call('x_stop')
    wait_until(lambda: shared.state() == 'stopped', 10, 'stopped')
    shared.sh('rm -f /root/notes /root/skel; for u in $(ls /var/lib/qvd/accounts 2>/dev/null); do '
              'userdel -f $u; rm -rf /home/$u /var/lib/qvd/accounts/$u; done; rm -rf /home/*')
    return shared


def notes(box):
    return box.sh('cat /root/notes 2>/dev/null; true').splitlines()


def ends(box):
    """The last pair of each hook that has run."""
    return [' '.join(line.split()[-2:]).replace('qvd.hook.', '') for line in notes(box)]


def pairs(line):
    words = line.split(' ')
    assert len(words) % 2 == 0, line
    return dict(zip(words[::2], words[1::2]))


def wait_hook(box, last):
    wait_until(lambda: last in ends(box), 10, last)


# -- order and names ---------------------------------------------------------------------------------

def test_all_hooks_run_in_their_order_with_the_references_names(box, xservers):
    box.x_start(custom_colour='red', qvd_client_printing_enabled='1')
    assert ends(box) == ['on_action pre_connect', 'on_provisioning mount_home',
                         'on_provisioning after_add_user', 'on_action connect']
    first, mount, added, connect = [pairs(line) for line in notes(box)]
    common = {'qvd.vm.user.name': 'ann', 'qvd.vm.user.groups': 'qvduser',
              'qvd.vm.user.home': '/home/ann', 'custom.colour': 'red', 'qvd.client.link': 'local',
              'qvd.printing.enabled': '1', 'qvd.printing.port': '2100'}
    for one in (first, mount, added, connect):
        assert common.items() <= one.items()
    assert first['qvd.vm.session.state'] == 'stopped'
    assert connect['qvd.vm.session.state'] == 'provisioning'
    for one in (added, connect):
        assert (one['qvd.vm.user.uid'], one['qvd.vm.user.gid'], one['qvd.vm.user.group']) == (
            box.sh('id -u ann'), box.sh('id -g ann'), 'ann')
    # after_add_user finds the home as it will be.
    assert box.sh('cat /root/skel') == 'ann:644'
    with box.client(xservers().display):
        box.wait_state('connected')
        wait_hook(box, 'on_printing connected')
        # Nobody waits for these: they run side by side.
        assert sorted(ends(box)[4:]) == ['on_printing connected', 'on_state connected']
    # The person closes his client: nobody orders anything.
    wait_hook(box, 'on_state suspended')
    assert sorted(ends(box)[6:]) == ['on_action suspend', 'on_state suspended']
    box.x_start()
    assert ends(box)[8:] == ['on_action pre_connect', 'on_action connect']
    assert [pairs(line)['qvd.vm.session.state'] for line in notes(box)[8:]] == ['suspended', 'starting']
    assert box.call('expire', {'qvd.vm.expiration.soft': '2026-01-01T00:00:00Z',
                               'qvd.vm.expiration.hard': '2026-01-02T00:00:00Z'})[0] == 200
    assert notes(box)[-1] == ('vm.expiration.soft 2026-01-01T00:00:00Z vm.expiration.hard '
                              '2026-01-02T00:00:00Z qvd.vm.session.state listening '
                              'qvd.hook.on_action expire')
    assert box.call('x_stop') == (200, {'state': 'stopped'})
    wait_hook(box, 'on_printing stopped')
    assert sorted(ends(box)[-3:]) == ['on_action stop', 'on_printing stopped', 'on_state stopped']
    assert any(line.endswith('qvd.hook.on_action stop') and 'qvd.vm.user' not in line
               for line in notes(box))


def test_what_hooks_print_is_in_their_own_log(box):
    box.x_start()
    log = box.sh('cat /var/log/qvd/qvd-hooks.log')
    assert 'output of pre_connect' in log and 'output of after_add_user' in log
    assert f'vma.on_action.connect: {HOOK}' in log and 'vma.on_action.connect: exit 0 after' in log
    assert box.sh('stat -c %a:%u /var/log/qvd/qvd-hooks.log') == '640:0'
    # No parameter is in it: there are tokens among them.
    assert 'qvd.vm.user.name' not in log


# -- failure and time --------------------------------------------------------------------------------

@pytest.mark.parametrize('what,key', [
    ('pre_connect', 'vma.on_action.pre-connect'), ('connect', 'vma.on_action.connect'),
    ('mount_home', 'vma.on_provisioning.mount_home'),
    ('after_add_user', 'vma.on_provisioning.after_add_user')])
def test_a_hook_that_fails_aborts_and_the_user_is_told_which(box, what, key):
    box.sh(f'echo {what} >/root/fail')
    status, body = box.call('x_start', {'qvd.vm.user.name': 'ann'})
    assert (status, body['error']) == (403, f'hook {key} failed (exit 3)')
    assert box.state() == 'stopped'
    assert f'reason of {what}' in box.sh('cat /var/log/qvd/qvd-hooks.log')
    # Nothing of the account is left, but for a failure after all was made.
    left = box.sh('getent passwd ann; getent group ann; true')
    assert (left != '') == (what == 'connect')
    box.sh('rm /root/fail')
    box.x_start()
    assert box.sh('id -un $(stat -c %u /home/ann)') == 'ann'


def test_a_resume_that_a_hook_refuses_costs_nothing(box, xservers):
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')
    box.wait_state('suspended')
    box.sh('echo connect >/root/fail')
    assert box.call('x_start', {'qvd.vm.user.name': 'ann'})[0] == 403
    assert box.state() == 'suspended'
    box.sh('rm /root/fail')
    # Nor is it given to anybody else.
    status, body = box.call('x_start', {'qvd.vm.user.name': 'ben'})
    assert (status, body['error']) == (403, 'the desktop that runs here belongs to ann, not to ben')
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')


def test_actions_that_hooks_refuse_are_not_done(box, xservers):
    box.x_start()
    with box.client(xservers().display) as client:
        box.wait_state('connected')
        box.sh('printf "suspend\\nstop\\npoweroff\\nexpire\\n" >/root/fail')
        for order, hook in (('x_suspend', 'suspend'), ('x_stop', 'stop'), ('poweroff', 'poweroff'),
                            ('expire', 'expire')):
            status, body = box.call(order)
            assert (status, body['error']) == (503, f'hook vma.on_action.{hook} failed (exit 3)')
        assert box.state() == 'connected' and client.poll() is None


def test_a_hook_that_takes_too_long_is_killed_with_its_children(box):
    box.sh('echo pre_connect >/root/hang')
    begin = time.monotonic()
    status, body = box.call('x_start', {'qvd.vm.user.name': 'ann'})
    assert (status, body['error']) == (403, 'hook vma.on_action.pre-connect took too long and was '
                                            'killed')
    assert 0.9 < time.monotonic() - begin < 10
    wait_until(lambda: box.sh('pgrep -f "[s]leep 471"; true') == '', 5, 'the end of the whole group')


def test_nobody_waits_for_state_hooks(box, xservers):
    box.sh('echo connected >/root/hang')
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')
        wait_hook(box, 'on_state connected')
        assert box.call('x_suspend') == (200, {'state': 'suspended'})
        wait_until(lambda: box.sh('pgrep -f "[s]leep 471"; true') == '', 10, 'the limit')


def test_the_expire_hook_may_ask_the_person_as_long_as_it_likes(box, xservers):
    box.sh('echo expire >/root/hang')
    begin = time.monotonic()
    assert box.call('expire')[0] == 200
    assert 1.5 < time.monotonic() - begin < 10
    box.x_start()
    with box.client(xservers().display):
        box.wait_state('connected')
        assert box.call('expire')[0] == 200
        assert len([e for e in ends(box) if e == 'on_action expire']) == 1
        assert box.sh('pgrep -fx "sleep 4712" | wc -l') == '1'
        box.sh('pkill -f "[s]leep 471"')
        wait_until(lambda: box.sh('pgrep -f "[s]leep 471"; true') == '', 5, 'its end')
        box.sh('rm /root/hang')

        def again():
            assert box.call('expire')[0] == 200
            return len([e for e in ends(box) if e == 'on_action expire']) == 2
        wait_until(again, 5, 'a new one')


# -- accounts ----------------------------------------------------------------------------------------

def start(box, login='ann', **names):
    return box.call('x_start', {'qvd.vm.user.name': login,
                                **{'qvd.vm.user.' + k: v for k, v in names.items()}})


def test_groups_and_primary_group(box):
    assert start(box, group='designers', gid='5005', uid='5004', groups='audio,video')[0] == 200
    assert box.sh('id -u ann; id -g ann; id -gn ann').split() == ['5004', '5005', 'designers']
    assert sorted(box.sh('id -Gn ann').split()) == ['audio', 'designers', 'video']
    assert box.sh('stat -c %U:%G /home/ann /home/ann/.profile').split() == ['ann:designers'] * 2
    box.call('x_stop')
    status, body = start(box, 'ben', group='audio', gid='5006')
    assert (status, body['error']) == (403, f'group audio has gid {box.sh("getent group audio | cut -d: -f3")}'
                                            ' in this image, user ben wants 5006')
    status, body = start(box, 'ben', group='root')
    assert status == 403 and 'group of root' in body['error']
    box.sh('groupdel designers; true')


@pytest.mark.parametrize('login', ['root', 'daemon', 'qvd-vma', 'qvd-other', 'nobody',
                                   'systemd-timesync', 'Root'])
def test_names_of_the_system_run_nothing(box, login):
    status, body = start(box, login)
    assert status == 403, body
    assert box.state() == 'stopped' and box.sh('pgrep nxagent; true') == ''
    assert box.sh('ls /home') == ''


def test_a_home_is_filled_once_and_whole(box):
    box.sh('mkdir -p /home/.new-ann; echo half >/home/.new-ann/file')
    box.x_start()
    assert box.sh('ls -A /home') == 'ann'
    assert box.sh('ls -A /home/ann | grep -v ^.nx | sort') == box.sh('ls -A /etc/skel | sort')
    assert box.sh('stat -c %u:%g:%a /home/ann') == box.sh('echo $(id -u ann):$(id -g ann):755')
    box.call('x_stop')
    box.sh('echo mine >/home/ann/.profile; rm /home/ann/.bashrc; chmod 700 /home/ann')
    box.x_start()
    assert box.sh('cat /home/ann/.profile; ls -A /home/ann | grep -c bashrc; stat -c %a /home/ann',
                  check=False).split() == ['mine', '0', '700']


def test_a_plugins_home_is_used_and_bad_ones_are_refused(box):
    assert start(box, home='/srv/homes/ann')[0] == 200
    assert box.sh('getent passwd ann | cut -d: -f6; stat -c %U /srv/homes/ann').split() == [
        '/srv/homes/ann', 'ann']
    assert pairs(notes(box)[-1])['qvd.vm.user.home'] == '/srv/homes/ann'
    box.call('x_stop')
    for bad in ('/etc', 'ann', '/home/../etc/x', '/home/a b'):
        status, body = start(box, 'ben', home=bad)
        assert (status, 'no good path' in body['error']) == (403, True), (bad, body)
    # A folder of root's is nobody's home.
    status, body = start(box, 'ben', home='/usr/share')
    assert status == 403 and 'user ben would run as uid 0' in body['error']
    box.sh('rm -rf /srv/homes')


def test_an_account_that_cannot_be_made_leaves_nothing(box):
    # It fails half-way: the group is there, the account is not.
    box.sh('mv /usr/sbin/useradd /usr/sbin/useradd.real; printf "#!/bin/sh\\ngroupadd -g 1000 ann; '
           'echo no room >&2; exit 9\\n" >/usr/sbin/useradd; chmod 755 /usr/sbin/useradd')
    status, body = start(box)
    box.sh('mv /usr/sbin/useradd.real /usr/sbin/useradd')
    assert (status, body['error']) == (503, 'making the account for user ann failed (exit 9): no room')
    assert box.sh('getent passwd ann; getent group ann; ls /home; true') == ''
    box.x_start()
    assert box.sh('getent passwd ann; getent group ann').split() == [
        'ann:x:1000:1000::/home/ann:/bin/bash', 'ann:x:1000:']


def test_an_image_with_a_groupadd_of_its_own_hears_of_each_group(farm):
    box = VmBox(farm, conf={'command.groupadd': HOOK})
    box.write(HOOK, '#!/bin/sh\necho "$*" >/root/heard\nexec /usr/sbin/groupadd "$@"\n', 0o755)
    box.start()
    try:
        box.x_start()
        assert box.sh('cat /root/heard; id -gn ann; id -g ann').splitlines() == [
            '-g 1000 ann', 'ann', '1000']
    finally:
        box.close()


@pytest.mark.parametrize('uid,status,text', [('1777', 200, None), ('0', 403, 'desktop\'s system'),
                                             (None, 403, 'is not there after it was added')])
def test_the_image_makes_accounts_its_own_way(farm, uid, status, text):
    box = VmBox(farm, conf={'vma.on_provisioning.add_user': HOOK})
    make = f'echo "$NAME:x:{uid}:1777::/home/$NAME:/bin/sh" >>/etc/passwd' if uid else 'true'
    box.write(HOOK, '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = qvd.vm.user.name ] && NAME=$2; shift 2; '
                    f'done\n{make}\n', 0o755)
    box.start()
    try:
        got, body = start(box)
        assert got == status, body
        if text:
            assert text in body['error']
            assert box.sh('getent passwd ann; pgrep nxagent; true') == ''
        else:
            assert box.sh('stat -c %u /home/ann; stat -c %u /proc/$(pgrep -o -x nxagent)').split() == \
                ['1777', '1777']
    finally:
        box.close()


# -- zone and language -------------------------------------------------------------------------------

def test_the_clients_zone_and_language(box):
    params = {'qvd.vm.user.name': 'ann', 'qvd.client.timezone': 'Europe/Madrid',
              'qvd.client.locale': 'C.utf8'}
    zone_file = '/usr/share/zoneinfo/Europe/Madrid'
    assert box.call('x_start', params)[0] == 200
    assert box.sh('readlink /etc/localtime; cat /etc/timezone').split() == [zone_file, 'Europe/Madrid']
    assert box.as_user('ann', 'date', '-d', '2026-07-01 12:00 UTC', '+%Z %H').stdout == 'CEST 14\n'
    environ = box.sh('tr "\\0" "\\n" </proc/$(pgrep -o -x nxagent)/environ').splitlines()
    assert 'LANG=C.utf8' in environ and not any(line.startswith('TZ=') for line in environ)
    box.call('x_stop')
    for zone in ('../../../etc/passwd', '/etc/passwd', 'No/Where', 'a b', 'Europe'):
        params.update({'qvd.client.timezone': zone, 'qvd.client.locale': 'xx_XX.UTF-8'})
        assert box.call('x_start', params)[0] == 200
        assert box.sh('readlink /etc/localtime') == zone_file
        environ = box.sh('tr "\\0" "\\n" </proc/$(pgrep -o -x nxagent)/environ').splitlines()
        assert 'LANG=C.UTF-8' in environ and not any(line.startswith('TZ=') for line in environ)
        box.call('x_stop')


# -- the log -----------------------------------------------------------------------------------------

def read_until(sock, text, stream):
    sock.settimeout(20)
    got = b''
    peer = sock.accept()[0] if stream else sock
    peer.settimeout(20)
    while text not in got:
        piece = peer.recv(65536)
        assert piece, got
        got += piece + (b'' if stream else b'\n')
    return got


def test_the_agents_lines_reach_a_remote_syslog_and_a_file(farm):
    for scheme, kind in (('tcp://', socket.SOCK_STREAM), ('', socket.SOCK_DGRAM)):
        with network_of(farm.pid):
            server = socket.socket(socket.AF_INET, kind)
            server.bind(('10.3.15.1', 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        box = VmBox(farm, conf={'log.target': 'syslog',
                                'log.syslog.address': f'{scheme}10.3.15.1:{server.getsockname()[1]}'})
        try:
            box.start()
            box.call('ping', secret=bytes(32))
            box.x_start()
            got = read_until(server, b'user ann, uid 1000', kind == socket.SOCK_STREAM)
            # RFC 5424: <PRI>1 TIME HOST APP PROCID MSGID SD MSG; facility daemon, level info.
            line = next(one for one in got.decode().splitlines() if 'user ann' in one)
            head = line.split(' ')
            assert head[0] == '<30>1' and head[3] == 'qvd-vma' and head[5:7] == ['-', '-'], line
            assert head[4] == box.sh('pgrep -x qvd-vma')
        finally:
            box.close()
            server.close()
    box = VmBox(farm, conf={'log.filename': '/var/log/qvd/qvd.log', 'log.level': 'DEBUG'})
    try:
        box.start()
        box.x_start()
        assert 'session: user ann, uid 1000' in box.sh('cat /var/log/qvd/qvd.log')
        box.sh('mv /var/log/qvd/qvd.log /var/log/qvd/qvd.log.1; pkill -HUP -x qvd-vma')
        assert box.call('x_stop')[0] == 200
        wait_until(lambda: 'x_stop' in box.sh('cat /var/log/qvd/qvd.log', check=False), 10, 'a new file')
        # Its listener may open nothing: it is told the new file by its monitor.
        assert box.call('ping', secret=bytes(32))[0] == 401
        refused = r' qvd-vma-listener\[\d+\] warn: request ping refused: wrong MAC'
        wait_until(lambda: re.search(refused, box.sh('cat /var/log/qvd/qvd.log')), 10, 'a line of it')
        assert not re.search(refused, box.sh('cat /var/log/qvd/qvd.log.1'))
        assert box.secret.hex() not in box.sh('cat /var/log/qvd/*')
    finally:
        box.close()
