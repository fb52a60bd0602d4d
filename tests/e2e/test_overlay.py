# SPDX-License-Identifier: GPL-3.0-or-later
"""With vm.overlay.persistent the writable layer outlives the run."""

FARM = {'image': 'minimal', 'users': ['carol'], 'settings': {'vm.overlay.persistent': '1'}}


def test_a_persistent_overlay_remembers(farm):
    for marker in ('first', 'second'):
        farm.qa('vm', 'start', '-f', 'name=carol')
        farm.wait_vm('carol', 'running')
        vm = farm.vm_row('carol')['id']
        if marker == 'second':
            assert farm.in_vm(vm, ['cat', '/etc/marker']).stdout == 'first\n'
            assert farm.in_vm(vm, ['test', '-e', '/etc/hostname'], check=False).returncode == 1
        farm.in_vm(vm, ['sh', '-c', f'echo {marker} >/etc/marker; rm -f /etc/hostname'])
        farm.qa('vm', 'stop', '-f', 'name=carol')
        farm.wait_vm('carol', 'stopped')
