# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator sets of the VMs' network and storage, with real LXC: the way out, name
servers, programs of others, disks that are full, and what the node says when it cannot work."""

import os
import subprocess
import sys

import pytest

import frames
import hkd
from farm import FarmError, installed_tree, make_farm
from frames import EVERYONE
from nodebox import GATEWAY, NodeBox, mac_of, wait_for

SETTINGS = '''vm.network.firewall.nat.iface = out0
vm.network.dns_server = 192.0.2.53, 192.0.2.54
vm.network.domain = desks.example
'''
WORLD, OUTSIDE = '203.0.113.9', '203.0.113.2'


@pytest.fixture(name='box', scope='module')
def _box():
    with NodeBox(settings=SETTINGS) as box:
        box.image = box.add_image()
        # Beyond the node: a server that knows the node's outer address and no VM's.
        box.sh('ip netns add world && ip link add out0 type veth peer name in0 netns world && '
               f'ip addr add {OUTSIDE}/24 dev out0 && ip link set out0 up && '
               f'ip -n world addr add {WORLD}/24 dev in0 && ip -n world link set in0 up && '
               'sysctl -qw net.ipv4.ip_forward=1')
        driver = box.driver()
        driver.order('lease', 1, '10.3.15.51', mac_of('10.3.15.51'))
        driver.start(1, box.image)
        driver.expect('ready', 1, timeout=90)
        yield box
        box.drivers[-1].order('kill', 1)
        box.drivers[-1].expect('gone', 1)


def test_a_vm_reaches_a_server_beyond_the_node_under_the_nodes_address(box):
    server = subprocess.Popen(
        box.inside(['ip', 'netns', 'exec', 'world', sys.executable, '-u', '-c',
                    'import socket\ns = socket.create_server(("", 80))\nprint("up")\n'
                    'while True:\n c, a = s.accept(); print(a[0]); c.send(b"hello"); c.close()']),
        stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == 'up\n'
        said = box.in_vm(1, ['python3', '-c', 'import socket; print(socket.create_connection('
                             f'("{WORLD}", 80), 5).recv(9).decode())']).stdout
        assert said == 'hello\n'
        assert server.stdout.readline() == OUTSIDE + '\n', 'not under the address of the node'
        # Nobody out there reaches in, not even by a route.
        box.sh(f'ip -n world route add 10.3.15.0/24 via {OUTSIDE}')
        box.in_vm(1, ['sh', '-c', 'python3 -m http.server 4100 >/dev/null 2>&1 & sleep 0.5'])
        for port in (3030, 4100):
            assert box.run(['ip', 'netns', 'exec', 'world', sys.executable, '-c',
                            'import socket; socket.create_connection(("10.3.15.51", '
                            f'{port}), 1)'], check=False).returncode != 0
    finally:
        for pid in box.children(server.pid):
            os.kill(pid, 9)
        server.wait()


def test_name_servers_and_domain_reach_the_guest(box):
    assert box.vm_sh(1, 'cat /etc/resolv.conf') == (
        'search desks.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n')
    # The same by DHCP, for images that ask.
    def enter(argv):
        return ['nsenter', '--target', str(box.init_pid(1)), '--net', '--', *argv]
    capture = subprocess.Popen(enter(['tcpdump', '-lnnvvei', 'eth0', '-c1', 'udp src port 67']),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in capture.stderr:
        if 'listening on' in line:
            break
    own = mac_of('10.3.15.51')
    frames.send_frames(enter, f'''
frame('{EVERYONE}', '{own}', 0x800,
      packet('0.0.0.0', '255.255.255.255', 17, udp(68, 67, discover('{own}'))))
''')
    text = capture.communicate(timeout=10)[0]
    assert 'Your-IP 10.3.15.51' in text
    assert '192.0.2.53,192.0.2.54' in text.replace(' ', '') and 'desks.example' in text, text
    assert f'Default-Gateway (3), length 4: {GATEWAY}' in text


def test_forwarding_that_is_off_is_told(box):
    box.drivers[-1].quit()
    box.sh('sysctl -qw net.ipv4.ip_forward=0')
    try:
        driver = box.driver()
        assert 'net.ipv4.ip_forward is 0' in ' '.join(driver.events)
    finally:
        box.sh('sysctl -qw net.ipv4.ip_forward=1')
    driver.order('adopt', 1)
    driver.expect('adopted', 1)


def test_a_restart_writes_no_lease_anew(box):
    """dnsmasq would tell of a duplicate for each file that is written while it runs."""
    path = box.dir + '/run' if os.path.isdir(box.dir + '/run/dhcp') else f'/proc/{box.pid}/root/run'
    hosts = f'{path}/qvd/dhcp/hosts'
    before = {name: os.stat(f'{hosts}/{name}').st_mtime_ns for name in os.listdir(hosts)}
    assert before
    box.drivers[-1].quit()
    driver = box.driver()
    driver.order('lease', 1, '10.3.15.51', mac_of('10.3.15.51'))
    driver.order('adopt', 1)
    driver.expect('adopted', 1)
    assert {n: os.stat(f'{hosts}/{n}').st_mtime_ns for n in os.listdir(hosts)} == before


def test_a_bridge_that_has_gone_is_told(box):
    driver = box.drivers[-1]
    box.sh('ip link set qvdnet0 name lost0 2>/dev/null || '
           '(ip link set qvdnet0 down; ip link set qvdnet0 name lost0)')
    try:
        driver.start(2, box.image)
        assert 'qvdnet0' in driver.expect('gone', 2, 'failed', timeout=30)
    finally:
        box.sh('ip link set lost0 down; ip link set lost0 name qvdnet0; ip link set qvdnet0 up')
    driver.start(2, box.image)
    driver.expect('started', 2, timeout=30)
    driver.order('kill', 2)
    driver.expect('gone', 2)
    assert box.traces(2) == []


def test_a_firewall_that_has_gone_is_told(box):
    """A VM's elements are hkd's own messages, not nft's: nft must read them as its own."""
    driver = box.drivers[-1]
    box.sh('nft delete table bridge qvd')
    driver.start(2, box.image)
    said = driver.expect('gone', 2, 'failed', timeout=30)
    assert 'nft list table bridge qvd' in said and 'restart of qvd-hkd' in said
    assert box.traces(2) == []
    driver.quit()
    driver = box.driver()
    driver.order('adopt', 1)
    driver.expect('adopted', 1)
    driver.start(2, box.image)
    driver.expect('started', 2, timeout=30)
    for vm, ip in ((1, '10.3.15.51'), (2, '10.3.15.52')):
        assert f'"qvd{vm}" . {mac_of(ip)}' in box.nft('set', 'bridge', 'qvd', 'macs')
        assert f'"qvd{vm}" . {mac_of(ip)} . {ip}' in box.nft('set', 'bridge', 'qvd', 'addresses')
        assert f'{ip} dev qvdnet0 lladdr {mac_of(ip)} PERMANENT' in box.sh('ip neigh')
    driver.order('kill', 2)
    driver.expect('gone', 2)
    assert box.traces(2) == []


