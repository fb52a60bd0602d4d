# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-hkd with a real PostgreSQL and simulated VMs: orders, states, the line of starts, outages."""

import re
import time

import pytest

import hkd
from farm import wait_until

FARM = {'services': False, 'settings': {
    'hkd.sweep.interval': '1h', 'log.level': 'DEBUG', 'hkd.vm.starting.max': '3'}}


@pytest.fixture(scope='module')
def lone(farm):
    """hkd before its node was added."""
    farm.init_database()
    farm.start_service('hkd')
    return farm


@pytest.fixture(scope='module')
def node(lone):
    """A running node with an OSF of simulated VMs."""
    if not lone.psql('SELECT 1 FROM hosts'):
        hkd.add_node(lone)
    hkd.wait_host(lone, 'running')
    lone.osf = hkd.add_osf(lone)
    return lone


def run_hkd(farm, *args):
    return farm.run(['/usr/lib/qvd/qvd-hkd', *args], check=False)


def test_waits_for_its_row_and_goes_on_by_itself(lone):
    hkd.wait_log(lone, r'qa host add name=node1 address=')
    assert lone.psql('SELECT count(*) FROM hosts') == [['0']]
    begin = time.monotonic()
    hkd.add_node(lone)
    hkd.wait_host(lone, 'running')
    # The sweep comes in an hour: it was the notification.
    assert time.monotonic() - begin < 5
    assert hkd.host(lone)['pid'] == str(lone.service('hkd')['pid'])


def test_options(node):
    assert run_hkd(node, '--help').stdout.startswith('usage: qvd-hkd')
    assert run_hkd(node, '--version').stdout.startswith('qvd-hkd 0.')
    assert run_hkd(node, '--check-config').returncode == 0
    assert 'hkd.sweep.interval = 1h' in run_hkd(node, '--dump-config').stdout
    assert run_hkd(node, '--nonsense').returncode == 2
    with open(node.path('etc/bad.conf'), 'w', encoding='ascii') as f:
        f.write('nodename = x\nhkd.vm.starting.max = 0\n')
    bad = run_hkd(node, '-f', '/etc/qvd/bad.conf', '--check-config')
    assert bad.returncode == 1
    assert 'bad.conf:2' in bad.stderr and 'hkd.vm.starting.max' in bad.stderr
    with open(node.path('etc/bad.conf'), 'w', encoding='ascii') as f:
        f.write('hkd.vm.starting.max = 2\n')
    bad = run_hkd(node, '-f', '/etc/qvd/bad.conf', '--check-config')
    assert bad.returncode == 1
    assert 'nodename' in bad.stderr


def test_runs_once(node):
    second = run_hkd(node)
    assert second.returncode == 1
    assert 'another qvd-hkd runs on this node' in second.stderr
    assert hkd.host(node)['state'] == 'running'


def test_beats(node):
    first = hkd.host(node)
    wait_until(lambda: hkd.host(node)['ok_ts'] > first['ok_ts'], 5, 'another beat')
    row = hkd.host(node)
    with open('/proc/meminfo', encoding='ascii') as f:
        total = int(f.readline().split()[1])
    assert float(row['usable_ram']) == pytest.approx(total / 1000, rel=0.1)
    assert float(row['usable_cpu']) > 0
    assert 0 <= float(row['free_ram']) <= 1
    assert 0 <= float(row['free_cpu']) <= 1
    assert abs(float(row['clock_diff'])) < 1


def test_a_life(node):
    one, = hkd.add_vms(node, node.osf, 1)
    hkd.order_start(node, one)
    hkd.wait_state(node, one, 'running')
    row = hkd.vm(node, one)
    ip = node.psql(f'SELECT host(ip) FROM vms WHERE id = {one}')[0][0]
    assert (row['vm_address'].split('/')[0], row['vm_vma_port'], row['vm_x_port']) \
        == (ip, '3030', '4100')
    assert row['host_id'] == '1' and row['vm_cmd'] == '' and row['current_di_id'] != ''
    assert node.psql(f'SELECT octet_length(secret) FROM vm_secrets WHERE vm_id = {one}') == [['32']]
    assert node.psql('SELECT run_attempts, run_ok FROM vm_counters'
                     f' WHERE vm_id = {one}') == [['1', '1']]
    hkd.order_stop(node, one)
    hkd.wait_state(node, one, 'stopped')
    row = hkd.vm(node, one)
    assert {row[k] for k in ('vm_cmd', 'host_id', 'vm_pid', 'vm_address', 'vm_x_port',
                             'current_di_id', 'blocked_reason')} == {''}
    assert node.psql(f'SELECT 1 FROM vm_secrets WHERE vm_id = {one}') == []
    assert hkd.host(node)['assigned'] == '0'
    # One line a change, of one setter.
    text = hkd.log(node)
    for line in ('stopped -> starting_1 (ordered)', 'starting_1 -> starting_2',
                 'starting_2 -> running'):
        assert f'[vm:{one}] {line}' in text


