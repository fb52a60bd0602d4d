# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a VM's table (docs/vm-states.md) that only misfortune takes, with real containers:
guests that lie, are mute or end, guards that are stopped or killed, hkd killed in each state, rows
that become another node's, limits that pass."""

import os
import re
import subprocess

import pytest

import hkd
from farm import wait_until
from test_hkd_lxc import image_of

LONG = {'start.resources': '60s', 'start.boot': '60s', 'start.network': '60s', 'start.vma': '60s',
        'stop.vma': '60s', 'stop': '60s', 'kill.term': '60s', 'kill': '60s'}
# Loaded machines boot in these, too.
SHORT = {**LONG, 'start.resources': '4s', 'start.boot': '8s', 'start.network': '3s',
         'start.vma': '8s', 'kill.term': '1s', 'kill': '500ms'}
OVER = {key: '1s' for key in LONG}
FARM = {'services': False, 'settings': {
    'hkd.sweep.interval': '500ms', 'hkd.vm.starting.max': '2',
    **{f'hkd.vm.{key}.timeout': value for key, value in LONG.items()}}}

READY = ('signal(SIGPIPE, SIG_IGN); int fd = open("/dev/.qvd/ready", O_WRONLY);'
         ' if (fd < 0 || write(fd, "x", 1) != 1) return 9;')
LISTEN = ('static char b[65536]; memset(b, 65, sizeof b); struct sockaddr_in at = {AF_INET,'
          ' htons(3030), {0}, {0}}; int s = socket(AF_INET, SOCK_STREAM, 0);'
          ' if (bind(s, (void *)&at, sizeof at) < 0 || listen(s, 9) < 0) return 9;')
# First processes of an otherwise empty system.
PROGRAMS = {
    'mute': 'if (write(1, "I say nothing\\n", 14) != 14) return 9; for (;;) pause();',
    # Says that it is there, and is not.
    'liar': 'int fd = open("/dev/.qvd/ready", O_WRONLY); if (fd < 0 || write(fd, "x", 1) != 1)'
            ' return 9; for (;;) pause();',
    'powers_off': 'reboot(RB_POWER_OFF); return 9;',
    'reboots': 'sleep(1); reboot(RB_AUTOBOOT); return 9;',
    # Says that it is there; who asks gets bytes without an end, or one answer that is none.
    'floods': READY + LISTEN + 'for (;;) { int c = accept(s, 0, 0); while (write(c, b, sizeof b) > 0)'
              ' ; close(c); }',
    'lies': READY + LISTEN + 'for (;;) { int c = accept(s, 0, 0); read(c, b, 1); const char *a ='
            ' "HTTP/1.1 200 OK\\r\\nQVD-Auth: v1 00\\r\\nContent-Length: 20\\r\\n\\r\\n{\\"state\\": \\"listening\\"}";'
            ' write(c, a, strlen(a)); close(c); }',
}
# A place to wait in front of LXC, for as long as a file is there.
HELD = ('#!/bin/sh\nwhile [ -e /etc/qvd/hold ]; do sleep 0.05; done\n'
        'exec /etc/qvd/lxc-start "$@"\n')


def program(folder, body):
    out = str(folder / 'program')
    subprocess.run(['cc', '-static', '-x', 'c', '-o', out, '-'], check=True, text=True,
                   input='#include <arpa/inet.h>\n#include <fcntl.h>\n#include <signal.h>\n'
                         '#include <string.h>\n#include <sys/reboot.h>\n#include <unistd.h>\n'
                         f'int main(void) {{ {body} }}\n')
    with open(out, 'rb') as f:
        return f.read()


