# SPDX-License-Identifier: GPL-3.0-or-later
"""Each row of qvd-hkd's own table of steps (docs/vm-states.md): a database that is away, refuses, or
does not answer, a node that cannot work, programs that fail or hang, orders to stop in each step."""

import contextlib
import os
import re
import signal
import subprocess

import pytest

import hkd
from farm import wait_until

FARM = {'services': False, 'settings': {
    'hkd.sweep.interval': '500ms', 'hkd.start.timeout': '60s', 'hkd.adopt.timeout': '500ms',
    'hkd.tidy.timeout': '60s', 'hkd.leave.timeout': '60s', 'hkd.stop.timeout': '60s'}}
SLEEPS, FAILS = '#!/bin/sh\nexec sleep 600\n', '#!/bin/sh\necho no such luck >&2\nexit 1\n'


@pytest.fixture(scope='module')
def node(farm):
    farm.init_database()
    farm.osf = hkd.add_osf(farm)
    hkd.add_node(farm)
    return farm


class Hkd:
    """One run of the program, without a supervisor."""

    count = 0

    def __init__(self, farm, **settings):
        Hkd.count += 1
        self.farm = farm
        self.log = farm.path(f'log/hkd-{Hkd.count}.log')
        changed = {key.replace('_', '.'): value for key, value in settings.items()}
        name = f'node-{Hkd.count}.conf'
        with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
            lines = [line for line in f if line.split(' =')[0] not in changed]
        with open(farm.path('etc', name), 'w', encoding='utf-8') as f:
            f.writelines(lines + [f'{key} = {value}\n' for key, value in changed.items()])
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                farm.command(['/usr/lib/qvd/qvd-hkd', '-f', f'/etc/qvd/{name}']),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def text(self):
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    def row(self, *cells, timeout=15):
        line = re.escape('row ' + ' | '.join(cells)) + '$'
        wait_until(lambda: re.search(line, self.text(), re.M) or self.process.poll() is not None,
                   timeout, f'{line} in {self.text()[-3000:]}')
        assert re.search(line, self.text(), re.M), self.text()[-3000:]
        return self

    def wait(self, text, timeout=15):
        wait_until(lambda: text in self.text(), timeout, f'{text!r} in {self.text()[-3000:]}')
        return self

    def stop(self):
        pid = self.farm.run(['pgrep', '-x', 'qvd-hkd']).stdout.split()[0]
        self.farm.run(['kill', '-TERM', pid])
        return self

    def ended(self, code=0, timeout=20):
        assert self.process.wait(timeout) == code, self.text()[-3000:]


@contextlib.contextmanager
def started(farm, **settings):
    """A program that has ended when the block ends."""
    run = Hkd(farm, **settings)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            farm.run(['sh', '-c', 'kill -KILL $(pgrep -x qvd-hkd)'], check=False)
            run.process.send_signal(signal.SIGKILL)
            run.process.wait()


@contextlib.contextmanager
def without(farm, right):
    """qvd_hkd has not that right meanwhile."""
    farm.psql(f'REVOKE {right} FROM qvd_hkd')
    try:
        yield
    finally:
        farm.psql(f'GRANT {right} TO qvd_hkd')


@contextlib.contextmanager
def in_place_of(farm, program, text):
    """Another program there, for those inside the farm."""
    other = farm.path('etc', 'other-' + os.path.basename(program))
    with open(other, 'w', encoding='ascii') as f:
        f.write(text)
    os.chmod(other, 0o755)
    inside = '/etc/qvd/' + os.path.basename(other)
    farm.run(['mount', '--bind', inside, program])
    try:
        yield
    finally:
        farm.run(['umount', '-l', program])


