# SPDX-License-Identifier: GPL-3.0-or-later
"""An OSF with use_overlay=no: a desktop on a read-only image; and hkd started again beside it."""

import os

from farm import wait_until
from test_desktop import in_session, wait_desktop, wait_disconnected

FARM = {'image': 'minimal', 'users': ['alice', 'bob'], 'osf': {'use_overlay': 'no'}}


def test_a_user_works_on_a_read_only_image(farm, xserver):
    with farm.client('alice', xserver.display, '-g', '800x600'):
        wait_desktop(xserver)
        vm = farm.vm_row('alice')['id']
        in_session(farm, 'alice', 'sh', '-c', 'echo mine >~/file')
        assert farm.in_vm(vm, ['touch', '/usr/x'], check=False).returncode != 0
        assert farm.in_vm(vm, ['touch', '/root/x'], check=False).returncode != 0
        # What packages keep in /var is there, and can be written.
        farm.in_vm(vm, ['sh', '-c', 'test -s /var/lib/dpkg/status && touch /var/lib/dpkg/x'])
    wait_disconnected(farm, 'alice')
    assert os.listdir(farm.path('lib/storage/overlayfs')) == []
    # He comes back to it; a new run has forgotten it.
    with farm.client('alice', xserver.display, '-g', '800x600'):
        wait_desktop(xserver)
        assert in_session(farm, 'alice', 'cat', '/home/alice/file').stdout == 'mine\n'
    wait_disconnected(farm, 'alice')
    farm.qa('vm', 'stop', '-f', 'name=alice', '--wait')
    farm.qa('vm', 'start', '-f', 'name=alice', '--wait')
    assert farm.in_vm(vm, ['test', '-e', '/home/alice'], check=False).returncode == 1


def test_dnsmasq_hears_of_no_duplicate_after_a_restart(farm):
    farm.qa('vm', 'start', '-f', 'name=alice', check=False)
    farm.wait_vm('alice', 'running')
    for _ in range(2):
        farm.stop_service('hkd')
        farm.start_service('hkd')
    farm.qa('vm', 'start', '-f', 'name=bob', '--wait')
    wait_until(lambda: len(os.listdir(farm.path('run/dhcp/hosts'))) == 2, 10, 'both leases')
    with open(farm.path('log/hkd.log'), encoding='utf-8') as f:
        text = f.read()
    assert 'dnsmasq' in text and 'duplicate' not in text
    assert text.count('node node1 runs') == 3


def test_homes_of_containers_are_not_limited_and_the_api_says_so(farm):
    farm.qa('osf', 'edit', '-f', 'name=desk', 'user_storage_size=100')
    shown = farm.qa('osf', 'show', '-f', 'name=desk', '--fields', 'user_storage_limit')
    assert 'not enforced' in shown, shown
    farm.qa('osf', 'edit', '-f', 'name=desk', 'user_storage_size=0')
    assert 'enforced' not in farm.qa('osf', 'show', '-f', 'name=desk', '--fields',
                                     'user_storage_limit')