def test_at_most_so_many_start_at_once(node):
    vms = hkd.add_vms(node, node.osf, 12)
    hkd.order_start(node, *vms)
    hkd.wait_state(node, vms, 'running', 60)
    assert hkd.host(node)['assigned'] == '12'
    under_way = most = 0
    for line in hkd.log(node).splitlines():
        if any(f'[vm:{one}] ' in line for one in vms):
            under_way += 'launching' in line
            under_way -= '-> running' in line
            most = max(most, under_way)
    assert most == 3
    hkd.order_stop(node, *vms)
    hkd.wait_state(node, vms, 'stopped', 60)
    assert hkd.host(node)['assigned'] == '0'


def test_a_lost_notification_is_repaired_by_the_sweep(node):
    started, stopped = hkd.add_vms(node, node.osf, 2)
    hkd.order_start(node, stopped)
    hkd.wait_state(node, stopped, 'running')
    hkd.order_start(node, started, quiet=True)
    hkd.order_stop(node, stopped, quiet=True)
    time.sleep(1)   # nothing may happen: the sweep comes in an hour
    assert hkd.state(node, started) == 'stopped'
    assert hkd.state(node, stopped) == 'running'
    node.psql("INSERT INTO configs (key, value) VALUES ('hkd.sweep.interval', '500ms')")
    # The present pause goes on; LISTEN's reconnect looks at everything at once.
    node.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qvd_hkd'")
    hkd.wait_state(node, started, 'running')
    hkd.wait_state(node, stopped, 'stopped')
    # And now the sweep itself, every half second.
    hkd.order_stop(node, started, quiet=True)
    hkd.wait_state(node, started, 'stopped', 5)
    # It also repairs what others got wrong.
    node.psql('UPDATE host_runtimes SET assigned = 7')
    wait_until(lambda: hkd.host(node)['assigned'] == '0', 5, 'assigned to be counted anew')
    node.psql(f'SET qvd.notify = store; UPDATE vm_runtimes SET host_id = 1 WHERE vm_id = {started}')
    wait_until(lambda: hkd.vm(node, started)['host_id'] == '', 5, 'the VM to be given back')
    node.psql("DELETE FROM configs WHERE key = 'hkd.sweep.interval'")


def test_a_vm_without_an_image_is_refused(node):
    one, = hkd.add_vms(node, node.osf, 1)
    node.psql(f"UPDATE vms SET di_tag = 'nosuch' WHERE id = {one}")
    hkd.order_start(node, one)
    hkd.wait_log(node, rf'\[vm:{one}\] starting_1 -> stopped \(no published image .* nosuch')
    hkd.wait_state(node, one, 'stopped')
    assert hkd.vm(node, one)['blocked'] == 'false'
    assert hkd.host(node)['assigned'] == '0'


def test_survives_the_database(node):
    kept, ended, new = hkd.add_vms(node, node.osf, 3)
    hkd.order_start(node, kept, ended)
    hkd.wait_state(node, (kept, ended), 'running')
    pid = node.service('hkd')['pid']
    hkd.order_stop(node, ended)
    hkd.kill_postgres(node)
    hkd.wait_log(node, 'the database is away')
    node.start_service('postgres')
    hkd.wait_state(node, ended, 'stopped', 20)
    hkd.order_start(node, new)
    hkd.wait_state(node, new, 'running', 20)
    assert hkd.state(node, kept) == 'running'
    assert node.service('hkd')['pid'] == pid
    wait_until(lambda: hkd.host(node)['assigned'] == '2', 10, 'the count')
    hkd.order_stop(node, kept, new)
    hkd.wait_state(node, (kept, new), 'stopped')


def cut_off(node, statement, order):
    """hkd's statement (LIKE) of that order is committed, and the connection cut before its answer: a
    standby that never says that it has it holds the answer back."""
    node.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    node.psql('SELECT pg_reload_conf()')
    wait_until(lambda: node.psql('SHOW synchronous_standby_names') == [['nobody']], 5, 'the setting')
    order()
    cut = (f"SELECT pg_terminate_backend(pid), query LIKE '{statement}'"
           " FROM pg_stat_activity WHERE usename = 'qvd_hkd' AND wait_event = 'SyncRep'")
    wait_until(lambda: ['t', 't'] in node.psql(cut), 20, 'an answer to be cut off')
    node.psql('ALTER SYSTEM RESET synchronous_standby_names')
    node.psql('SELECT pg_reload_conf()')