@pytest.fixture(scope='module')
def node(farm, tmp_path_factory):
    """A running node with the minimal image and one image for each program."""
    farm.init_database()
    hkd.add_node(farm)
    hkd.add_node(farm, 'node2', '10.3.15.2')
    farm.osfs = {'minimal': hkd.add_osf(farm, 'lxc', image='minimal', memory=128)}
    for name, body in PROGRAMS.items():
        data = program(tmp_path_factory.mktemp(name), body)
        vm = image_of(farm, name, sbin_init=data)
        farm.osfs[name] = int(farm.psql(f'SELECT osf_id FROM vms WHERE id = {vm}')[0][0])
    farm.run(['cp', '/usr/bin/lxc-start', '/etc/qvd/lxc-start'])
    held = farm.path('etc/held')
    with open(held, 'w', encoding='ascii') as f:
        f.write(HELD)
    os.chmod(held, 0o755)
    farm.run(['mount', '--bind', '/etc/qvd/held', '/usr/bin/lxc-start'])
    farm.start_service('hkd')
    hkd.wait_host_named(farm, 'node1', 'running')
    # Unpacked once: what follows is about times.
    first, = vms(farm, 'minimal')
    start(farm, first, timeout=300)
    hkd.order_stop(farm, first)
    hkd.wait_state(farm, first, 'stopped')
    return farm


def hold(farm, on):
    path = farm.path('etc/hold')
    if on:
        open(path, 'w', encoding='ascii').close()
    elif os.path.exists(path):
        os.unlink(path)


def limits(farm, values):
    """Another hkd, with these limits; VMs that run are found by it."""
    if farm.service('hkd')['pid']:
        farm.stop_service('hkd', 'SIGKILL')
    path = farm.path('etc/node.conf')
    with open(path, encoding='utf-8') as f:
        lines = [line for line in f if not re.match(r'hkd\.vm\..*\.timeout', line)]
    with open(path, 'w', encoding='utf-8') as f:
        f.writelines(lines + [f'hkd.vm.{key}.timeout = {value}\n' for key, value in values.items()])
    begin_hkd(farm)


def begin_hkd(farm):
    farm.start_service('hkd')
    hkd.wait_host_named(farm, 'node1', 'running')


def vms(farm, *names):
    return [hkd.add_vms(farm, farm.osfs[name], 1)[0] for name in names]


def row(farm, vm, *cells, timeout=20):
    line = re.escape(f'[vm:{vm}] row ' + ' | '.join(cells)) + '$'
    wait_until(lambda: re.search(line, hkd.log(farm), re.M), timeout, line)


def guard(farm, vm):
    """Its pid in the farm, once it is there."""
    def find():
        out = farm.run(['pgrep', '-f', f'^[^ ]*/qvd-guard --vm {vm} --run'], check=False).stdout
        return out.split()[0] if out else None
    return wait_until(find, 20, 'the guard')


def send(farm, signal, *pids):
    farm.run(['kill', '-' + signal, *pids])


def start(farm, vm, state='running', timeout=60):
    hkd.order_start(farm, vm)
    hkd.wait_state(farm, vm, state, timeout)


def disown(farm, *ids):
    """Somebody else's from now on; the sweep finds it."""
    farm.psql(f"UPDATE vm_runtimes SET host_id = 2 WHERE vm_id IN ({','.join(map(str, ids))})")


def clean(farm, *ids):
    """Rows as of VMs that were never started, once nothing of them is on the node."""
    wait_until(lambda: not set(farm.run(['ls', '/run/qvd/vm']).stdout.split()) & set(map(str, ids)),
               40, 'the VMs to be gone')
    farm.psql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL"
              f" WHERE vm_id IN ({','.join(map(str, ids))})")


