# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a VM at a time of its own: its user who stays away, its soft and its hard expiration."""

import datetime
import re
import time

import pytest

import hkd
from farm import wait_until
from oldclients import PerlClient, first_nx_bytes

FARM = {'image': 'minimal', 'users': ['ann', 'bob'], 'osf': {'memory': '128'},
        'settings': {'hkd.sweep.interval': '1h', 'l7r.sweep': '1h'}}
NOTE = '#!/bin/sh\necho "$(date +%s.%N) $*" >>/root/expired\n'


@pytest.fixture(scope='module')
def ann(farm):
    return int(farm.vm_row('ann')['id'])


@pytest.fixture(scope='module')
def bob(farm):
    return int(farm.vm_row('bob')['id'])


def connect(farm, login, vm):
    client = PerlClient((farm.address, farm.l7r_port), login, farm.users[login])
    client.wire.socket.settimeout(60)
    answer = client.connect(vm)
    assert answer.status == 101
    assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-')
    return client


def leave(farm, login, client):
    client.wire.close()
    wait_until(lambda: farm.vm_row(login)['user_state'] == 'disconnected', 15, 'the end of it')


def away_since(farm, vm, seconds):
    """Its user has left so long ago; the node is told as the broker tells it."""
    farm.psql('UPDATE vm_runtimes SET user_state_ts = clock_timestamp()'
              f" - interval '{seconds} s', vm_cmd_ts = clock_timestamp() - interval '10 days'"
              f" WHERE vm_id = {vm}")
    farm.psql(f"NOTIFY h1, 'vm {vm}'")


def utc(seconds):
    """A time so many seconds from now, to the whole second, and as the API takes it."""
    at = int(time.time() + seconds)
    return at, datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime(
        '%Y-%m-%dT%H:%M:%SZ')


def edit(farm, vm, **fields):
    farm.qa('vm', 'edit', '-f', f'id={vm}', *[f'{k}={v}' for k, v in fields.items()])


def test_a_user_who_leaves_leaves_his_desktop(farm, ann):
    """-1, never, is the default."""
    leave(farm, 'ann', connect(farm, 'ann', ann))
    away_since(farm, ann, 100000)
    time.sleep(0.5)
    assert hkd.state(farm, ann) == 'running'


def test_stopped_when_the_user_stays_away(farm, ann):
    farm.qa('osf', 'edit', '-f', 'name=desk', 'stop_after_disconnect=5')
    # 100,000 s are over: the change alone has to be enough.
    hkd.wait_log(farm, rf'\[vm:{ann}\] running -> stopping_1 \(its user has stayed away\)')
    hkd.wait_state(farm, ann, 'stopped')
    assert hkd.vm(farm, ann)['blocked'] == 'false'
    client = connect(farm, 'ann', ann)
    leave(farm, 'ann', client)
    # 2 s are left, and he is back in time.
    away_since(farm, ann, 298)
    client = connect(farm, 'ann', ann)
    time.sleep(2.5)
    assert hkd.state(farm, ann) == 'running'
    leave(farm, 'ann', client)
    begin = time.time()
    away_since(farm, ann, 299)
    hkd.wait_state(farm, ann, 'stopped')
    stop = hkd.log_times(farm, rf'\[vm:{ann}\] running -> stopping_1')[-1]
    at = time.gmtime(begin)
    begun = at.tm_hour * 3600 + at.tm_min * 60 + at.tm_sec + begin % 1
    assert 0.8 < stop - begun < 2.5


def test_the_osf_is_over_the_setting_and_0_is_at_once(farm, ann, bob):
    farm.qa('config', 'set', 'vm.stop_after_disconnect=0')
    farm.qa('osf', 'edit', '-f', 'name=desk', 'stop_after_disconnect=-1')
    leave(farm, 'ann', connect(farm, 'ann', ann))
    time.sleep(1)
    assert hkd.state(farm, ann) == 'running'
    # One that an administrator has started waits for its user: nobody has left it.
    farm.qa('vm', 'start', '-f', f'id={bob}', '--wait')
    farm.qa('osf', 'edit', '-f', 'name=desk', 'stop_after_disconnect=')
    hkd.wait_state(farm, ann, 'stopped')
    assert hkd.state(farm, bob) == 'running'
    begin = time.monotonic()
    leave(farm, 'bob', connect(farm, 'bob', bob))
    hkd.wait_state(farm, bob, 'stopped')
    assert time.monotonic() - begin < 15
    farm.qa('config', 'set', 'vm.stop_after_disconnect=-1')