@pytest.fixture(name='idle', scope='module')
def _idle():
    """A box in which no driver runs for long."""
    with NodeBox() as box:
        box.image = box.add_image()
        yield box


@pytest.mark.parametrize('key, program', [
    ('command.nft', '/usr/sbin/nft'), ('command.ip', '/usr/sbin/ip'),
    ('command.dhcpd', '/usr/sbin/dnsmasq'), ('command.lxc-start', '/usr/bin/lxc-start')])
def test_a_program_of_others_must_be_there_and_roots(idle, key, program):
    def said(path):
        with open(idle.settings, encoding='utf-8') as f:
            kept = f.read()
        with open(idle.settings, 'a', encoding='utf-8') as f:
            f.write(f'{key} = {path}\n')
        try:
            return idle.run([idle.program('node-driver'), idle.settings, idle.libexec, idle.data],
                            check=False, stdin=subprocess.DEVNULL).stdout
        finally:
            with open(idle.settings, 'w', encoding='utf-8') as f:
                f.write(kept)
    copy = idle.dir + '/copy'
    assert f'{key}: there is no /nowhere' in said('/nowhere')
    assert f'{key}: /etc is no program' in said('/etc')
    subprocess.run(['cp', '-L', program, copy], check=True)
    os.chmod(copy, 0o757)
    assert f'{key}: others than root may change {copy}' in said(copy)
    os.chmod(copy, 0o755)
    os.chown(copy, 1, 0)
    assert f'{key}: others than root may change {copy}' in said(copy)
    os.chown(copy, 0, 0)
    assert key not in said(copy)


def small_disk(box, name, size):
    box.sh(f'mkdir -p {box.storage}/{name} && mount -t tmpfs -o size={size},mode=0700 small '
           f'{box.storage}/{name}')


def in_storage(box, name):
    return sorted(n for n in box.sh(f'ls -A {box.storage}/{name}').split()
                  if not n.startswith('lock.'))


