# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile root in a VM: what he can reach of the network, the node, its neighbours and the kernel.

Frames that he could not even send (he has no raw sockets) are sent for him by the host's root from
within his network namespace: the firewall must bear those as well.
"""

import functools
import os
import re
import shutil
import subprocess
import sys

import pytest

import frames
import hostile
from nodebox import GATEWAY, NodeBox, mac_of, wait_for

EVIL, NEIGHBOUR = 1, 2
EVIL_IP, NEIGHBOUR_IP = '10.3.15.51', '10.3.15.52'
MEMORY_MB = 128
PIDS_MAX = 64


@pytest.fixture(name='box', scope='module')
def _box():
    with NodeBox(settings=f'vm.lxc.pids.max = {PIDS_MAX}') as box:
        box.image = box.add_image()
        box.sh('sysctl -qw net.ipv4.ip_forward=1')
        driver = box.driver()
        for vm in (EVIL, NEIGHBOUR):
            driver.order('lease', vm, f'10.3.15.{50 + vm}', mac_of(f'10.3.15.{50 + vm}'))
            driver.start(vm, box.image, memory=MEMORY_MB)
            driver.expect('started', vm, timeout=60)
            driver.expect('ready', vm)
        with open(hostile.__file__, encoding='utf-8') as f:
            box.in_vm(EVIL, ['sh', '-c', 'cat >/root/hostile.py'], input=f.read())
        yield box
        for vm in (EVIL, NEIGHBOUR):
            driver.order('kill', vm)
            driver.expect('gone', vm)


def enter(box, vm, argv):
    """As the host's root in the network of the VM (None: of the node)."""
    return ['nsenter', '--target', str(box.init_pid(vm) if vm else box.pid), '--net', '--', *argv]


def in_net(box, vm, argv, **kwargs):
    """As the host's root in the VM's network: more than its own root may."""
    return subprocess.run(enter(box, vm, argv),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=30, **kwargs)


def send_frames(box, vm, code):
    frames.send_frames(functools.partial(enter, box, vm), code)


def Capture(box, expression, vm=None, interface='qvdnet0'):  # pylint: disable=invalid-name
    """What passes on the bridge, or in a VM's network."""
    return frames.Capture(functools.partial(enter, box, vm), expression,
                          'eth0' if vm else interface)


def evil_sh(box, text, **kwargs):
    return box.in_vm(EVIL, ['sh', '-c', text], check=False, **kwargs)


def test_his_first_process_is_nobody_on_the_host(box):
    with open(f'/proc/{box.init_pid(EVIL)}/status', encoding='utf-8') as f:
        status = f.read()
    assert int(re.search(r'^Uid:\s+(\d+)', status, re.M)[1]) >= 1000000
    assert re.search(r'^Seccomp:\s+2$', status, re.M)
    for name in ('user', 'pid', 'net', 'mnt', 'ipc', 'uts', 'cgroup'):
        own = os.readlink(f'/proc/{box.init_pid(EVIL)}/ns/{name}')
        assert own != os.readlink(f'/proc/{box.pid}/ns/{name}'), name


@pytest.mark.parametrize('name', sorted(set(hostile.ATTEMPTS) - {'raise_limits'}))
def test_what_he_tries_is_refused(box, name):
    answer = evil_sh(box, f'python3 /root/hostile.py {name}').stdout.split()
    assert answer[:2] == [name, 'refused'], answer
    assert box.in_vm(EVIL, ['true']).returncode == 0, 'the VM has not survived its attempt'


def test_no_limit_gives_way(box):
    """What he may write lies in cgroups below his own; the limits are above, out of his sight."""
    evil_sh(box, 'python3 /root/hostile.py raise_limits')
    limits = {}
    for top in box.cgroups():
        if top.endswith(f'-{EVIL}'):
            for name in ('memory.limit_in_bytes', 'memory.max', 'pids.max'):
                path = f'{top}/vm/{name}'
                if os.path.exists(path):
                    with open(path, encoding='ascii') as f:
                        limits[name] = f.read().strip()
    limits['memory'] = limits.pop('memory.limit_in_bytes', None) or limits.pop('memory.max')
    assert limits == {'memory': str(MEMORY_MB << 20), 'pids.max': str(PIDS_MAX)}