def hang_at_poweroff(farm, vm, command='sleep 600'):
    """The agent's hook at a power-off does that; the agent is begun anew to know of it."""
    old = farm.in_vm(vm, ['pgrep', '-x', 'qvd-vma']).stdout.split()[0]
    farm.in_vm(vm, ['sh', '-c', 'mkdir -p /etc/qvd; cat >/root/hook; chmod 755 /root/hook;'
                    'echo "vma.on_action.poweroff = /root/hook" >>/etc/qvd/vma.conf;'
                    f'kill -KILL {old}'], input=f'#!/bin/sh\n{command}\n')
    # Its port is open again when its listener is another's child.
    wait_until(lambda: farm.in_vm(vm, ['sh', '-c', 'grep -l :0BD6 /proc/net/tcp && pgrep -x qvd-vma'],
                                  check=False).stdout.split()[1:] not in ([], [old]), 15,
               'the agent')


NAMES = ('running', 'stopping_1', 'stopping_2', 'zombie_1', 'zombie_2', 'starting_2', 'starting_1',
         'line_1', 'line_2', 'line_3')


def every_state(farm):
    """A VM in each state, held there: by stopped guards, a hook that hangs, LXC's door. By name."""
    mute = ('starting_2', 'zombie_1', 'zombie_2')
    of = dict(zip(NAMES, vms(farm, *['mute' if n in mute else 'minimal' for n in NAMES])))
    for name in ('running', 'stopping_1', 'stopping_2'):
        start(farm, of[name])
    hang_at_poweroff(farm, of['stopping_1'])
    for name in ('zombie_1', 'zombie_2'):
        start(farm, of[name], 'starting_2')
        send(farm, 'STOP', guard(farm, of[name]))
        hkd.order_stop(farm, of[name])
        hkd.wait_state(farm, of[name], 'zombie_1')
    send(farm, 'STOP', guard(farm, of['stopping_2']))
    hkd.order_stop(farm, of['stopping_1'], of['stopping_2'])
    hkd.wait_state(farm, of['stopping_1'], 'stopping_1')
    hkd.wait_state(farm, of['stopping_2'], 'stopping_2')
    start(farm, of['starting_2'], 'starting_2')
    hold(farm, True)
    hkd.order_start(farm, of['starting_1'])
    guard(farm, of['starting_1'])
    lines = [of[f'line_{n}'] for n in (1, 2, 3)]
    hkd.order_start(farm, *lines)
    hkd.wait_state(farm, lines, 'starting_1')
    return of


def kill_hkd(farm, of):
    farm.stop_service('hkd', 'SIGKILL')
    # KILL had been sent, as far as the database knows.
    farm.psql(f"UPDATE vm_runtimes SET vm_state = 'zombie_2' WHERE vm_id = {of['zombie_2']}")


def kept(farm, vm):
    """What a failed start of the VM has left to look at: names of files, and the console's text."""
    folder = farm.path('lib/storage/overlayfs')
    found = [n for n in os.listdir(folder) if n.startswith(f'deleteme-failed-{vm}-')]
    if not found:
        return {}
    wait_until(lambda: len([n for n in os.listdir(folder)
                            if n.startswith(f'deleteme-failed-{vm}-')]) == 1, 20, 'one to be left')
    path = os.path.join(folder, [n for n in os.listdir(folder)
                                 if n.startswith(f'deleteme-failed-{vm}-')][0])
    files = dict.fromkeys(os.listdir(path), '')
    if 'console.log' in files:
        with open(os.path.join(path, 'console.log'), encoding='utf-8', errors='replace') as f:
            files['console.log'] = f.read()
    return files


def test_starts_that_fail(node):
    limits(node, SHORT)
    unplaced, empty = vms(node, 'minimal')[0], image_of(node, 'empty')
    broken = image_of(node, 'broken', sbin_init=b'no program\n')
    node.psql(f"UPDATE vms SET ip = '10.9.0.1' WHERE id = {unplaced}")
    hkd.order_start(node, unplaced, empty, broken)
    row(node, unplaced, 'starting_1', 'failed', '', 'stopped')
    row(node, empty, 'starting_1', 'exited', '', 'stopped')
    row(node, broken, 'starting_2', 'exited', '', 'stopped')
    for vm, reason in ((unplaced, 'no boot: .*10.9.0.1'), (empty, 'no boot: .* has no /sbin/init'),
                       (broken, 'no boot: crashed: lxc-start failed')):
        hkd.wait_state(node, vm, 'stopped')
        found = hkd.vm(node, vm)
        assert found['blocked'] == 'true'
        assert re.match(reason, found['blocked_reason']), found