@contextlib.contextmanager
def locked(farm, table):
    """Its rows are held by somebody else."""
    process = subprocess.Popen(
        farm.command(['psql', '-X', '-q', '-A', '-t', '-h', '/run/postgresql', '-d', 'qvd'],
                     user='postgres'), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdin.write(f'BEGIN;\nSELECT 1 FROM {table} FOR UPDATE;\n\\echo held\n')
    process.stdin.flush()
    while process.stdout.readline().strip() != 'held':
        assert process.poll() is None
    try:
        yield
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def nft(farm):
    return farm.run(['sh', '-c', 'command -v nft']).stdout.strip()


def test_the_database_is_away_at_the_start(node):
    node.stop_service('postgres')
    with started(node) as run:
        run.row('schema', 'again', 'schema').wait('trying again').stop()
        run.row('schema', 'stop', '').ended()
    node.start_service('postgres')


def test_another_schema(node):
    node.psql("INSERT INTO schema_migrations SELECT (r).* FROM (SELECT jsonb_populate_record(m,"
              " '{\"version\": 9999}') AS r FROM schema_migrations m LIMIT 1) x")
    with started(node) as run:
        run.row('schema', 'refused', '').ended(1)
        assert '9999' in run.text() or 'schema' in run.text()
    node.psql('DELETE FROM schema_migrations WHERE version = 9999')


def test_settings_cannot_be_read(node):
    with without(node, 'SELECT ON config_values'):
        with started(node) as run:
            run.row('schema', 'done', 'settings').row('settings', 'again', 'settings').stop()
            run.row('settings', 'stop', '').ended()


def test_its_row_is_missing_or_goes(node):
    node.psql('DELETE FROM hosts')
    with started(node) as run:
        run.row('settings', 'done', 'find').row('find', 'again', 'find').stop()
        run.row('find', 'stop', '').ended()
    # Deleted between the two looks.
    hkd.add_node(node)
    node.psql("CREATE FUNCTION goes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
              ' DELETE FROM hosts WHERE id = OLD.host_id; RETURN NULL; END $$;'
              'CREATE TRIGGER goes BEFORE UPDATE ON host_runtimes FOR EACH ROW'
              ' EXECUTE FUNCTION goes()')
    with started(node) as run:
        run.row('find', 'done', 'enter').row('enter', 'refused', 'find').wait('qa host add')
        node.psql('DROP TRIGGER goes ON host_runtimes')
        hkd.add_node(node)
        hkd.wait_host_named(node, 'node1', 'running')
        run.stop().ended()
    node.psql("DELETE FROM hosts; ALTER TABLE hosts ALTER id RESTART; DROP FUNCTION goes")
    hkd.add_node(node)
    assert hkd.host(node)['state'] == 'stopped'


def test_its_row_cannot_be_written(node):
    with without(node, 'UPDATE ON host_runtimes'):
        with started(node) as run:
            run.row('enter', 'again', 'enter').stop()
            run.row('enter', 'stop', 'leave').row('leave', 'done', '').ended()


def test_a_node_that_cannot_work(node):
    with started(node, vm_network_bridge='nosuch0') as run:
        run.row('enter', 'done', 'node').row('node', 'refused', 'leave').ended(1)
        assert 'nosuch0' in run.text()
    wait_until(lambda: hkd.host(node)['state'] == 'stopped', 5, 'the row')


def test_a_firewall_that_hangs(node):
    with in_place_of(node, nft(node), SLEEPS):
        with started(node, hkd_start_timeout='1s') as run:
            run.row('node', 'limit', 'leave').ended(1)
        with started(node) as run:
            run.row('enter', 'done', 'node')
            run.stop().row('node', 'stop', 'leave').ended()


def test_vms_that_cannot_be_read(node):
    with without(node, 'SELECT ON vm_runtimes'):
        with started(node) as run:
            run.row('node', 'done', 'adopt').row('adopt', 'limit', 'adopt').stop()
            run.row('adopt', 'stop', 'stop_vms').row('stop_vms', 'done', 'tidy')
            run.row('tidy', 'done', 'leave').ended()


def test_settings_that_change_while_they_cannot_be_read(node):
    with started(node) as run:
        run.row('adopt', 'done', 'run')
        with without(node, 'SELECT ON config_values'):
            node.psql("NOTIFY config, 'config -1'")
            run.row('run', 'again', 'run')
        run.stop().row('run', 'stop', 'stop_vms').ended()


def test_vms_that_stay_and_vms_that_do_not_stop(node):
    one, two = hkd.add_vms(node, node.osf, 2)
    with started(node) as run:
        run.row('adopt', 'done', 'run')
        hkd.order_start(node, one)
        hkd.wait_state(node, one, 'running')
        run.stop().row('stop_vms', 'refused', 'leave').ended()
        assert hkd.state(node, one) == 'running'
        assert hkd.host(node)['state'] == 'stopped'
    with started(node, hkd_stop_vms='1', hkd_stop_timeout='500ms') as run:
        run.row('adopt', 'done', 'run')
        hkd.wait_state(node, one, 'stopped')        # simulated ones end with hkd
        hkd.order_start(node, one, two)
        hkd.wait_state(node, (one, two), 'running')
        with locked(node, 'vm_runtimes'):
            run.stop().row('stop_vms', 'limit', 'stop_vms').wait('have not stopped in time')
            run.stop().row('stop_vms', 'stop', 'stop_vms')
        run.row('stop_vms', 'done', 'tidy').ended()
    # Killed, and still told as this node's: nothing is left to mend.
    assert {hkd.state(node, vm) for vm in (one, two)} == {'stopped'}
    assert hkd.host(node)['assigned'] == '0'


def test_a_firewall_that_does_not_go(node):
    with started(node) as run:
        run.row('adopt', 'done', 'run')
        with in_place_of(node, nft(node), FAILS):
            run.stop().row('tidy', 'refused', 'leave').ended(1)
            assert 'no such luck' in run.text()
    with started(node, hkd_tidy_timeout='1s') as run:
        run.row('adopt', 'done', 'run')
        with in_place_of(node, nft(node), SLEEPS):
            run.stop().row('tidy', 'limit', 'leave').ended()
    with started(node) as run:
        run.row('adopt', 'done', 'run')
        with in_place_of(node, nft(node), SLEEPS):
            run.stop().row('stop_vms', 'done', 'tidy').stop().row('tidy', 'stop', 'leave').ended()


def test_a_database_that_does_not_take_the_last_word(node):
    with started(node, hkd_leave_timeout='1s') as run:
        run.row('adopt', 'done', 'run')
        with locked(node, 'host_runtimes'):
            run.stop().row('leave', 'limit', '').ended()
    with started(node) as run:
        run.row('adopt', 'done', 'run')
        with locked(node, 'host_runtimes'):
            run.stop().row('tidy', 'done', 'leave').stop().row('leave', 'stop', '').ended()


def test_limits_of_the_process_and_several_qvd_rpc(node):
    with started(node, hkd_process_limit_nofile='4000', hkd_process_limit_hard_nofile='5000',
                 hkd_process_limit_core='0', hkd_rpc_processes='3') as run:
        run.row('adopt', 'done', 'run')
        pid = node.run(['pgrep', '-x', 'qvd-hkd']).stdout.split()[0]
        limits = node.run(['cat', f'/proc/{pid}/limits']).stdout
        assert re.search(r'^Max open files +4000 +5000 ', limits, re.M), limits
        assert re.search(r'^Max core file size +0 ', limits, re.M), limits
        wait_until(lambda: len(node.run(['pgrep', '-x', '-P', pid, 'qvd-rpc'], check=False)
                               .stdout.split()) == 3, 10, 'three of them')
        run.stop().ended()
    with started(node, hkd_process_limit_stack='plenty') as run:
        run.ended(1)
        assert 'hkd.process.limit.stack = plenty' in run.text()