def test_orders_whose_answer_is_lost(node):
    """The sweep comes in an hour: what is asked anew is asked because of the cut."""
    one, = hkd.add_vms(node, node.osf, 1)
    cut_off(node, "%SET vm_state = ''starting_1''%", lambda: hkd.order_start(node, one, local=True))
    hkd.wait_state(node, one, 'running')
    assert node.psql(f'SELECT run_ok FROM vm_counters WHERE vm_id = {one}') == [['1']]
    cut_off(node, '%vm_expiration_hard AS hard%', lambda: hkd.order_stop(node, one, local=True))
    hkd.wait_state(node, one, 'stopped')
    # What a look leaves that has made an order of a hard expiration.
    hkd.order_start(node, one)
    hkd.wait_state(node, one, 'running')
    node.psql("SET qvd.notify = store; UPDATE vm_runtimes SET vm_cmd = 'start'"
              f' WHERE vm_id = {one}')
    node.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'qvd_hkd'")
    wait_until(lambda: node.psql(f'SELECT run_ok FROM vm_counters WHERE vm_id = {one}') == [['3']],
               20, 'the restart')
    hkd.order_stop(node, one)
    hkd.wait_state(node, one, 'stopped')


def test_idle_means_idle(node):
    one, = hkd.add_vms(node, node.osf, 1)
    hkd.order_start(node, one)
    hkd.wait_state(node, one, 'running')
    pid = hkd.host_pid(node, node.service('hkd')['pid'])
    with hkd.statements(node, 'qvd_hkd') as seen:
        before = hkd.voluntary_switches(pid)
        time.sleep(20)
        assert hkd.voluntary_switches(pid) - before < 200
    beats = [s for s in seen if s.startswith('UPDATE host_runtimes SET ok_ts')]
    assert seen == beats
    assert 8 <= len(beats) <= 12
    hkd.order_stop(node, one)
    hkd.wait_state(node, one, 'stopped')


def test_an_ordered_stop_of_the_node_stops_its_vms(node):
    one, = hkd.add_vms(node, node.osf, 1)
    hkd.order_start(node, one)
    hkd.wait_state(node, one, 'running')
    old = node.service('hkd')['pid']
    node.psql("UPDATE host_runtimes SET cmd = 'stop'")
    hkd.wait_state(node, one, 'stopped')
    # The supervisor starts it again.
    wait_until(lambda: node.service('hkd')['pid'] not in (0, old), 20, 'a new hkd')
    hkd.wait_host(node, 'running')
    assert hkd.host(node)['assigned'] == '0' and hkd.host(node)['cmd'] == ''


def test_rights_that_it_does_not_need_are_gone(node):
    """capabilities(7): modules, raw I/O, reboot, clock, audit, BPF and the rest are given up."""
    pid = hkd.host_pid(node, node.service('hkd')['pid'])
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        sets = dict(re.findall(r'^(Cap\w+):\s*([0-9a-f]+)$', f.read(), re.M))
    never = sum(1 << n for n in (16, 17, 22, 25, 26, 29, 30, 32, 33, 34, 37, 38, 39, 40))
    for name in ('CapPrm', 'CapEff', 'CapBnd'):
        assert int(sets[name], 16) & never == 0, (name, sets[name])
    assert int(sets['CapInh'], 16) == int(sets['CapAmb'], 16) == 0
    # And those it needs: CHOWN, KILL, NET_ADMIN, SYS_CHROOT, SYS_ADMIN.
    needs = sum(1 << n for n in (0, 5, 12, 18, 21))
    assert int(sets['CapEff'], 16) & needs == needs


def test_a_reload_takes_the_files_settings(node):
    with open(node.path('etc/node.conf'), 'a', encoding='ascii') as f:
        f.write('hkd.vm.starting.max = 0\n')
    node.run(['kill', '-HUP', str(node.service('hkd')['pid'])])
    hkd.wait_log(node, r'node.conf:\d+: hkd.vm.starting.max')
    with open(node.path('etc/node.conf'), 'a', encoding='ascii') as f:
        f.write('hkd.vm.starting.max = 7\nhkd.stop.vms = 1\n')
    text = open(node.path('etc/node.conf'), encoding='ascii').read()
    with open(node.path('etc/node.conf'), 'w', encoding='ascii') as f:
        f.write(text.replace('hkd.vm.starting.max = 0\n', ''))
    node.run(['kill', '-HUP', str(node.service('hkd')['pid'])])
    hkd.wait_log(node, 'settings read again')
    assert hkd.host(node)['state'] == 'running'


def test_a_clean_stop_with_its_vms(node):
    one, = hkd.add_vms(node, node.osf, 1)
    hkd.order_start(node, one)
    hkd.wait_state(node, one, 'running')
    node.stop_service('hkd')        # hkd.stop.vms = 1, from the test before
    assert node.service('hkd')['last_status'] == 'status 0'
    assert hkd.state(node, one) == 'stopped'
    assert hkd.host(node)['state'] == 'stopped'
    assert hkd.host(node)['assigned'] == '0'
    # No VM is left: the firewall has gone too.
    assert 'table' not in node.run(['nft', 'list', 'ruleset']).stdout
    node.start_service('hkd')
    hkd.wait_host(node, 'running')
    assert 'table bridge qvd' in node.run(['nft', 'list', 'ruleset']).stdout
