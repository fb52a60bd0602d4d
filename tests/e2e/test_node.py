# SPDX-License-Identifier: GPL-3.0-or-later
"""The room `node` with real LXC, without hkd: start, stop, kill, what survives and what does not."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from nodebox import GATEWAY, NodeBox, mac_of, plain_image, wait_for


@pytest.fixture(name='box', scope='module')
def _box():
    with NodeBox() as box:
        box.image = box.add_image()
        box.driver()
        yield box


def run_vm(box, vm, *options, image=None, **kwargs):
    driver = box.drivers[-1]
    driver.start(vm, image or box.image, *options, **kwargs)
    driver.expect('started', vm, timeout=60)
    return driver


def end_vm(box, vm, order='kill'):
    driver = box.drivers[-1]
    driver.order(order, vm)
    return driver.expect('gone', vm)


def test_a_vm_starts_and_powers_off(box):
    driver = run_vm(box, 1)
    driver.expect('ready', 1)
    assert any(e.split()[1] == 'progress' for e in driver.events), 'no progress of the unpacking'
    assert box.in_vm(1, ['id', '-u']).stdout == '0\n'
    with open(f'/proc/{box.init_pid(1)}/status', encoding='utf-8') as f:
        uid = [line.split()[1] for line in f if line.startswith('Uid:')][0]
    assert uid == '1000000'
    assert box.vm_sh(1, 'cat /etc/resolv.conf') == f'nameserver {GATEWAY}\n'
    assert box.vm_sh(1, 'hostname') == 'qvd-1\n'
    assert mac_of('10.3.15.51') in box.vm_sh(1, 'ip link show eth0')
    assert box.vm_sh(1, 'stat -c "%a %u %s" /dev/.qvd/secret') == '400 0 32\n'
    assert box.vm_sh(1, 'stat -f -c %T /dev/.qvd/secret') == 'tmpfs\n'
    assert box.in_vm(1, ['sh', '-c', 'echo x >/dev/.qvd/secret'], check=False).returncode != 0
    assert f'"qvd1" . {mac_of("10.3.15.51")} . 10.3.15.51' in box.nft('table', 'bridge', 'qvd')
    assert 'PERMANENT' in box.sh('ip neigh show 10.3.15.51')
    assert 'isolated on' in box.sh('bridge -d link show dev qvd1')
    assert end_vm(box, 1, 'term').startswith('stopped 0 powered off as ordered')
    assert box.traces(1) == []


def test_a_start_takes_less_than_100_ms(box):
    """From the order to lxc-start's first process, with the image unpacked; the best of ten."""
    times = []
    for _ in range(10):
        driver = box.drivers[-1]
        begin = time.clock_gettime(time.CLOCK_MONOTONIC)
        driver.start(2, box.image)
        driver.expect('started', 2)
        times.append(float(driver.last.split()[0]) - begin)
        end_vm(box, 2)
    assert min(times) < 0.1, times


def test_the_overlay_forgets_the_home_remembers(box):
    for number in range(2):
        run_vm(box, 3, 'home')
        assert box.in_vm(3, ['test', '-e', '/etc/marker'], check=False).returncode == 1
        assert box.in_vm(3, ['test', '-e', '/home/marker'], check=False).returncode == 1 - number
        box.vm_sh(3, 'touch /etc/marker /home/marker; rm -r /usr/share/doc; mv /etc/motd /etc/m;'
                     'chown 1000:1000 /etc/m; test ! -e /usr/share/doc')
        end_vm(box, 3)
    home = os.stat(f'{box.storage}/homefs/3-7-homefs')
    assert (home.st_uid, home.st_mode & 0o777) == (1000000, 0o755)
    wait_for(lambda: not os.listdir(f'{box.storage}/overlayfs'), what='overlays put aside removed')


def test_a_persistent_overlay_remembers(box):
    for number in range(2):
        run_vm(box, 4, 'persistent')
        assert box.in_vm(4, ['test', '-e', '/etc/marker'], check=False).returncode == 1 - number
        box.vm_sh(4, 'touch /etc/marker')
        end_vm(box, 4)
    assert os.path.exists(box.overlay(4) + '/upper/etc/marker')