def test_a_disk_that_is_full_while_unpacking(idle):
    small_disk(idle, 'basefs', '20m')
    driver = idle.driver()
    try:
        for _ in range(2):
            driver.start(1, idle.image)
            said = driver.expect('gone', 1, 'failed', timeout=90)
            assert idle.image in said and 'disk is full' in said and 'path.storage.basefs' in said
            assert in_storage(idle, 'basefs') == [], 'a half image is left'
            assert idle.traces(1) == []
        idle.sh(f'mount -o remount,size=2g {idle.storage}/basefs')
        driver.start(1, idle.image)
        driver.expect('started', 1, timeout=90)
        assert in_storage(idle, 'basefs') == [idle.image]
        driver.order('kill', 1)
        driver.expect('gone', 1)
    finally:
        driver.quit()
        idle.drivers.remove(driver)
        idle.sh(f'umount {idle.storage}/basefs')


def test_a_disk_that_is_full_of_overlays(idle):
    """A VM that fills it is alone told; the next start says what is wrong, and works afterwards."""
    small_disk(idle, 'overlayfs', '8m')
    driver = idle.driver()
    try:
        driver.start(1, idle.image)
        driver.expect('ready', 1, timeout=90)
        done = idle.in_vm(1, ['dd', 'if=/dev/zero', 'of=/root/big', 'bs=1M', 'count=20'],
                          check=False)
        assert done.returncode != 0 and 'No space left' in done.stderr
        assert idle.in_vm(1, ['true']).returncode == 0
        idle.sh(f'cat /dev/zero >{idle.storage}/overlayfs/rest 2>/dev/null; true', check=False)
        driver.start(2, idle.image)
        said = driver.expect('gone', 2, 'failed', timeout=30)
        assert 'overlay' in said and 'No space left' in said, said
        assert idle.traces(2) == []
        idle.sh(f'rm {idle.storage}/overlayfs/rest')
        driver.order('kill', 1)
        driver.expect('gone', 1)
        wait_for(lambda: in_storage(idle, 'overlayfs') == [], 20, 'the overlay put aside is gone')
        driver.start(2, idle.image)
        driver.expect('ready', 2, timeout=30)
        driver.order('kill', 2)
        driver.expect('gone', 2)
    finally:
        driver.quit()
        idle.drivers.remove(driver)
        idle.sh(f'umount {idle.storage}/overlayfs')


@pytest.mark.parametrize('settings, address, said', [
    ({}, '192.0.2.9', 'which no interface here has; mend it: qa host edit -f name=node1'),
    ({}, '10.3.15.77', "which is a VM's; give it its own: qa host edit"),
    ({'vm.network.ip.start': ''}, '10.3.15.1', 'vm.network.ip.start'),
    ({'vm.network.netmask': ''}, '10.3.15.1', 'vm.network.netmask'),
    ({'vm.network.gateway': ''}, '10.3.15.1', 'vm.network.gateway'),
    ({'vm.network.bridge': 'nobridge0'}, '10.3.15.1', 'there is no nobridge0; make it: ip link add'),
])
def test_hkd_does_not_start_and_names_the_mend(bare, settings, address, said):
    node, text = bare
    hkd_log = node.path('log/hkd.log')
    begin = os.path.getsize(hkd_log) if os.path.exists(hkd_log) else 0
    with open(node.path('etc/node.conf'), 'w', encoding='utf-8') as f:
        f.writelines(line + '\n' for line in text.splitlines()
                     if line.split(' ')[0] not in settings)
        f.writelines(f'{key} = {value}\n' for key, value in settings.items() if value)
    node.psql("DELETE FROM hosts WHERE name = 'node1'")
    hkd.add_node(node, 'node1', address)
    with pytest.raises(FarmError):
        node.start_service('hkd')
    node.stop_service('hkd')
    with open(hkd_log, encoding='utf-8') as f:
        f.seek(begin)
        assert said in f.read()


@pytest.fixture(name='bare', scope='module')
def _bare():
    made = make_farm({'services': False})
    try:
        made.init_database()
        with open(made.path('etc/node.conf'), encoding='utf-8') as f:
            yield made, f.read()
    finally:
        made.destroy()




@pytest.mark.parametrize('name', ['aufs', 'xfs', 'zfs', 'btrfs', 'bind', 'unionfs-fuse'])
def test_a_writable_root_that_is_not_there_is_refused_with_the_choices(tmp_path, name):
    path = tmp_path / 'node.conf'
    path.write_text(f'nodename = n\nvm.lxc.unionfs.type = {name}\n', encoding='utf-8')
    done = subprocess.run([installed_tree() + '/usr/lib/qvd/qvd-hkd', '--check-config', '-f',
                           str(path)], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert f'vm.lxc.unionfs.type = {name}: must be one of: overlayfs' in done.stderr