def test_honest_traffic_passes(box):
    bridge, own = Capture(box, f'src {EVIL_IP}'), Capture(box, f'dst {EVIL_IP}', vm=EVIL)
    assert evil_sh(box, f'ping -c2 -W2 {GATEWAY}').returncode == 0
    # A capture that sees nothing proves nothing elsewhere.
    assert bridge.stop() and own.stop()
    assert evil_sh(box, 'python3 - <<E\n'
                   'import socket, struct\n'
                   's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n'
                   's.sendto(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\0\\1\\0\\1",'
                   f' ("{GATEWAY}", 53))\n'
                   's.recv(512)\nE').returncode == 0, 'DNS of the node'


def test_hkds_ports_are_reached_by_root_and_broker_only(box):
    box.in_vm(EVIL, ['sh', '-c', 'for p in 3030 4100 22; do python3 -m http.server $p '
                                 '>/dev/null 2>&1 & done; sleep 1'])

    def dial(port, user='0'):
        return box.run(['setpriv', '--reuid', user, '--clear-groups', '--', sys.executable, '-c',
                        f'import socket; socket.create_connection(("{EVIL_IP}", {port}), 1)'],
                       check=False).returncode == 0
    wait_for(lambda: dial(3030), 10, 'the VM listens')
    assert dial(3030) and dial(4100)
    assert not dial(22), 'another port of a VM'
    assert not dial(3030, '65534') and not dial(4100, '65534'), 'another user of the node'


def test_his_neighbour_is_out_of_reach(box):
    box.in_vm(NEIGHBOUR, ['sh', '-c', 'python3 -m http.server 4100 >/dev/null 2>&1 & sleep 0.5'])
    capture = Capture(box, f'host {EVIL_IP} or ether src {mac_of(EVIL_IP)}', vm=NEIGHBOUR)
    assert evil_sh(box, f'ping -c2 -W1 {NEIGHBOUR_IP}').returncode != 0
    assert evil_sh(box, f'ip neigh replace {NEIGHBOUR_IP} lladdr {mac_of(NEIGHBOUR_IP)} dev eth0;'
                        f'ping -c2 -W1 {NEIGHBOUR_IP}').returncode != 0
    # Routed by the gateway: it has forwarding on.
    gateway_mac = box.sh('cat /sys/class/net/qvdnet0/address').strip()
    assert evil_sh(box, f'ip neigh replace {NEIGHBOUR_IP} lladdr {gateway_mac} dev eth0;'
                        f'ping -c2 -W1 {NEIGHBOUR_IP}').returncode != 0
    evil_sh(box, f'ip neigh del {NEIGHBOUR_IP} dev eth0')
    evil_sh(box, 'ping -b -c1 -W1 255.255.255.255')
    assert capture.stop() == []


def test_the_nodes_ports_are_closed(box):
    listen = subprocess.Popen(box.inside([sys.executable, '-m', 'http.server', '8443', '--bind',
                                          '0.0.0.0']), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: ':8443' in box.sh('ss -ltn'), what='a service of the node')
        box.sh('ip addr add 10.9.9.9/32 dev lo; ip addr add 10.3.15.2/24 dev qvdnet0')
        for address in (GATEWAY, '10.3.15.2', '10.9.9.9'):
            assert evil_sh(box, 'python3 -c \'import socket; socket.create_connection('
                                f'("{address}", 8443), 1)\'').returncode != 0, address
    finally:
        listen.kill()
        listen.wait()
        box.sh('ip addr del 10.9.9.9/32 dev lo; ip addr del 10.3.15.2/24 dev qvdnet0', check=False)


def test_other_nodes_and_ipv6_are_closed(box):
    capture = Capture(box, 'ip6 or host 10.3.15.9', interface='qvdnet0')
    assert evil_sh(box, 'ping -c1 -W1 10.3.15.9').returncode != 0
    evil_sh(box, 'ping -6 -c1 -W1 ff02::1%eth0')  # he hears himself
    lines = capture.stop()
    assert not [line for line in lines if 'IPv6' in line or 'ICMP' in line], lines


def test_a_false_address(box):
    capture = Capture(box, 'host 10.3.15.99')
    assert evil_sh(box, 'ip addr add 10.3.15.99/24 dev eth0 && '
                        f'ping -I 10.3.15.99 -c2 -W1 {GATEWAY}').returncode != 0
    assert capture.stop() == []
    evil_sh(box, 'ip addr del 10.3.15.99/24 dev eth0')
    assert evil_sh(box, f'ping -c1 -W2 {GATEWAY}').returncode == 0