def test_the_same_overlay_is_not_mounted_twice(box):
    run_vm(box, 4, 'persistent')
    box.drivers[-1].order('start', 4, 'lxc', 1, box.image, '10.3.15.54', mac_of('10.3.15.54'), 256)
    assert 'has not ended' in box.drivers[-1].expect('refused', 4)
    with NodeBox() as other:  # another node on the same storage
        with open(other.settings, 'a', encoding='utf-8') as f:
            f.write(f'path.storage.root = {box.storage}\n')
        other.image = box.image
        driver = other.driver()
        driver.start(4, box.image, 'persistent')
        assert 'in use by another' in driver.expect('gone', 4, 'failed')
        assert other.traces(4) == []
    assert box.in_vm(4, ['true']).returncode == 0
    end_vm(box, 4)


def test_the_host_sees_no_mount(box):
    run_vm(box, 5, 'home')
    with open(f'/proc/{box.pid}/mountinfo', encoding='utf-8') as f:
        assert '/run/qvd' not in f.read()
    end_vm(box, 5)


@pytest.mark.parametrize('victim', ['init', 'lxc', 'guard'])
def test_killed_from_outside(box, victim):
    run_vm(box, 6)
    box.drivers[-1].expect('ready', 6)
    pid = {'init': box.init_pid, 'lxc': box.lxc_pid, 'guard': box.guard_pid}[victim](6)
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    end = box.drivers[-1].expect('gone', 6)
    assert time.monotonic() - begin < 1, f'{victim}: told late'
    # LXC does not tell whether the first process powered off or was killed.
    assert end.split()[0] == ('stopped' if victim == 'init' else 'crashed'), end
    assert box.traces(6) == []
    run_vm(box, 6)
    assert end_vm(box, 6).split()[0] == 'killed'
    assert box.traces(6) == []


def test_a_reboot_is_told_and_ends_the_run(box):
    run_vm(box, 7)
    box.drivers[-1].expect('ready', 7)
    box.in_vm(7, ['kill', '-INT', '1'])  # sysvinit: ctrl-alt-del, which its inittab makes a reboot
    assert box.drivers[-1].expect('gone', 7).split()[0] == 'reboot'
    assert box.traces(7) == []


def test_a_power_off_from_inside(box):
    run_vm(box, 7)
    box.drivers[-1].expect('ready', 7)
    box.in_vm(7, ['kill', '-PWR', '1'])
    assert box.drivers[-1].expect('gone', 7).startswith('stopped 0 its first process ended')


def test_cancelled_while_its_image_unpacks(box):
    name = box.add_image('2-minimal.tar.zst')
    driver = box.drivers[-1]
    driver.start(8, name, di=2)
    driver.expect('progress', 8)
    driver.order('kill', 8)
    assert driver.expect('gone', 8).startswith('killed -125')
    # The unpacking goes on for others; a second start waits for the same one.
    driver.start(8, name, di=2)
    driver.expect('started', 8, timeout=60)
    end_vm(box, 8)


def test_many_at_once(box):
    vms = list(range(20, 28))
    driver = box.drivers[-1]
    for vm in vms:
        driver.start(vm, box.image)
    left = set(vms)
    while left:
        left.discard(int(driver.expect('ready', timeout=60)))
    for vm in vms:
        driver.order('kill', vm)
    left = set(vms)
    while left:
        left.discard(int(driver.expect('gone', timeout=30).split()[0]))
    assert [box.traces(vm) for vm in vms] == [[]] * len(vms)


def test_the_driver_nothing(box):
    driver = box.drivers[-1]
    driver.start(9, '-', hypervisor='nothing')
    driver.expect('started', 9)
    driver.expect('ready', 9)
    assert end_vm(box, 9, 'term').split()[0] == 'stopped'
    driver.start(9, '-', hypervisor='xen')
    assert 'no hypervisor "xen"' in driver.expect('refused', 9)