def test_guests_that_are_mute_lie_or_end(node):
    mute, liar, ends, killed = vms(node, 'mute', 'liar', 'powers_off', 'mute')
    hkd.order_start(node, liar)
    row(node, liar, 'starting_2', 'ready', '', 'starting_2')
    row(node, liar, 'starting_2', 'unreachable', '', 'starting_2')
    row(node, liar, 'starting_2', 'limit', 'ready came', 'zombie_1')
    hkd.order_start(node, mute)
    row(node, mute, 'starting_2', 'limit', '', 'zombie_1')
    row(node, mute, 'zombie_1', 'limit', '', 'zombie_2')
    row(node, mute, 'zombie_2', 'exited', '', 'stopped')
    hkd.order_start(node, ends)
    row(node, ends, 'starting_2', 'exited', '', 'stopped')
    start(node, killed, 'starting_2')
    send(node, 'KILL', guard(node, killed))
    row(node, killed, 'starting_2', 'exited', '', 'stopped')
    hkd.wait_state(node, (mute, liar, ends, killed), 'stopped')
    assert 'I say nothing' in kept(node, mute)['console.log']
    assert {vm: bool(kept(node, vm)) for vm in (mute, liar, ends, killed)} == {
        mute: True, liar: True, ends: True, killed: True}
    blocked = {vm: hkd.vm(node, vm)['blocked_reason'].split(':')[0]
               for vm in (mute, liar, ends, killed)}
    assert blocked == {mute: 'no VMA', liar: 'no network', ends: 'no boot', killed: 'no boot'}


def test_agents_that_flood_or_lie(node):
    """Every answer is bounded, and only one with the VM's key counts."""
    floods, lies = vms(node, 'floods', 'lies')
    pid = hkd.host_pid(node, node.service('hkd')['pid'])
    hkd.order_start(node, floods, lies)
    for vm in (floods, lies):
        row(node, vm, 'starting_2', 'unreachable', '', 'starting_2')
        row(node, vm, 'starting_2', 'limit', 'ready came', 'zombie_1')
        wait_until(lambda vm=vm: hkd.vm(node, vm)['blocked_reason'].startswith('no network: '), 10,
                   'the reason')
    hkd.wait_state(node, (floods, lies), 'stopped', 30)
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        assert int(re.search(r'VmRSS:\s*(\d+)', f.read())[1]) < 100000
    assert len(os.listdir(f'/proc/{pid}/fd')) < 100


def test_a_guest_that_reboots_while_it_starts(node):
    vm, = vms(node, 'reboots')
    hkd.order_start(node, vm)
    row(node, vm, 'starting_2', 'exited', 'reboots', 'stopped')
    # Started again by itself, but the third time in a row is a failed start.
    row(node, vm, 'starting_2', 'exited', '', 'stopped', timeout=40)
    wait_until(lambda: hkd.vm(node, vm)['host_id'] == '', 10, 'the end')
    assert hkd.vm(node, vm)['blocked_reason'] == \
        'no boot: the guest rebooted 3 times in a row before its agent answered'
    assert node.psql(f'SELECT run_attempts FROM vm_counters WHERE vm_id = {vm}') == [['3']]
    assert set(kept(node, vm)) == {'upper', 'work', 'console.log'}