def test_a_false_hardware_address(box):
    own = mac_of(EVIL_IP)
    capture = Capture(box, 'ether src 54:52:00:aa:bb:cc or ether src ' + mac_of(NEIGHBOUR_IP))
    for false in ('54:52:00:aa:bb:cc', mac_of(NEIGHBOUR_IP)):
        assert evil_sh(box, f'ip link set eth0 address {false}').returncode == 0
        assert evil_sh(box, f'ping -c2 -W1 {GATEWAY}').returncode != 0
    assert capture.stop() == []
    assert mac_of(NEIGHBOUR_IP) not in box.sh('bridge fdb show dev qvd1'), 'learned from a lie'
    evil_sh(box, f'ip link set eth0 address {own}')
    evil_sh(box, f'ip route replace default via {GATEWAY}')
    assert wait_for(lambda: evil_sh(box, f'ping -c1 -W1 {GATEWAY}').returncode == 0,
                    what='honest again')


def test_arp_for_anothers_address(box):
    """Frames made by hand: gratuitous ARP, replies and requests with others' addresses."""
    own, other = mac_of(EVIL_IP), mac_of(NEIGHBOUR_IP)
    capture = Capture(box, 'arp')
    victim = Capture(box, 'arp', vm=NEIGHBOUR)
    everyone = 'ff:ff:ff:ff:ff:ff'
    send_frames(box, EVIL, f'''
for spa in ('{NEIGHBOUR_IP}', '{GATEWAY}', '10.3.15.200'):
    for op in (1, 2):
        frame('{everyone}', '{own}', 0x806, arp(op, '{own}', spa, '{everyone}', spa))
        frame('{everyone}', '{own}', 0x806, arp(op, '{own}', spa, '{other}', '{NEIGHBOUR_IP}'))
frame('{everyone}', '{own}', 0x806, arp(2, '{other}', '{EVIL_IP}', '{everyone}', '{EVIL_IP}'))
frame('{everyone}', '{own}', 0x806, arp(2, '{own}', '0.0.0.0', '{everyone}', '{GATEWAY}'))
frame('{everyone}', '{own}', 0x806, b'\\0' * 8)
''')
    assert capture.stop() == []
    assert victim.stop() == []
    assert f'{EVIL_IP} dev qvdnet0 lladdr {own} PERMANENT' in box.sh('ip neigh')
    assert f'{NEIGHBOUR_IP} dev qvdnet0 lladdr {other} PERMANENT' in box.sh('ip neigh')


def test_frames_of_other_kinds(box):
    own, other = mac_of(EVIL_IP), mac_of(NEIGHBOUR_IP)
    gateway = box.sh('cat /sys/class/net/qvdnet0/address').strip()
    # The bridge sees his honest ones before it drops what is not for the node.
    capture = Capture(box, f'not ether src {gateway} and not (ether src {own} and src {EVIL_IP})')
    victim = Capture(box, f'ether src {own}', vm=NEIGHBOUR)
    send_frames(box, EVIL, f'''
frame('01:80:c2:00:00:00', '{own}', 38, b'\\x42\\x42\\x03' + b'\\0' * 35)
frame('{other}', '{own}', 0x88cc, b'\\0' * 46)
frame('{other}', '{own}', 0x800, packet('{EVIL_IP}', '{NEIGHBOUR_IP}', 17, udp(1, 4100, b'x')))
frame('{other}', '{own}', 0x800, packet('{GATEWAY}', '{NEIGHBOUR_IP}', 17, udp(1, 4100, b'x')))
frame('{gateway}', '{own}', 0x800, packet('{NEIGHBOUR_IP}', '{GATEWAY}', 17, udp(1, 53, b'x')))
frame('{gateway}', '{own}', 0x8100, b'\\0\\1\\x08\\0' + packet('{EVIL_IP}', '{GATEWAY}', 17,
      udp(1, 53, b'x')))
frame('{gateway}', '{own}', 0x86dd, b'\\x60' + b'\\0' * 60)
''')
    assert capture.stop() == []
    assert victim.stop() == []


def test_his_own_dhcp_server(box):
    own = mac_of(EVIL_IP)
    victim = Capture(box, 'udp port 67 or udp port 68', vm=NEIGHBOUR)
    bridge = Capture(box, f'udp port 68 and ether src {own}')
    send_frames(box, EVIL, f'''
offer = bytes([2, 1, 6, 0]) + b'\\0' * 232 + b'\\x63\\x82\\x53\\x63' + bytes([53, 1, 2, 255])
for src in ('{EVIL_IP}', '{GATEWAY}', '0.0.0.0'):
    for dst in ('255.255.255.255', '{NEIGHBOUR_IP}'):
        frame('ff:ff:ff:ff:ff:ff', '{own}', 0x800, packet(src, dst, 17, udp(67, 68, offer)))
''')
    assert victim.stop() == []
    assert bridge.stop() == []