def test_refused_addresses(box):
    driver = box.drivers[-1]
    driver.start(9, box.image, ip='10.3.16.9')
    assert '10.3.16.9 is not one of the VMs' in driver.expect('refused', 9)
    driver.start(9, box.image, ip=GATEWAY)
    assert 'is not one of the VMs' in driver.expect('refused', 9)


def test_a_missing_image_is_refused(box):
    driver = box.drivers[-1]
    driver.start(9, '9-nowhere.tar', di=9)
    assert '9-nowhere.tar' in driver.expect('gone', 9, 'failed')
    assert box.traces(9) == []


def test_resolv_conf_stays_where_the_image_has_a_link(box):
    run_vm(box, 10, 'persistent')
    box.vm_sh(10, 'rm /etc/resolv.conf; ln -s /etc/passwd /etc/resolv.conf')
    end_vm(box, 10)
    run_vm(box, 10, 'persistent')
    assert box.vm_sh(10, 'readlink /etc/resolv.conf') == '/etc/passwd\n'
    # A guest that leads /etc elsewhere gains nothing, and starts.
    box.vm_sh(10, 'mv /etc /etc2; ln -s /usr /etc; rm -f /usr/resolv.conf')
    end_vm(box, 10)
    run_vm(box, 10, 'persistent')
    assert box.in_vm(10, ['test', '-e', '/usr/resolv.conf'], check=False).returncode == 1
    end_vm(box, 10)


def test_a_read_only_root(box):
    run_vm(box, 11, 'readonly')
    for folder in ('/', '/usr', '/usr/lib', '/root', '/opt'):
        assert box.in_vm(11, ['touch', f'{folder}/x'], check=False).returncode != 0, folder
    # In memory, above what the image has there: packages want theirs of /var, accounts are made in
    # /etc, and a home that is not kept must be somewhere.
    box.vm_sh(11, 'touch /tmp/x /run/x /var/x /etc/x /home/x; test -e /var/lib/dpkg/status')
    box.in_vm(11, ['useradd', '-m', 'somebody'])
    assert box.vm_sh(11, 'cat /etc/resolv.conf') == f'nameserver {GATEWAY}\n'
    assert box.vm_sh(11, 'stat -c %U:%a /var/lib /etc/shadow').split() == ['root:755', 'root:640']
    assert end_vm(box, 11).split()[0] == 'killed'
    run_vm(box, 11, 'readonly')
    box.vm_sh(11, 'test ! -e /var/x && test ! -e /etc/x && test ! -e /home/somebody')
    assert end_vm(box, 11).split()[0] == 'killed'
    assert not os.path.exists(box.overlay(11))
    assert box.traces(11) == []


def test_vms_survive_the_driver_and_are_adopted():
    with NodeBox() as box:
        box.image = box.add_image()
        box.driver()
        for vm in (1, 2, 3):
            run_vm(box, vm)
            box.drivers[-1].expect('ready', vm)
        box.drivers[-1].kill()
        assert box.in_vm(1, ['true']).returncode == 0
        os.kill(box.guard_pid(2), signal.SIGKILL)  # ends while nobody looks
        os.kill(box.guard_pid(3), signal.SIGTERM)
        wait_for(lambda: not box.guard_pid(3), what='VM 3 powered off')
        driver = box.driver()
        driver.order('running')
        assert driver.expect('running') == '1'
        assert box.traces(2) == [] and box.traces(3) == []
        for vm in (1, 2, 3):
            driver.order('adopt', vm)
        driver.expect('adopted', 1)
        assert driver.expect('ended', 2).split()[0] == 'crashed'
        assert driver.expect('ended', 3).split()[0] == 'stopped'
        assert box.in_vm(1, ['ping', '-c1', '-W2', GATEWAY]).returncode == 0
        driver.order('term', 1)
        assert driver.expect('gone', 1).split()[0] == 'stopped'
        assert box.traces(1) == []


