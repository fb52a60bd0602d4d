# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real nodes: two networks, two /run, two hkd and L7R, one database, one storage, their bridges
joined by a cable. What somebody outside sees of who runs where is kept by a judge (judge.py)."""

import os
import re
import subprocess

import pytest

import frames
import hkd
import judge
from farm import wait_until
from frames import EVERYONE, mac_of
from test_desktop import in_session, wait_desktop, wait_disconnected

FARM = {'image': 'minimal', 'users': ['alice', 'bob', 'carol'], 'nodes': 2, 'judge': True,
        'osf': {'user_storage_size': '100', 'memory': '300'}}
SIZE = '800x600'


def nodes_of(farm):
    """name -> number of the node that each VM is on."""
    return {name: name_of_node for name, name_of_node in farm.psql(
        'SELECT v.name, h.name FROM vms v JOIN vm_runtimes r ON r.vm_id = v.id'
        ' JOIN hosts h ON h.id = r.host_id')}


def start_on(farm, number, *logins):
    """The administrator's way to choose a node: the others are blocked meanwhile."""
    others = [n.nodename for n in farm.all_nodes() if n.number != number]
    for name in others:
        farm.qa('host', 'block', '-f', f'name={name}')
    for login in logins:
        farm.qa('vm', 'start', '-f', f'name={login}')
    for name in others:
        farm.qa('host', 'unblock', '-f', f'name={name}')


def stop(farm, *logins):
    for login in logins:
        farm.qa('vm', 'stop', '-f', f'name={login}', '--yes')
    for login in logins:
        farm.wait_vm(login, 'stopped')


def place(farm, **wanted):
    """Sees to it that each VM runs on the node of that number."""
    there = nodes_of(farm)
    wrong = [login for login, number in wanted.items()
             if there.get(login) != f'node{number}' or farm.vm_row(login)['state'] != 'running']
    stop(farm, *[login for login in wrong if login in there])
    for login in wrong:
        start_on(farm, wanted[login], login)
    for login in wrong:
        farm.wait_vm(login, 'running')


def inside(node, login):
    """The network of the VM, by the host's root: more than its own root may."""
    vm = node.vm_row(login)['id']
    pid = node.run(['lxc-info', '-P', '/run/qvd/lxc', '-n', f'qvd-{vm}', '-p', '-H']).stdout
    return network(hkd.host_pid(node, int(pid)))


def network(pid):
    return lambda argv: ['nsenter', '--target', str(pid), '--net', '--', *argv]


def vm_sh(node, login, text, **kwargs):
    return node.in_vm(node.vm_row(login)['id'], ['sh', '-c', text], check=False, **kwargs)


def dialled(node, login, targets):
    """Those that a VM gets a connection to, all tried at once."""
    code = f'''
import select, socket
poll, all = select.poll(), {{}}
for target in {targets!r}:
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(target)
    all[s.fileno()] = s, target
    poll.register(s, select.POLLOUT)
while all:
    ready = poll.poll(1000)
    if not ready:
        break
    for fd, _ in ready:
        s, target = all.pop(fd)
        poll.unregister(fd)
        if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print("%s:%d" % target)
'''
    done = node.in_vm(node.vm_row(login)['id'], ['python3', '-c', code])
    return done.stdout.split()


def dial(run, address, port, **kwargs):
    return run(['/usr/bin/python3', '-c', 'import socket; socket.create_connection('
                f'("{address}", {port}), 2)'], check=False, **kwargs).returncode == 0


def test_both_unpack_one_image_at_once_and_one_does(farm):
    farm.qa('host', 'block', '-f', 'name=node2')
    farm.qa('vm', 'start', '-f', 'name=alice')
    farm.qa('host', 'block', '-f', 'name=node1')
    farm.qa('host', 'unblock', '-f', 'name=node2')
    farm.qa('vm', 'start', '-f', 'name=bob')
    farm.qa('host', 'unblock', '-f', 'name=node1')
    for login in ('alice', 'bob'):
        farm.wait_vm(login, 'running')
    assert nodes_of(farm) == {'alice': 'node1', 'bob': 'node2'}
    unpacked = [name for name in os.listdir(farm.path('lib/storage/basefs'))
                if not name.startswith('lock.')]
    assert len(unpacked) == 1 and unpacked[0].endswith('.tar.zst'), unpacked
    assert judge.check(farm) == 2


