# SPDX-License-Identifier: GPL-3.0-or-later
"""The manuals' commands, in their order, on machines with systemd that were empty before."""

import os

import pytest
from farm import TOP
from machine import Machine, MachineError
from manual import matches, read_blocks

PAGES = ('installation.md', 'administration.md', 'from-the-original.md')
# Blocks that no machine of ours can run, with the reason that the page gives.
NOT_RUN = {}
LAN = '''ip link set enp1s0 up
ip addr add {}/24 dev enp1s0
ip link set enp2s0 up
'''


@pytest.fixture(scope='module')
def machines(tmp_path_factory):
    """Two machines with two cables: enp1s0 is their network, enp2s0 joins the bridges. Both see the
    folder of the sources, and what the first has compiled there."""
    env = {'CCACHE_DIR': os.environ.get('CCACHE_DIR', os.path.join(TOP, 'build/cache/ccache'))}
    folders = {os.path.join(TOP, 'build/release'): tmp_path_factory.mktemp('release')}
    with Machine('node1', env, folders=folders) as node1, \
            Machine('node2', env, storage=node1, folders=folders) as node2:
        node1.link(node2, 'enp1s0')
        node1.link(node2, 'enp2s0')
        node1.sh(LAN.format('192.0.2.11'))
        node2.sh(LAN.format('192.0.2.12'))
        yield {'node1': node1, 'node2': node2}


def run(machines, block):
    machine = machines[block.machine]
    try:
        return machine.sh(f'set -euo pipefail\ncd {TOP}\n{block.text}', timeout=900)
    except MachineError as error:
        pytest.fail(f'{block}: {error}\n'
                    + machine.sh("journalctl -u 'qvd*' --no-pager | tail -40", check=False))


def test_every_block(machines):
    not_run, differs = {}, []
    for page in PAGES:
        for block in read_blocks(os.path.join(TOP, 'docs', page), page):
            if block.reason:
                not_run[str(block)] = block.reason
                continue
            output = run(machines, block)
            if block.expected is not None and not matches(block.expected, output):
                differs.append(f'{block} tells\n{block.expected}\nand prints\n{output}')
            if 'scp' not in block.text and '/root/qvd-roles' in block.text \
                    and block.machine == 'node1':
                # What the text tells the reader to do by scp.
                roles = machines['node1'].sh('cat /root/qvd-roles')
                machines['node2'].sh(f"umask 077; cat > /root/qvd-roles <<'END'\n{roles}END\n")
    assert not differs, '\n'.join(differs)
    print(''.join(f'not run: {where}: {why}\n' for where, why in not_run.items()))
    assert set(not_run.values()) == set(NOT_RUN), not_run
