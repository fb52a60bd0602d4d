# SPDX-License-Identifier: GPL-3.0-or-later
"""Which node takes what: blocked ones, front ends, back ends, an L7R without an hkd, and what is said
when none has room."""

import pytest

from fakenode import FakeNode, NX_SERVER
from farm import wait_until
from oldclients import Answer, PerlClient, Wire, basic, first_nx_bytes, request

FARM = {'services': False, 'settings': {'l7r.beat': '1s', 'l7r.sweep': '1h',
                                        'l7r.timeout.vm_start': '3s',
                                        # So that the fuller node is the worse one for sure.
                                        'l7r.loadbalancer.plugin.default.weight.random': '0'}}


@pytest.fixture(name='node', scope='module')
def node_fixture(farm):
    """The node of the L7R, and another that runs VMs, `other`."""
    farm.init_database()
    node = FakeNode(farm)
    node.other = int(node.psql("INSERT INTO hosts (name, address) VALUES ('other', '10.3.15.2')"
                               ' RETURNING id')[0][0])
    node.psql("UPDATE host_runtimes SET state = 'running', ok_ts = now(), usable_ram = 8000,"
              f' usable_cpu = 8000, free_ram = 0.5, free_cpu = 0.5 WHERE host_id = {node.other}')
    farm.start_service('l7r')
    yield node
    node.close()


def ask(farm, vm, path):
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(request(path, [('Authorization', basic(vm.login, vm.password))]))
    return Answer(wire)


def client_of(farm, vm):
    return PerlClient((farm.address, farm.l7r_port), vm.login, vm.password)


def host(node, host_id, **values):
    runtime = {k: v for k, v in values.items() if k in ('blocked', 'state', 'free_ram', 'pid')}
    for table, key, fields in (('host_runtimes', 'host_id', runtime),
                               ('hosts', 'id', {k: v for k, v in values.items()
                                                if k not in runtime})):
        if fields:
            node.psql(f"UPDATE {table} SET {', '.join(f'{k} = {v}' for k, v in fields.items())}"
                      f' WHERE {key} = {host_id}')


def ping(farm, vm, status, body):
    """What the node is asked once a second at most."""
    def same():
        answer = ask(farm, vm, '/qvd/ping')
        return (answer.status, answer.body) == (status, body)
    wait_until(same, 10, f'{status} {body}')


def test_a_blocked_node_keeps_its_sessions_and_takes_none(farm, node):
    here, there = node.add_vm('here'), node.add_vm('there')
    node.psql(f'UPDATE vm_runtimes SET host_id = {node.other} WHERE vm_id = {there.id};'
              f'UPDATE host_runtimes SET assigned = 1')
    client = client_of(farm, there)
    assert first_nx_bytes(client.wire, client.connect(there.id)) == NX_SERVER
    host(node, node.other, blocked='true')
    answer = client_of(farm, there).connect(there.id)
    assert answer.status == 503
    assert b'its node is under maintenance' in answer.body
    # The session that was there goes on, and was not taken over.
    client.wire.send(b'still here')
    assert client.wire.record() == b'still here'
    assert there.row()['user_state'] == 'connected'
    client.wire.close()
    # A stopped VM goes to the other one, though this has more room.
    here.set_stopped()
    host(node, node.id, free_ram='0.05')
    host(node, node.other, blocked='false')
    begun = client_of(farm, here)
    assert begun.connect(here.id).status == 503     # nobody starts it
    assert here.row()['host_id'] == str(node.other)
    here.set_stopped()
    host(node, node.other, blocked='true')
    assert client_of(farm, here).connect(here.id).status == 503
    assert here.row()['host_id'] == str(node.id)
    here.set_stopped()
    host(node, node.other, blocked='false')
    for vm in (here, there):
        vm.set_stopped()


def test_a_blocked_node_of_the_l7r_itself(farm, node):
    vm = node.add_vm('blocked')
    ping(farm, vm, 200, b'I am alive!\r\n')
    host(node, node.id, blocked='true')
    ping(farm, vm, 503, b'Server is blocked\r\n')
    assert client_of(farm, vm).connect(vm.id).status == 503
    host(node, node.id, blocked='false')
    ping(farm, vm, 200, b'I am alive!\r\n')
    vm.set_stopped()


def test_front_ends_and_back_ends(farm, node):
    vm = node.add_vm('flags', running=False)
    host(node, node.id, frontend='false')
    ping(farm, vm, 503, b'Server takes no connections\r\n')
    host(node, node.id, frontend='true', backend='false')
    ping(farm, vm, 200, b'I am alive!\r\n')
    assert client_of(farm, vm).connect(vm.id).status == 503     # nobody starts it
    assert vm.row()['host_id'] == str(node.other)
    vm.set_stopped()
    host(node, node.other, backend='false')
    assert client_of(farm, vm).connect(vm.id).status == 503
    assert vm.row()['host_id'] == ''
    assert 'no node runs VMs now' in farm.log_tail('l7r', 100)
    host(node, node.id, backend='true')
    host(node, node.other, backend='true')


def test_a_refusal_names_the_limit_the_node_and_the_difference(farm, node):
    vm = node.add_vm('big', running=False)
    host(node, node.id, free_ram='0.01')
    host(node, node.other, free_ram='0.02')
    node.psql("UPDATE osfs SET memory = 300 WHERE name = 'desk'")
    answer = client_of(farm, vm).connect(vm.id)
    assert answer.status == 503 and b'no node has room for it' in answer.body
    assert b'other' not in answer.body
    assert ('it needs 300 MB (memory of its OSF) and no node has them free: the roomiest of 2, '
            'other, has 160 MB, 140 too few') in farm.log_tail('l7r', 100)
    node.psql("UPDATE osfs SET memory = 256 WHERE name = 'desk'")


def test_an_l7r_beats_for_a_node_without_an_hkd(farm, node):
    vm = node.add_vm('front')
    node.psql(f'UPDATE vm_runtimes SET host_id = {node.other} WHERE vm_id = {vm.id}')
    # An hkd that beats is left alone.
    host(node, node.id, backend='false', state="'starting'", pid='77')
    node.psql(f'UPDATE host_runtimes SET ok_ts = now() WHERE host_id = {node.id}')
    farm.stop_service('l7r')
    farm.start_service('l7r')
    wait_until(lambda: node.psql('SELECT count(*) FROM l7r_instances') == [['1']], 10, 'it')
    row = f'SELECT state, pid FROM host_runtimes WHERE host_id = {node.id}'
    assert node.psql(row) == [['starting', '77']]
    # Nobody else does.
    host(node, node.id, state="'stopped'", pid='NULL')
    wait_until(lambda: node.psql(row)[0][0] == 'running', 10, 'the state')
    first = node.psql(f'SELECT ok_ts, pid FROM host_runtimes WHERE host_id = {node.id}')[0]
    wait_until(lambda: node.psql('SELECT ok_ts, pid FROM host_runtimes'
                                 f' WHERE host_id = {node.id}')[0][0] > first[0], 10, 'a beat')
    ping(farm, vm, 200, b'I am alive!\r\n')
    client = client_of(farm, vm)
    assert first_nx_bytes(client.wire, client.connect(vm.id)) == NX_SERVER
    client.wire.close()
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 10, 'the end')
    farm.stop_service('l7r')
    assert node.psql(row)[0][0] == 'stopped'
    assert node.psql(f'SELECT state FROM host_runtimes WHERE host_id = {node.other}') == \
        [['running']]