# A port that is to be removed goes by itself, just before: as the kernel does with a dead VM's.
HASTY = '#!/bin/sh\ntext=$(cat)\nport=$(echo "$text" | sed -n "s/^link del dev //p")\n' \
        '[ -n "$port" ] && ip link del "$port"\necho "$text" | ip "$@"\n'


def test_stray_links_are_swept_and_dnsmasq_comes_back(tmp_path):
    hasty = tmp_path / 'ip'
    hasty.write_text(HASTY, encoding='ascii')
    hasty.chmod(0o755)
    with NodeBox(f'command.ip = {hasty}\n') as box:
        box.image = box.add_image()
        box.sh('ip link add qvd77 type veth peer name other')
        driver = box.driver()
        assert 'qvd77' not in box.sh('ip link')
        box.sh('ip link add qvd78 type veth peer name other')
        run_vm(box, 78)
        end_vm(box, 78)

        def dnsmasq():
            return [p for p, (argv, inside) in box.processes().items()
                    if inside and argv[0] == 'dnsmasq']
        first = wait_for(dnsmasq, what='dnsmasq')
        os.kill(first[0], signal.SIGKILL)
        assert driver.expect('log', 'dnsmasq', 'ended').startswith('(signal 9); it is started')
        wait_for(lambda: set(dnsmasq()) - set(first), what='dnsmasq again')
        driver.order('quit', 'all')
        driver.expect('stopped', 0)
        assert 'qvd' not in box.nft('ruleset')


def test_systemd_as_first_process(box):
    name = box.add_image('3-systemd.tar.zst', plain_image('minimal-systemd'))
    driver = run_vm(box, 12, image=name, di=3)
    driver.expect('ready', 12, timeout=60)
    wait_for(lambda: box.in_vm(12, ['systemctl', 'is-system-running'], check=False).stdout.strip()
             in ('running', 'degraded'), 30, 'systemd is up')
    assert box.in_vm(12, ['ping', '-c1', '-W2', GATEWAY]).returncode == 0
    assert end_vm(box, 12, 'term').startswith('stopped 0 powered off as ordered')
    driver = run_vm(box, 12, image=name, di=3)
    driver.expect('ready', 12, timeout=60)
    box.in_vm(12, ['systemctl', 'reboot', '--force'], check=False)
    assert driver.expect('gone', 12).split()[0] == 'reboot'
    assert box.traces(12) == []


def test_a_hostile_image_is_refused_and_leaves_nothing(box):
    path = f'{box.storage}/images/4-evil.tar'
    with tarfile.open(path, 'w') as tar:
        for entry, text in (('etc/passwd', b'root::0:0::/:/bin/sh\n'), ('../../escaped', b'x')):
            info = tarfile.TarInfo(entry)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    driver = box.drivers[-1]
    driver.start(13, '4-evil.tar', di=4)
    said = driver.expect('gone', 13, 'failed')
    assert '4-evil.tar' in said and '..' in said, said
    assert not [n for n in os.listdir(f'{box.storage}/basefs') if 'evil' in n and
                not n.startswith('lock.')]
    assert not os.path.exists(f'{box.storage}/escaped')
    assert box.traces(13) == []


def test_an_unpacking_cut_off_is_swept():
    with NodeBox() as box:
        image = box.add_image()
        driver = box.driver()
        driver.start(1, image)
        driver.expect('progress', 1)
        driver.kill()
        basefs = f'{box.storage}/basefs'
        assert [n for n in os.listdir(basefs) if n.startswith('.unpack-')]
        assert image not in os.listdir(basefs)
        driver = box.driver()
        wait_for(lambda: not [n for n in os.listdir(basefs) if n.startswith('.unpack-')],
                 what='the half image is swept')
        driver.start(1, image)
        driver.expect('started', 1, timeout=60)
        driver.order('kill', 1)
        driver.expect('gone', 1)


