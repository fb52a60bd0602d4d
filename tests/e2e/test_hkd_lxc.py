# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-hkd with real containers: killed from outside, adopted after a restart, no polling."""

import io
import os
import re
import statistics
import subprocess
import tarfile
import time

import pytest

import hkd
from farm import wait_until

# No sweep repairs anything while these tests run.
FARM = {'services': False, 'settings': {'hkd.sweep.interval': '1h', 'log.level': 'DEBUG',
                                        'log.filename': '/var/log/qvd/hkd.log'}}


@pytest.fixture(scope='module')
def node(farm):
    """A running node with the minimal image and four VMs of it, three of them running."""
    farm.init_database()
    hkd.add_node(farm)
    farm.osf = hkd.add_osf(farm, 'lxc', image='minimal')
    farm.vms = hkd.add_vms(farm, farm.osf, 4)
    farm.start_service('hkd')
    hkd.wait_host(farm, 'running')
    hkd.order_start(farm, *farm.vms[:3])
    hkd.wait_state(farm, farm.vms[:3], 'running', 120)
    return farm


def init_pid(farm, vm):
    """The pid of a VM's init as the farm knows it; 0: none."""
    out = farm.run(['lxc-info', '-P', '/run/qvd/lxc', '-n', f'qvd-{vm}', '-p', '-H'],
                   check=False).stdout.strip()
    return int(out) if out.isdigit() else 0


def start_pid(farm, vm):
    """The pid of its lxc-start."""
    return int(farm.run(['pgrep', '-x', '-P', hkd.vm(farm, vm)['vm_pid'], 'lxc-start'])
               .stdout.split()[0])


def start_again(farm, vm):
    hkd.order_start(farm, vm)
    hkd.wait_state(farm, vm, 'running', 60)


@pytest.mark.parametrize('victim', ['init', 'lxc-start', 'guard'])
def test_killed_from_outside_is_stopped_at_once_and_starts_again(node, victim):
    vm, other = node.vms[:2]
    pid = {'init': init_pid, 'lxc-start': start_pid,
           'guard': lambda f, v: int(hkd.vm(f, v)['vm_pid'])}[victim](node, vm)
    others_init = init_pid(node, other)
    begin = time.time()
    node.run(['kill', '-KILL', str(pid)])
    hkd.wait_state(node, vm, 'stopped', 10)
    took = hkd.state_since(node, vm) - begin
    assert took < 1, f'stopped after {took:.2f} s'
    row = hkd.vm(node, vm)
    assert (row['blocked'], row['host_id'], row['vm_cmd']) == ('false', '', '')
    # Nothing of it is left on the node.
    assert init_pid(node, vm) == 0
    assert node.run(['ip', 'link', 'show', f'qvd{vm}'], check=False).returncode != 0
    start_again(node, vm)
    assert init_pid(node, other) == others_init
    assert hkd.host(node)['assigned'] == '3'


def test_a_start_order_reaches_lxc_start_in_100_ms(node):
    vm, took = node.vms[3], []
    for _ in range(5):
        ordered = float(node.psql(
            'WITH h AS (UPDATE host_runtimes SET assigned = assigned + 1 WHERE host_id = 1)'
            " UPDATE vm_runtimes SET host_id = 1, vm_cmd = 'start'"
            f' WHERE vm_id = {vm} RETURNING extract(epoch FROM clock_timestamp())')[0][0])
        hkd.wait_state(node, vm, 'running', 60)
        pid = hkd.host_pid(node, start_pid(node, vm))
        with open(f'/proc/{pid}/stat', encoding='ascii') as f:
            ticks = int(f.read().rsplit(')', 1)[1].split()[19])
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        took.append(booted + ticks / os.sysconf('SC_CLK_TCK') - ordered)
        hkd.order_stop(node, vm)
        hkd.wait_state(node, vm, 'stopped', 60)
    # A tick is 10 ms: what is told is the time until the process was made, less at most that.
    assert statistics.median(took) < 0.1, took


def test_a_stop_asks_the_agent(node):
    vm = node.vms[2]
    hkd.order_stop(node, vm)
    hkd.wait_state(node, vm, 'stopped', 60)
    text = hkd.log(node)
    for line in ('running -> stopping_1 (ordered)', 'stopping_1 -> stopping_2 (vma powers off)',
                 'stopping_2 -> stopped'):
        assert f'[vm:{vm}] {line}' in text
    start_again(node, vm)


def test_the_guest_ends_itself(node):
    vm = node.vms[2]
    node.in_vm(vm, ['/sbin/poweroff'], check=False)
    hkd.wait_state(node, vm, 'stopped', 30)
    assert hkd.vm(node, vm)['blocked'] == 'false'
    assert hkd.vm(node, vm)['host_id'] == ''
    start_again(node, vm)
    first = init_pid(node, vm)
    node.in_vm(vm, ['/sbin/reboot'], check=False)
    # Started again at once, as a new run: nobody has ordered it.
    wait_until(lambda: hkd.state(node, vm) == 'running' and init_pid(node, vm) not in (0, first),
               60, 'the VM to run again')
    assert node.psql(f'SELECT run_ok >= 3 FROM vm_counters WHERE vm_id = {vm}') == [['t']]