def test_unblocked_it_starts_again_and_the_last_failure_is_kept(node):
    vm, = vms(node, 'mute')
    for _ in range(2):
        hkd.order_start(node, vm)
        row(node, vm, 'zombie_2', 'exited', '', 'stopped', timeout=40)
        wait_until(lambda: hkd.vm(node, vm)['blocked'] == 'true', 10, 'the block')
        hkd.wait_state(node, vm, 'stopped')
        at = node.psql(f'SELECT blocked_ts > now() - interval $$1 min$$ FROM vm_runtimes'
                       f' WHERE vm_id = {vm}')
        assert at == [['t']]
        first = kept(node, vm)
        assert set(first) == {'upper', 'work', 'console.log'}
        # An administrator unblocks it: no reason is left.
        node.psql(f'UPDATE vm_runtimes SET blocked = false WHERE vm_id = {vm}')
        assert node.psql('SELECT blocked_reason, blocked_ts FROM vm_runtimes'
                         f' WHERE vm_id = {vm}') == [['', '']]
    # Stopped by order while it starts: nobody has failed.
    other, = vms(node, 'mute')
    start(node, other, 'starting_2')
    hkd.order_stop(node, other)
    hkd.wait_state(node, other, 'stopped')
    assert kept(node, other) == {}


def test_orders_and_limits_before_the_first_process(node):
    first, second, waits, late = vms(node, *['mute'] * 4)
    hold(node, True)
    hkd.order_start(node, first, second)
    guard(node, first)
    guard(node, second)
    hkd.order_start(node, waits)
    hkd.wait_state(node, waits, 'starting_1')
    hkd.order_stop(node, waits)
    row(node, waits, 'starting_1', 'stop', '', 'stopped')
    hkd.order_start(node, late)
    hkd.order_stop(node, first)
    row(node, first, 'starting_1', 'stop', 'launched', 'zombie_1')
    row(node, first, 'zombie_1', 'exited', '', 'stopped')
    # Nothing else begins: both places are taken by those who stand at LXC's door.
    row(node, late, 'starting_1', 'turn', '', 'starting_1')
    hkd.order_start(node, waits)
    row(node, waits, 'starting_1', 'limit', '', 'stopped')
    row(node, second, 'starting_1', 'limit', 'launched', 'zombie_2')
    row(node, late, 'starting_1', 'limit', 'launched', 'zombie_2')
    hold(node, False)
    hkd.wait_state(node, (first, second, waits, late), 'stopped')
    # Who only waited too long for a place is not to blame.
    assert [hkd.vm(node, vm)['blocked_reason'].split(':')[0] for vm in (waits, second)] == \
        ['', 'no boot']


def test_an_order_while_the_first_process_runs(node):
    vm, = vms(node, 'mute')
    start(node, vm, 'starting_2')
    hkd.order_stop(node, vm)
    row(node, vm, 'starting_2', 'stop', '', 'zombie_1')
    hkd.wait_state(node, vm, 'stopped')
    assert hkd.vm(node, vm)['blocked'] == 'false'


def test_a_hook_that_fails_and_one_that_ends_with_its_guest(node):
    limits(node, LONG)
    fails, dies = vms(node, 'minimal', 'minimal')
    start(node, fails)
    start(node, dies)
    hang_at_poweroff(node, fails, 'echo no >&2; exit 3')
    hang_at_poweroff(node, dies)
    hkd.order_stop(node, fails, dies)
    row(node, fails, 'stopping_1', 'refused', '', 'zombie_1')
    row(node, fails, 'zombie_1', 'exited', '', 'stopped')
    assert 'poweroff failed' in hkd.log(node)
    hkd.wait_state(node, dies, 'stopping_1')
    # Its agent's last word, a reset, is not to come first.
    node.run(['ip', 'link', 'set', f'qvd{dies}', 'down'])
    send(node, 'KILL', guard(node, dies))
    row(node, dies, 'stopping_1', 'exited', '', 'stopped')
    hkd.wait_state(node, (fails, dies), 'stopped')