def test_expirations_are_of_running_vms(farm, ann):
    _, when = utc(3600)
    refused = farm.qa('vm', 'edit', '-f', f'id={ann}', f'expire_soft={when}', check=False)
    assert refused.returncode != 0
    assert 'expirations are set on a running VM only' in refused.stderr
    hkd.order_start(farm, ann)
    hkd.wait_state(farm, ann, 'running', 60)
    for bad in ('infinity', 'now', 'tomorrow', '2026-13-45T00:00Z'):
        refused = farm.qa('vm', 'edit', '-f', f'id={ann}', f'expire_soft={bad}', check=False)
        assert refused.returncode != 0, bad
        assert 'expire_soft' in refused.stderr or 'vm' in refused.stderr


def test_soft_expiration(farm, ann):
    """The agent runs its hook within a second of the time, and after each pause."""
    farm.qa('config', 'set', 'hkd.vm.expire.soft.repeat=2s')
    farm.in_vm(ann, ['sh', '-c', 'cat >/usr/local/bin/note; chmod 755 /usr/local/bin/note;'
                     'mkdir -p /etc/qvd; echo "vma.on_action.expire = /usr/local/bin/note"'
                     ' >>/etc/qvd/vma.conf; pkill -x qvd-vma'], input=NOTE)
    wait_until(lambda: farm.in_vm(ann, ['sh', '-c', 'pgrep -x qvd-vma-listen || pgrep -f '
                                        'qvd-vma-listener'], check=False).returncode == 0, 10,
               'the agent')
    at, when = utc(3)
    edit(farm, ann, expire_soft=when)
    assert farm.qa('vm', 'list', '-f', f'id={ann}', '--fields', 'expire_soft').strip() != ''

    def notes():
        return farm.in_vm(ann, ['cat', '/root/expired'], check=False).stdout.splitlines()
    wait_until(lambda: len(notes()) == 2, 20, 'the hook, twice')
    first, second = (float(line.split()[0]) for line in notes())
    assert 0 <= first - at < 1
    assert 1.5 < second - first < 3.5
    assert f'vm.expiration.soft {when}' in notes()[0]
    assert 'expire' in notes()[0].split(when)[1]
    # Taken back: it is not told any more.
    edit(farm, ann, expire_soft='')
    count = len(notes())
    time.sleep(2.5)
    assert len(notes()) <= count + 1
    assert hkd.state(farm, ann) == 'running'
    farm.qa('config', 'set', 'hkd.vm.expire.soft.repeat=3600s')


def starts(farm, vm):
    return int(farm.psql(f'SELECT run_ok FROM vm_counters WHERE vm_id = {vm}')[0][0])


def test_hard_expiration_restarts(farm, ann):
    before = starts(farm, ann)
    at, when = utc(2)
    edit(farm, ann, expire_hard=when, expire_soft=utc(7200)[1])
    hkd.wait_log(farm, rf'\[vm:{ann}\] running -> stopping_1 \(its hard expiration was {when}\)')
    stopped = hkd.log_times(farm, rf'\[vm:{ann}\] running -> stopping_1 \(its hard')[-1]
    assert 0 <= stopped - at % 86400 < 1
    wait_until(lambda: starts(farm, ann) == before + 1, 30, 'the new run')
    hkd.wait_state(farm, ann, 'running')
    row = farm.psql('SELECT vm_cmd, vm_expiration_soft, vm_expiration_hard, host_id FROM vm_runtimes'
                    f' WHERE vm_id = {ann}')
    assert row == [['', '', '', '1']]
    assert hkd.host(farm)['assigned'] == '1'