def test_a_restart_of_hkd_leaves_the_vms_alone(node):
    inits = [init_pid(node, vm) for vm in node.vms[:3]]
    for how in (None, 'SIGKILL'):
        node.stop_service('hkd', how)
        assert [init_pid(node, vm) for vm in node.vms[:3]] == inits
        node.start_service('hkd')
        hkd.wait_host(node, 'running')
        assert [init_pid(node, vm) for vm in node.vms[:3]] == inits
        assert {hkd.state(node, vm) for vm in node.vms[:3]} == {'running'}
    # They are watched as before.
    node.run(['kill', '-KILL', str(inits[0])])
    hkd.wait_state(node, node.vms[0], 'stopped', 5)
    start_again(node, node.vms[0])


def test_what_happened_while_hkd_was_dead_is_right_3_s_after_its_return(node):
    dies, stops, stays, starts = node.vms
    init = init_pid(node, stays)
    node.stop_service('hkd', 'SIGKILL')
    node.run(['kill', '-KILL', str(init_pid(node, dies))])
    hkd.order_start(node, starts)
    hkd.order_stop(node, stops)
    wait_until(lambda: init_pid(node, dies) == 0, 10, 'the VM to die')
    assert hkd.state(node, dies) == 'running'
    begin = time.time()
    node.start_service('hkd')
    hkd.wait_state(node, (dies, stops), 'stopped', 10)
    hkd.wait_state(node, starts, 'running', 10)
    took = [hkd.state_since(node, vm) - begin for vm in (dies, stops, starts)]
    assert max(took) < 3, took
    assert hkd.state(node, stays) == 'running'
    assert init_pid(node, stays) == init
    assert hkd.host(node)['assigned'] == '2'
    hkd.order_start(node, dies, stops)
    hkd.wait_state(node, node.vms, 'running', 60)


def test_a_silent_agent_ends_the_vm(node):
    vm = node.vms[3]
    node.psql("INSERT INTO configs (key, value) VALUES ('hkd.vm.vma.ping.interval', '500ms'),"
              " ('hkd.vm.vma.ping.timeout', '300ms'), ('hkd.vm.vma.dead.failures', '2'),"
              " ('hkd.vm.vma.dead.time', '1s')")
    # The period counts from the next ping: a restart asks soon.
    node.stop_service('hkd')
    node.start_service('hkd')
    hkd.wait_host(node, 'running')
    node.in_vm(vm, ['pkill', '-STOP', '-f', 'qvd-vma-listener'])
    hkd.wait_log(node, rf'\[vm:{vm}\] running -> zombie_1 \(its agent has not answered', 20)
    hkd.wait_state(node, vm, 'stopped', 30)
    assert hkd.vm(node, vm)['blocked'] == 'false'
    node.psql("DELETE FROM configs WHERE key LIKE 'hkd.vm.vma.%'")


def reason_of_block(farm, vm, timeout=60):
    wait_until(lambda: hkd.vm(farm, vm)['blocked'] == 'true', timeout, 'the VM to be blocked')
    hkd.wait_state(farm, vm, 'stopped', 60)
    assert hkd.vm(farm, vm)['host_id'] == ''
    return hkd.vm(farm, vm)['blocked_reason']


def image_of(farm, name, **files):
    """An OSF with an image of those files only; a VM of it."""
    osf = hkd.add_osf(farm, 'lxc', name=name)
    path = farm.psql(f'SELECT path FROM dis WHERE osf_id = {osf}')[0][0]
    os.makedirs(farm.path('lib/storage/images'), exist_ok=True)
    with tarfile.open(farm.path('lib/storage/images', path), 'w') as tar:
        for folder in ('sbin', 'etc', 'dev', 'proc', 'sys', 'tmp', 'run', 'home', 'var'):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for file, data in files.items():
            entry = tarfile.TarInfo(file.replace('_', '/'))
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return hkd.add_vms(farm, osf, 1)[0]


def test_a_vm_that_does_not_boot_is_blocked(node):
    vm = image_of(node, 'empty')
    hkd.order_start(node, vm)
    reason = reason_of_block(node, vm)
    assert reason.startswith('no boot: '), reason


def sleeper(folder):
    """A program for an empty system that does nothing, for ever."""
    out = str(folder / 'sleeper')
    subprocess.run(['cc', '-static', '-x', 'c', '-o', out, '-'], check=True,
                   input=b'#include <unistd.h>\nint main(void) { for (;;) pause(); }\n')
    with open(out, 'rb') as f:
        return f.read()


def test_a_vm_without_an_agent_is_blocked(node, tmp_path):
    """Its guard, older than a rotation of the log, tells the end into the new file."""
    node.psql("INSERT INTO configs (key, value) VALUES ('hkd.vm.start.vma.timeout', '2s')")
    vm = image_of(node, 'mute', sbin_init=sleeper(tmp_path))
    hkd.order_start(node, vm)
    wait_until(lambda: init_pid(node, vm), 20, 'its first process')
    old = node.path('log', 'hkd-old.log')
    os.rename(node.path('log', 'hkd.log'), old)
    node.run(['kill', '-HUP', str(node.service('hkd')['pid'])])
    assert reason_of_block(node, vm) == 'no VMA: its agent did not report within 2 s'
    told = rf' qvd-guard\[\d+\] info: \[vm:{vm}\] did not come up'
    hkd.wait_log(node, told)
    with open(old, encoding='utf-8') as f:
        assert not re.search(told, f.read())
    node.psql("DELETE FROM configs WHERE key = 'hkd.vm.start.vma.timeout'")