def test_hkd_killed_in_every_state_and_then_rows_of_another_node(node):
    of = every_state(node)
    kill_hkd(node, of)
    begin_hkd(node)
    for name, after in (('running', 'running'), ('stopping_1', 'stopping_1'),
                        ('stopping_2', 'stopping_2'), ('zombie_1', 'zombie_1'),
                        ('zombie_2', 'zombie_2'), ('starting_2', 'starting_2'),
                        ('starting_1', 'starting_2')):
        row(node, of[name], name, 'found', '', after)
    # They were never launched: they are, now, two at a time.
    for n in (1, 2, 3):
        row(node, of[f'line_{n}'], 'starting_1', 'gone', '', 'starting_1')
    launched = wait_until(lambda: [n for n in (1, 2, 3) if re.search(
        rf"\[vm:{of[f'line_{n}']}\] row starting_1 \| turn", hkd.log(node))][1:] and [
            n for n in (1, 2, 3) if re.search(
                rf"\[vm:{of[f'line_{n}']}\] row starting_1 \| turn", hkd.log(node))], 20,
        'two to be launched')
    disown(node, *of.values())
    for name, cells in (('running', ()), ('stopping_1', ()), ('stopping_2', ()), ('zombie_1', ()),
                        ('zombie_2', ()), ('starting_2', ())):
        row(node, of[name], name, 'abort', *cells, '', 'zombie_2')
    for n in (1, 2, 3):
        where = ('launched', 'zombie_2') if n in launched else ('', 'stopped')
        row(node, of[f'line_{n}'], 'starting_1', 'abort', *where)
    hold(node, False)
    clean(node, *of.values())
    assert 'qvd-guard' not in node.run(['ps', '-e', '-o', 'comm']).stdout


def test_hkd_and_guards_killed_in_every_state(node):
    of = every_state(node)
    kill_hkd(node, of)
    names = [n for n in NAMES if not n.startswith('line')]
    for name in names:
        send(node, 'KILL', guard(node, of[name]))
    hold(node, False)
    begin_hkd(node)
    row(node, of['starting_1'], 'starting_1', 'gone', '', 'starting_1')
    for name in names[:-1]:
        row(node, of[name], name, 'gone', '', 'stopped')
    hkd.wait_state(node, [of[name] for name in names[:-1]], 'stopped')
    # What had only been ordered is carried out.
    alive = [of[name] for name in ('starting_1', 'line_1', 'line_2', 'line_3')]
    hkd.wait_state(node, alive, 'running', 60)
    assert hkd.host(node)['assigned'] == '4'
    hkd.order_stop(node, *alive)
    hkd.wait_state(node, alive, 'stopped', 60)
    # Nothing is left: interfaces, firewall, cgroups, folders, mounts.
    assert not re.search(r'qvd\d', node.run(['ip', '-o', 'link']).stdout)
    assert not re.search(r'"qvd\d+"', node.run(['nft', 'list', 'ruleset']).stdout)
    assert node.run(['ls', '/run/qvd/vm']).stdout == ''
    assert '/run/qvd/vm' not in node.run(['cat', '/proc/mounts']).stdout


def test_limits_that_pass_in_every_state(node):
    of = every_state(node)
    kill_hkd(node, of)
    limits(node, {**OVER, 'start.boot': '8s', 'start.vma': '2s'})
    row(node, of['zombie_2'], 'zombie_2', 'limit', '', 'zombie_2')
    row(node, of['zombie_1'], 'zombie_1', 'limit', '', 'zombie_2')
    row(node, of['stopping_1'], 'stopping_1', 'limit', '', 'zombie_1')
    row(node, of['stopping_2'], 'stopping_2', 'limit', '', 'zombie_1')
    row(node, of['starting_2'], 'starting_2', 'limit', '', 'zombie_1')
    hold(node, False)
    ends = [of[name] for name in ('stopping_1', 'stopping_2', 'zombie_1', 'zombie_2', 'starting_2')]
    hkd.wait_state(node, ends, 'stopped', 30)
    assert hkd.state(node, of['running']) == 'running'