def test_a_user_enters_at_one_node_and_his_vm_runs_on_the_other(farm, xserver):
    place(farm, alice=1, bob=2)
    for login, entry in (('bob', farm), ('alice', farm.node(2))):
        with entry.client(login, xserver.display, '-g', SIZE):
            wait_desktop(xserver)
            assert farm.vm_row(login)['user_state'] == 'connected'
        wait_disconnected(farm, login)
    assert nodes_of(farm) == {'alice': 'node1', 'bob': 'node2'}
    # From the same desktop to the other entrance: it is the same desktop.
    with farm.client('bob', xserver.display, '-g', SIZE):
        wait_desktop(xserver)
        with farm.node(2).client('bob', xserver.display, '-g', SIZE) as second:
            wait_until(lambda: farm.psql(
                "SELECT h.name FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id JOIN l7r_instances l"
                " ON l.id = r.l7r_instance_id JOIN hosts h ON h.id = l.host_id WHERE v.name = 'bob' AND user_state = 'connected'")
                == [['node2']], 20, 'the session to have moved to the other entrance')
            assert second.poll() is None
    wait_disconnected(farm, 'bob')


def test_limits_and_rules_hold_on_both(farm):
    place(farm, alice=1, bob=2)
    for node, login in ((farm, 'alice'), (farm.node(2), 'bob')):
        row = node.vm_row(login)
        ruleset = node.run(['nft', 'list', 'ruleset']).stdout
        assert f'"qvd{row["id"]}" . {mac_of(row["ip"])} . {row["ip"]}' in ruleset
        limits = []
        for _, _, _, folder in node.cgroup_folders():
            for top, _, files in os.walk(folder):
                if re.search(rf'qvd-\d+-{row["id"]}/vm$', top):
                    for name in files:
                        if name in ('memory.limit_in_bytes', 'memory.max', 'pids.max'):
                            with open(os.path.join(top, name), encoding='ascii') as f:
                                limits.append(f.read().strip())
        assert sorted(limits) == ['1024', str(300 << 20)], limits
        # What the other's VM may not do here is nobody's here.
        other = node.vm_row('bob' if login == 'alice' else 'alice')
        assert f'"qvd{other["id"]}"' not in ruleset


def test_no_vm_reaches_a_vm_of_the_other_node(farm):
    place(farm, alice=1, bob=2)
    ips = {login: farm.vm_row(login)['ip'] for login in ('alice', 'bob')}
    for login, node, other, far in (('alice', farm, 'bob', farm.node(2)),
                                    ('bob', farm.node(2), 'alice', farm)):
        vm_sh(far, other, 'python3 -m http.server 4101 >/dev/null 2>&1 & sleep 0.5')
        seen = frames.Capture(inside(far, other), f'host {ips[login]} or '
                                                  f'ether src {mac_of(ips[login])}')
        assert vm_sh(node, login, f'ping -c1 -W1 {ips[other]}').returncode != 0
        for hop in (mac_of(ips[other]),
                    farm.run(['cat', '/sys/class/net/qvdnet0/address']).stdout.strip(),
                    far.run(['cat', '/sys/class/net/qvdnet0/address']).stdout.strip()):
            assert vm_sh(node, login, f'ip neigh replace {ips[other]} lladdr {hop} dev eth0; '
                                      f'ping -c1 -W1 {ips[other]}').returncode != 0
            assert dialled(node, login, [(ips[other], port) for port in (3030, 4100, 4101)]) == []
        vm_sh(node, login, f'ip neigh del {ips[other]} dev eth0')
        assert seen.stop() == []
        # A capture that would see nothing proves nothing: its own node is heard there.
        seen = frames.Capture(inside(far, other), 'tcp port 3030')
        assert dial(node.run, ips[other], 3030), 'the other node may dial'
        assert seen.stop()
        # No port but the two, and for no user but root and the broker.
        assert not dial(node.run, ips[other], 4101)
        assert not dial(node.run, ips[other], 3030, user='nobody')