def test_dhcp_gives_the_fixed_address_and_no_other_vm_hears_the_question(box):
    own = mac_of(EVIL_IP)
    victim = Capture(box, 'udp dst port 67', vm=NEIGHBOUR)
    answers = Capture(box, 'udp src port 67', vm=EVIL)
    send_frames(box, EVIL, f'''
discover = (bytes([1, 1, 6, 0]) + b'abcd' + b'\\0\\0\\x80\\0' + b'\\0' * 16 + mac('{own}') + b'\\0' * 202
            + b'\\x63\\x82\\x53\\x63' + bytes([53, 1, 1, 255]))
frame('ff:ff:ff:ff:ff:ff', '{own}', 0x800,
      packet('0.0.0.0', '255.255.255.255', 17, udp(68, 67, discover)))
''')
    got = answers.stop()
    assert got and GATEWAY + '.67' in got[0], got
    assert victim.stop() == []


def test_twice_the_memory_is_killed_and_the_vm_goes_on(box):
    init = box.init_pid(EVIL)
    done = evil_sh(box, 'python3 -c "'
                        f'b = bytearray({2 * MEMORY_MB} << 20)\n'
                        'for i in range(0, len(b), 4096): b[i] = 1\n"')
    assert done.returncode in (137, -9), done
    assert box.init_pid(EVIL) == init
    assert evil_sh(box, f'ping -c1 -W2 {GATEWAY}').returncode == 0
    # A file in memory counts as well.
    done = evil_sh(box, f'dd if=/dev/zero of=/tmp/big bs=1M count={2 * MEMORY_MB} 2>&1; rm -f /tmp/big')
    assert box.init_pid(EVIL) == init
    assert box.in_vm(NEIGHBOUR, ['true']).returncode == 0


def test_a_fork_bomb_stops_at_pids_max(box):
    done = evil_sh(box, 'python3 - <<E\n'
                   'import os, signal\n'
                   'children = []\n'
                   'try:\n'
                   '    while len(children) < 5000:\n'
                   '        pid = os.fork()\n'
                   '        if pid == 0: signal.pause()\n'
                   '        children.append(pid)\n'
                   'except OSError as e:\n'
                   '    print(e.errno, len(children), flush=True)\n'
                   'for pid in children: os.kill(pid, 9)\n'
                   'E', timeout=60)
    code, count = (int(n) for n in done.stdout.split())
    assert code == 11 and count < PIDS_MAX, done.stdout  # EAGAIN
    assert box.in_vm(EVIL, ['true']).returncode == 0
    assert box.in_vm(NEIGHBOUR, ['true']).returncode == 0


def test_a_long_console_does_not_fill_the_disk(box):
    evil_sh(box, 'dd if=/dev/zero bs=64k count=160 2>/dev/null | tr "\\0" x >/dev/console')
    folder = f'{box.dir}/log/lxc'
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)
               if name.startswith('qvd-1.console'))
    assert 0 < size < 4 << 20, size


def test_his_tree_gives_nobody_on_the_node_a_setuid_program(box):
    evil_sh(box, 'cp /bin/sh /root/sh; chown 0:0 /root/sh; chmod 6755 /root/sh')
    program = box.overlay(EVIL) + '/upper/root/sh'
    assert os.stat(program).st_uid == 1000000
    with pytest.raises(PermissionError):
        subprocess.run([program, '-c', 'true'], check=False, user=65534, group=65534,
                       extra_groups=[])
    assert os.stat(f'{box.storage}/basefs').st_mode & 0o777 == 0o700


def test_a_link_in_his_tree_leads_nobody_of_the_host_outside(box):
    evil_sh(box, 'ln -sf /etc/shadow /root/shadow; mount -t tmpfs x /mnt')
    assert os.readlink(box.overlay(EVIL) + '/upper/root/shadow') == '/etc/shadow'
    with open(f'/proc/{box.pid}/mountinfo', encoding='utf-8') as f:
        assert 'overlayfs' not in f.read()


assert shutil.which('tcpdump'), 'tcpdump is missing: tools/install-deps test'