CRASHED = r'''
set -e
mark=$(printf -- -; readlink /proc/1/ns/pid | tr -cd 0-9)
for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ -w "$d/cgroup.procs" ] && p=$(awk -F: -v n="$(basename $d)" '$2 == n {print $3}' /proc/1/cgroup)
    [ -d "$d/$p" ] && [ -n "$p" ] || continue
    # With its folder; without, and with a process; with an LXC, so another hkd's; of other names.
    mkdir -p "$d/$p/qvd$mark-777" "$d/$p/qvd$mark-778/vm/guest" "$d/$p/qvd$mark-779/monitor" \
        "$d/$p/qvd$mark-780x" "$d/$p/qvd-test$mark-781"
    setsid sleep 1000 & echo $! >"$d/$p/qvd$mark-778/vm/guest/cgroup.procs"
    setsid sleep 1000 & echo $! >"$d/$p/qvd$mark-779/monitor/cgroup.procs"
done >/dev/null 2>&1 || true
ip link add qvd777 type veth peer name other777
nft 'add element bridge qvd macs { "qvd777" . 54:52:00:03:0f:f0 }'
mkdir -p /run/qvd/vm/777/root
printf 'port qvd777\nmac 54:52:00:03:0f:f0\nip 10.3.15.240\noverlay %s\ncgroup %s\n' \
    /var/lib/qvd/storage/overlayfs/1-777-overlayfs qvd$mark-777 >/run/qvd/vm/777/note
mkdir -p /var/lib/qvd/storage/overlayfs/1-777-overlayfs/upper /run/qvd/lxc/qvd-777
touch /run/qvd/lxc/qvd-777/config
echo 54:52:00:03:0f:f0,10.3.15.240 >/run/qvd/dhcp/hosts/777
mkdir -p /var/lib/qvd/storage/basefs/.unpack-8-gone.tar-abcdefgh/etc
mkdir /var/lib/qvd/storage/basefs/.trial-abcdefgh /var/lib/qvd/storage/overlayfs/.trial-abcdefgh
touch -d '1 hour ago' /var/lib/qvd/storage/*/.trial-abcdefgh
'''
LEFT = (r"ip -o link | grep -o 'qvd777'; nft list ruleset | grep -o qvd777; ls -d /run/qvd/vm/777"
        ' /run/qvd/lxc/qvd-777 /run/qvd/dhcp/hosts/777 /var/lib/qvd/storage/overlayfs/*777*'
        ' /var/lib/qvd/storage/*/.unpack-* /var/lib/qvd/storage/*/.trial-* 2>/dev/null;'
        r" find /sys/fs/cgroup -name 'qvd*-77[78]' 2>/dev/null; cat /proc/mounts | grep vm/777; true")
# Not this hkd's to sweep.
OTHERS = r"find /sys/fs/cgroup -name 'qvd*-779' -o -name 'qvd*-780x' -o -name 'qvd-test-*-781'"


def test_what_a_crash_left_is_swept(node):
    node.stop_service('hkd', 'SIGKILL')
    node.run(['sh', '-c', CRASHED])
    before = node.run(['sh', '-c', LEFT]).stdout.split()
    assert len(before) >= 9, before
    others = node.run(['sh', '-c', OTHERS]).stdout
    assert len(others.split()) >= 3, others
    begin_hkd(node)
    wait_until(lambda: node.run(['sh', '-c', LEFT]).stdout == '', 20, 'nothing to be left')
    assert node.run(['sh', '-c', OTHERS]).stdout == others
    assert re.search(r'a cgroup of no VM: qvd-\d+-778 is swept', hkd.log(node))
    assert 'table bridge qvd' in node.run(['nft', 'list', 'ruleset']).stdout
    # One dnsmasq, and it is this hkd's.
    wait_until(lambda: len(node.run(['pgrep', '-x', 'dnsmasq'], check=False).stdout.split()) == 1,
               10, 'one dnsmasq')