def test_what_a_vm_may_ask_of_the_nodes(farm):
    """The gateway's DNS and echo, wherever that is; no other service of any node."""
    place(farm, alice=1, bob=2)
    services = [subprocess.Popen(network(node.pid)(['/usr/bin/python3', '-m', 'http.server',
                                                    '8443']), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for node in farm.all_nodes()]
    try:
        for node in farm.all_nodes():
            wait_until(lambda n=node: ':8443' in n.run(['ss', '-ltn']).stdout, 10, 'a service')
        for node, login in ((farm, 'alice'), (farm.node(2), 'bob')):
            assert vm_sh(node, login, 'ping -c1 -W2 10.3.15.1').returncode == 0
            assert dialled(node, login, [('10.3.15.1', 8443), ('10.3.15.2', 8443)]) == []
            assert dialled(node, login, [('10.3.15.1', 53)]) == ['10.3.15.1:53']
    finally:
        for service in services:
            service.kill()
            service.wait()


def test_nothing_false_leaves_for_the_other_node(farm):
    """IP, hardware address, ARP, IPv6 and a DHCP server of a VM: seen on the cable's other end."""
    place(farm, alice=1, bob=2)
    row, alice = farm.vm_row('bob'), farm.vm_row('alice')
    own, other = mac_of(row['ip']), mac_of(alice['ip'])
    gateway = farm.run(['cat', '/sys/class/net/qvdnet0/address']).stdout.strip()
    cable = frames.Capture(network(farm.pid), 'not tcp and not (arp or udp port 53 or icmp and src '
                                         f'{row["ip"]} and dst 10.3.15.1)', 'up2')
    arps = frames.Capture(network(farm.pid), f'arp and ether src {own}', 'up2')
    victim = frames.Capture(inside(farm, 'alice'), f'ether src {own} or ether src {other} and '
                                                   'udp and dst host 10.3.15.1 or udp port 68')
    frames.send_frames(inside(farm.node(2), 'bob'), f'''
frame('{gateway}', '{own}', 0x800, packet('{alice["ip"]}', '10.3.15.1', 17, udp(1, 53, b'x')))
frame('{gateway}', '{other}', 0x800, packet('{alice["ip"]}', '10.3.15.1', 17, udp(1, 53, b'x')))
frame('{gateway}', '54:52:00:aa:bb:cc', 0x800, packet('{row["ip"]}', '10.3.15.1', 17, udp(1, 53, b'')))
frame('{other}', '{own}', 0x800, packet('{row["ip"]}', '{alice["ip"]}', 17, udp(1, 4100, b'x')))
frame('{other}', '{own}', 0x800, packet('10.3.15.2', '{alice["ip"]}', 17, udp(1, 3030, b'x')))
for spa in ('{alice["ip"]}', '10.3.15.1', '10.3.15.2', '10.3.15.200'):
    for op in (1, 2):
        frame('{EVERYONE}', '{own}', 0x806, arp(op, '{own}', spa, '{EVERYONE}', spa))
        frame('{other}', '{own}', 0x806, arp(op, '{own}', spa, '{other}', '{alice["ip"]}'))
for src in ('{row["ip"]}', '10.3.15.1', '0.0.0.0'):
    frame('{EVERYONE}', '{own}', 0x800, packet(src, '255.255.255.255', 17, udp(67, 68, offer())))
    frame('{other}', '{own}', 0x800, packet(src, '{alice["ip"]}', 17, udp(67, 68, offer())))
frame('33:33:00:00:00:01', '{own}', 0x86dd, b'\\x60' + b'\\0' * 60)
''')
    assert cable.stop() == []
    honest = (f'tell {row["ip"]}', f'Reply {row["ip"]} is-at {own}')
    assert [line for line in arps.stop() if not any(h in line for h in honest)] == []
    assert victim.stop() == []
    fdb = farm.run(['bridge', 'fdb', 'show', 'dev', 'up2']).stdout
    assert other not in fdb and 'aa:bb:cc' not in fdb, 'learned from a lie'


def test_dhcp_is_answered_by_the_own_node_and_never_crosses(farm):
    """Each node has the leases of the whole cluster."""
    place(farm, alice=1, bob=2)
    for node, login in ((farm, 'alice'), (farm.node(2), 'bob')):
        ip = node.vm_row(login)['ip']
        cable = frames.Capture(network(farm.pid), 'udp port 67 or udp port 68', 'up2')
        answers = frames.Capture(inside(node, login), 'udp src port 67')
        frames.send_frames(inside(node, login), f'''
frame('{EVERYONE}', '{mac_of(ip)}', 0x800,
      packet('0.0.0.0', '255.255.255.255', 17, udp(68, 67, discover('{mac_of(ip)}'))))
''')
        lines = answers.stop()
        assert lines and f'{node.node_address}.67 > ' in lines[0], lines
        assert cable.stop() == []
        leases = [open(node.path('run/dhcp/hosts', name), encoding='ascii').read().strip()
                  for name in os.listdir(node.path('run/dhcp/hosts'))]
        assert sorted(leases) == sorted(f'{mac_of(ip)},{ip}' for ip in (
            farm.vm_row(name)['ip'] for name in ('alice', 'bob', 'carol')))


def test_a_vm_moves_with_its_home_and_is_reached_at_once(farm, xserver):
    place(farm, carol=1)
    with farm.client('carol', xserver.display, '-g', SIZE):
        wait_desktop(xserver)
        in_session(farm, 'carol', 'sh', '-c', 'echo kept >~/marker')
    wait_disconnected(farm, 'carol')
    vm = farm.vm_row('carol')
    stop(farm, 'carol')
    start_on(farm, 2, 'carol')
    farm.wait_vm('carol', 'running')
    assert nodes_of(farm)['carol'] == 'node2'
    # The other bridge knew it at a port of its own; now it has heard where it is.
    port = f'qvd{vm["id"]}'
    assert f'{mac_of(vm["ip"])} dev up2' in farm.run(['bridge', 'fdb', 'show']).stdout
    assert farm.run(['ip', 'link', 'show', port], check=False).returncode != 0
    assert dial(farm.run, vm['ip'], 3030)
    with farm.client('carol', xserver.display, '-g', SIZE):
        wait_desktop(xserver)
        assert in_session(farm.node(2), 'carol', 'cat', '/home/carol/marker').stdout == 'kept\n'
    wait_disconnected(farm, 'carol')
    # And back.
    stop(farm, 'carol')
    start_on(farm, 1, 'carol')
    farm.wait_vm('carol', 'running')
    assert dial(farm.node(2).run, vm['ip'], 3030)
    assert vm_sh(farm, 'carol', 'cat /home/carol/marker').stdout == 'kept\n'
    judge.check(farm)


def test_a_blocked_node(farm):
    """It takes no new VM; what runs there runs on; who wants to its VMs hears that it is away."""
    place(farm, bob=2)
    stop(farm, *[login for login in ('alice', 'carol') if login in nodes_of(farm)])
    farm.qa('host', 'block', '-f', 'name=node2')
    try:
        for login in ('alice', 'carol'):
            farm.qa('vm', 'start', '-f', f'name={login}')
            farm.wait_vm(login, 'running')
        assert {nodes_of(farm)[login] for login in ('alice', 'carol')} == {'node1'}
        assert farm.vm_row('bob')['state'] == 'running'
        for node in farm.all_nodes():
            answer = subprocess.run(
                ['curl', '-s', '--cacert', farm.path('ca.pem'), '-u', f'bob:{farm.users["bob"]}',
                 '-D', '-', '-o', '/dev/null', '-H', 'Connection: Upgrade', '-H', 'Upgrade: QVD/1.0',
                 f'https://127.0.0.1:{node.l7r_port}/qvd/connect_to_vm?id={farm.vm_row("bob")["id"]}'],
                stdout=subprocess.PIPE, text=True, check=False, timeout=20).stdout
            assert ' 503 ' in answer.splitlines()[-1] or '503' in answer, answer
    finally:
        farm.qa('host', 'unblock', '-f', 'name=node2')
    judge.check(farm)


def test_a_lying_database_starts_no_vm_twice(farm):
    """The row says that it is stopped: the other node, ordered to start it, finds its home taken."""
    place(farm, alice=1)
    vm = farm.vm_row('alice')['id']
    before = judge.check(farm)
    farm.node(1).stop_service('hkd')
    try:
        farm.psql("SET qvd.notify = off; UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = 'start', host_id = (SELECT id"
                  f" FROM hosts WHERE name = 'node2') WHERE vm_id = {vm}")
        wait_until(lambda: farm.psql('SELECT blocked_reason FROM vm_runtimes'
                                     f' WHERE vm_id = {vm} AND blocked'), 30, 'the start to fail')
        reason = farm.psql(f'SELECT blocked_reason FROM vm_runtimes WHERE vm_id = {vm}')[0][0]
        assert 'in use by another' in reason, reason
        assert judge.check(farm) == before
        assert farm.in_vm(vm, ['true'], check=False).returncode == 0, 'it runs on'
    finally:
        farm.node(1).start_service('hkd')


@pytest.fixture(scope='module', autouse=True)
def _judged(farm):
    yield
    assert judge.check(farm) > 1