def test_hard_expiration_while_hkd_is_away(farm, ann):
    """It comes when hkd is back; and a restart that hkd had begun goes on after its kill -9."""
    before = starts(farm, ann)
    farm.stop_service('hkd', 'SIGKILL')
    edit(farm, ann, expire_hard=utc(-5)[1])
    farm.start_service('hkd')
    wait_until(lambda: starts(farm, ann) == before + 1, 30, 'the new run')
    hkd.wait_state(farm, ann, 'running')
    farm.stop_service('hkd', 'SIGKILL')
    farm.psql(f"UPDATE vm_runtimes SET vm_cmd = 'start' WHERE vm_id = {ann}")
    farm.start_service('hkd')
    hkd.wait_log(farm, rf'\[vm:{ann}\] running -> stopping_1 \(its restart had begun\)')
    wait_until(lambda: starts(farm, ann) == before + 2, 30, 'the new run')
    hkd.wait_state(farm, ann, 'running')


def test_hard_expiration_may_stop(farm, ann):
    farm.qa('config', 'set', 'hkd.vm.expire.hard.action=stop')
    before = starts(farm, ann)
    edit(farm, ann, expire_hard=utc(1)[1])
    hkd.wait_state(farm, ann, 'stopped')
    wait_until(lambda: hkd.vm(farm, ann)['host_id'] == '', 5, 'the row')
    assert starts(farm, ann) == before


def test_a_reboot_is_a_new_run_with_the_image_of_its_tag(farm, bob):
    """Nobody orders it: image resolved anew, expirations gone, the user's order of VMs kept."""
    hkd.order_start(farm, bob)
    hkd.wait_state(farm, bob, 'running', 60)
    edit(farm, bob, expire_soft=utc(7200)[1], expire_hard=utc(7300)[1])
    before, old = starts(farm, bob), hkd.vm(farm, bob)['current_di_id']
    source = farm.psql(f'SELECT path FROM dis WHERE id = {old}')[0][0]
    new = farm.psql('INSERT INTO dis (osf_id, version, path) SELECT osf_id, $$second$$, $$9-again.tar'
                    f'.zst$$ FROM dis WHERE id = {old} RETURNING id')[0][0]
    hkd.put_image(farm.path('lib/storage/images', source),
                  farm.path('lib/storage/images/9-again.tar.zst'))
    farm.psql(f"UPDATE di_runtimes SET state = 'published' WHERE di_id = {new};"
              f"UPDATE di_tags SET di_id = {new} WHERE tag = 'default'")
    farm.in_vm(bob, ['/sbin/reboot'], check=False)
    wait_until(lambda: starts(farm, bob) == before + 1, 90, 'the new run')
    hkd.wait_state(farm, bob, 'running')
    row = farm.psql('SELECT current_di_id, vm_expiration_soft, vm_expiration_hard, blocked'
                    f' FROM vm_runtimes WHERE vm_id = {bob}')
    assert row == [[new, '', '', 'f']]
    # A power-off is the end of it.
    farm.in_vm(bob, ['/sbin/poweroff'], check=False)
    hkd.wait_state(farm, bob, 'stopped', 30)
    wait_until(lambda: hkd.vm(farm, bob)['host_id'] == '', 5, 'the row')
    assert starts(farm, bob) == before + 1


def test_blocked_by_hand(farm, ann):
    """Neither the VM nor the session ends; administrators start it; users alone are refused."""
    farm.qa('config', 'set', 'vm.stop_after_disconnect=-1')
    session = connect(farm, 'ann', ann)
    farm.qa('vm', 'block', '-f', f'id={ann}')
    answer = PerlClient((farm.address, farm.l7r_port), 'ann', farm.users['ann']).connect(ann)
    assert (answer.status, answer.body.split(b'\r\n')[0]) == \
        (403, b'The virtual machine is under maintenance')
    row = farm.vm_row('ann')
    assert (row['state'], row['user_state']) == ('running', 'connected')
    leave(farm, 'ann', session)
    farm.qa('vm', 'stop', '-f', f'id={ann}', '--wait')
    farm.qa('vm', 'start', '-f', f'id={ann}', '--wait')
    assert farm.vm_row('ann')['state'] == 'running'
    shown = farm.qa('vm', 'list', '-f', f'id={ann}', '--fields', 'blocked,blocked_time')
    assert re.search(r'20\d\d-\d\d-\d\d', shown), shown
    assert PerlClient((farm.address, farm.l7r_port), 'ann',
                      farm.users['ann']).connect(ann).status == 403
    farm.qa('vm', 'unblock', '-f', f'id={ann}')
    leave(farm, 'ann', connect(farm, 'ann', ann))
