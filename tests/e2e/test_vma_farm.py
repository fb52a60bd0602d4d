# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole farm: what hooks in a VM are told, what its user is told, and an agent that dies."""

from farm import wait_until

FARM = {'image': 'minimal', 'users': ['alice'], 'osf': {'user_storage_size': '100'}}
HOOK = '''#!/bin/sh
printf '%s\\n' "$@" >>/root/told
[ -e /root/fail ] && exit 7
exit 0
'''


def give_properties(farm, rows):
    """(kind, key, value): as the API will keep them."""
    ids = {'osf': 'SELECT id FROM osfs', 'di': 'SELECT id FROM dis',
           'user': "SELECT id FROM users WHERE login = 'alice'",
           'vm': "SELECT id FROM vms WHERE name = 'alice'"}
    for kind, key, value in rows:
        farm.psql(f"INSERT INTO properties_list (key, tenant_id) SELECT '{key}', t.tenant_id FROM users t"
                  f" WHERE login = 'alice' ON CONFLICT DO NOTHING")
        farm.psql("INSERT INTO qvd_object_properties_list (property_id, qvd_object)"
                  f" SELECT id, '{kind}' FROM properties_list WHERE key = '{key}'")
        farm.psql(f"INSERT INTO {kind}_properties ({kind}_id, property_id, value)"
                  f" SELECT ({ids[kind]}), q.id, '{value}' FROM qvd_object_properties_list q JOIN"
                  f" properties_list l ON l.id = q.property_id WHERE l.key = '{key}'"
                  f" AND q.qvd_object = '{kind}'")


def told(farm, vm):
    lines = farm.in_vm(vm, ['cat', '/root/told'], check=False).stdout.splitlines()
    return dict(zip(lines[::2], lines[1::2]))


def test_properties_reach_hooks_and_a_refusal_reaches_the_user(farm, xserver):
    give_properties(farm, [
        ('osf', 'colour', 'of osf'), ('di', 'colour', 'of di'), ('user', 'colour', 'of user'),
        ('vm', 'colour', 'of vm'), ('osf', 'shape', 'of osf'), ('di', 'shape', 'of di'),
        ('user', 'shape', 'of user'), ('osf', 'size', 'of osf'), ('di', 'size', 'of di'),
        ('osf', 'only', 'of osf'), ('vm', 'qvd.vm.user.uid', '0'), ('vm', 'qvd.vm.user.name', 'root'),
        ('vm', 'a bad name', 'x'), ('vm', 'custom.greeting', 'hello; rm -rf "$HOME"')])
    farm.qa('vm', 'start', '-f', 'name=alice', '--wait')
    vm = farm.vm_row('alice')['id']
    farm.in_vm(vm, ['sh', '-c', 'cat >/usr/local/bin/hook; chmod 755 /usr/local/bin/hook; '
                    'echo "vma.on_action.pre-connect = /usr/local/bin/hook" >>/etc/qvd/vma.conf; '
                    'pkill -HUP -x qvd-vma'], input=HOOK)
    with farm.client('alice', xserver.display, '--link', 'wan', '-g', '800x600'):
        wait_until(lambda: farm.vm_row('alice')['user_state'] == 'connected', 40, 'connected')
        names = told(farm, vm)
        assert {'colour': 'of vm', 'shape': 'of user', 'size': 'of di', 'only': 'of osf',
                'custom.greeting': 'hello; rm -rf "$HOME"', 'qvd.vm.user.name': 'alice',
                'qvd.vm.user.home': '/home/alice', 'qvd.client.link': 'wan',
                'qvd.client.geometry': '800x600', 'qvd.hook.on_action': 'pre_connect'}.items() \
            <= names.items(), names
        assert names.get('host_address') == farm.address or 'host_address' in names
        assert 'qvd.vm.user.uid' not in names and 'a bad name' not in names
        assert farm.in_vm(vm, ['stat', '-c', '%U', '/home/alice']).stdout.strip() == 'alice'
    wait_until(lambda: farm.vm_row('alice')['user_state'] == 'disconnected', 20, 'disconnected')
    assert 'properties are left out' in farm.logs()
    # The hook refuses: the person reads which.
    farm.in_vm(vm, ['touch', '/root/fail'])
    with farm.client('alice', xserver.display) as client:
        assert client.wait(40) != 0
        with open(client.log_path, encoding='utf-8') as f:
            assert 'hook vma.on_action.pre-connect failed (exit 7)' in f.read()
    farm.in_vm(vm, ['rm', '/root/fail'])


def test_an_agent_that_dies_costs_nobody_his_desktop(farm, xserver):
    vm = farm.vm_row('alice')['id']
    with farm.client('alice', xserver.display) as client:
        wait_until(lambda: farm.vm_row('alice')['user_state'] == 'connected', 40, 'connected')
        # nxagent dies at its next resume when its stream is cut right after it came up.
        wait_until(lambda: len(xserver.image().getcolors(1 << 24)) > 8, 40, 'a painted desktop', 0.3)
        agent = farm.in_vm(vm, ['pgrep', '-o', '-x', 'nxagent']).stdout
        farm.in_vm(vm, ['pkill', '-KILL', '-x', 'qvd-vma'])
        wait_until(lambda: farm.in_vm(vm, ['pgrep', '-f', 'qvd-vma-listener'], check=False).returncode == 0,
                   20, 'a new agent')
        assert client.poll() is None
    wait_until(lambda: farm.vm_row('alice')['user_state'] == 'disconnected', 20, 'disconnected')
    with farm.client('alice', xserver.display):
        wait_until(lambda: farm.vm_row('alice')['user_state'] == 'connected', 40, 'connected')
        assert farm.in_vm(vm, ['pgrep', '-o', '-x', 'nxagent']).stdout == agent
    assert farm.vm_row('alice')['state'] == 'running'