def test_a_storage_that_bears_no_overlay_names_the_mend(box_without_vms):
    box = box_without_vms
    box.sh(f'mkdir -p {box.dir}/l {box.dir}/u {box.dir}/w && '
           f'mount -t overlay x -o lowerdir={box.dir}/l,upperdir={box.dir}/u,workdir={box.dir}/w '
           f'{box.storage}')
    try:
        with subprocess.Popen(box.inside([box.program('node-driver'), box.settings, box.libexec,
                                          box.data]), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as driver:
            said = driver.stdout.read()
            assert driver.wait(10) == 1 and 'error trial mount: ' in said, said
            assert 'put path.storage.' in said, said
    finally:
        box.sh(f'umount {box.storage}')


OTHER_NODE, FOREIGN_VM, GUEST = '10.3.15.2', '10.3.15.99', '10.3.15.51'


def test_an_uplink_carries_what_nodes_need_and_no_more():
    """Another node and a VM of it on one wire with ours: the node may dial, the VM may not."""
    with NodeBox(settings='vm.network.uplinks = up0\nvm.network.firewall.nat.iface = up0') as box:
        image = box.add_image()
        box.sh('ip netns add other && ip link add up0 type veth peer name far netns other && '
               'ip link set up0 master qvdnet0 up && ip -n other link set far up && '
               f'ip -n other addr add {OTHER_NODE}/24 dev far && '
               f'ip -n other addr add {FOREIGN_VM}/24 dev far')
        driver = box.driver()
        driver.start(1, image)
        driver.expect('started', 1, timeout=60)
        driver.expect('ready', 1)
        box.in_vm(1, ['sh', '-c', 'for p in 4100 22; do python3 -m http.server $p '
                                  '>/dev/null 2>&1 & done; sleep 0.5'])

        def dial(source, port):
            return box.run(['ip', 'netns', 'exec', 'other', sys.executable, '-c',
                            'import socket; socket.create_connection('
                            f'("{GUEST}", {port}), 2, ("{source}", 0))'],
                           check=False).returncode == 0
        wait_for(lambda: dial(OTHER_NODE, 4100), 10, 'the other node reaches the VM')
        assert not dial(OTHER_NODE, 22)
        assert not dial(FOREIGN_VM, 4100)
        listen = subprocess.Popen(box.inside(['ip', 'netns', 'exec', 'other', sys.executable, '-m',
                                              'http.server', '4100']), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: ':4100' in box.sh('ip netns exec other ss -ltn'), what='it listens')
            for target in (OTHER_NODE, FOREIGN_VM):
                assert box.in_vm(1, ['python3', '-c', 'import socket; socket.create_connection('
                                     f'("{target}", 4100), 1)'], check=False).returncode != 0
        finally:
            for pid in box.children(listen.pid):
                os.kill(pid, signal.SIGKILL)
            listen.wait()
        driver.order('kill', 1)
        driver.expect('gone', 1)


@pytest.mark.parametrize('wrong, said', [
    ('ip link del qvdnet0', 'there is no qvdnet0; make it: ip link add qvdnet0'),
    ('ip addr flush dev qvdnet0', 'has no address'),
    ('ip addr flush dev qvdnet0; ip addr add 10.9.0.1/24 dev qvdnet0', 'outside of the VMs'),
    ('ip addr flush dev qvdnet0; ip addr add 10.3.15.60/24 dev qvdnet0', 'not below'),
])
def test_a_node_that_cannot_work_names_the_mend(box_without_vms, wrong, said):
    box = box_without_vms
    box.sh('ip link add qvdnet0 type bridge; true', check=False)
    box.sh('ip addr add 10.3.15.1/24 dev qvdnet0; ip link set qvdnet0 up', check=False)
    box.sh(wrong)
    done = box.run([box.program('node-driver'), box.settings, box.libexec, box.data], check=False,
                   stdin=open('/dev/null', encoding='ascii'))
    assert done.returncode == 1 and said in done.stdout


@pytest.fixture(name='box_without_vms', scope='module')
def _box_without_vms():
    with NodeBox() as box:
        yield box
