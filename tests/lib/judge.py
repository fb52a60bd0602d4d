# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of "a VM never runs on two nodes, and its home is never written by two".

He stands outside the code under test: in place of lxc-start (command.lxc-start) on each node, he
writes down on the storage that all share when a hypervisor's process begins and when it ends. A
begin takes <storage>/judge/<VM>.runs, opened O_EXCL: when it is there already, two run, and the
line says TWICE.

    judge.install(node)            before hkd starts
    judge.lines(farm)              [{'what': 'begin', 'vm': 'qvd-1', 'node': 'node1', ...}]
    judge.check(farm)              fails when any VM ran twice; returns how many runs there were
    judge.settle(farm, node)       the node was killed with all its processes: its runs have ended
"""

import os
import time

import pytest

PROGRAM = '/etc/qvd/judge-lxc-start'

WRAPPER = '''#!/usr/bin/python3 -I
# Becomes lxc-start; a process apart waits for its end.
import os, select, sys, time

FOLDER, NODE = '/var/lib/qvd/storage/judge', '@node@'
VM = sys.argv[sys.argv.index('-n') + 1]


def write(what):
    fd = os.open(FOLDER + '/runs', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f'{what} {VM} {NODE} {me} {time.clock_gettime(time.CLOCK_MONOTONIC):.6f}\\n'.encode())
    os.close(fd)


me = os.getpid()
mark = f'{FOLDER}/{VM}.runs'
try:
    fd = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, f'{NODE} {me}'.encode())
    os.close(fd)
    write('begin')
except FileExistsError:
    write('TWICE')
watched = os.pidfd_open(me)
ready, told = os.pipe()
if os.fork() == 0:
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    null = os.open('/dev/null', os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.dup2(told, 3)
    os.dup2(watched, 4)
    os.closerange(5, 4096)
    os.write(3, b'x')
    os.close(3)
    select.select([4], [], [])
    write('end')
    try:
        with open(mark) as f:
            mine = f.read() == f'{NODE} {me}'
        if mine:
            os.unlink(mark)
    except FileNotFoundError:
        pass
    os._exit(0)
os.wait()
os.read(ready, 1)
os.execv('/usr/bin/lxc-start', ['lxc-start'] + sys.argv[1:])
'''


def folder(farm):
    return farm.path('lib/storage/judge')


def install(node):
    os.makedirs(folder(node.join or node), mode=0o700, exist_ok=True)
    path = node.path('etc', os.path.basename(PROGRAM))
    with open(path, 'w', encoding='utf-8') as f:
        f.write(WRAPPER.replace('@node@', node.nodename))
    os.chmod(path, 0o755)


def lines(farm):
    """All that he has written, oldest first."""
    try:
        with open(folder(farm) + '/runs', encoding='ascii') as f:
            rows = [line.split() for line in f]
    except FileNotFoundError:
        return []
    return [{'what': what, 'vm': vm, 'node': node, 'pid': int(pid), 'at': float(at)}
            for what, vm, node, pid, at in rows]


def check(farm):
    """The number of runs; fails when a VM ran while it ran, by the marks or by the lines."""
    running, count = {}, 0
    for line in lines(farm):
        if line['what'] == 'end':
            running.pop(line['vm'], None)
            continue
        count += 1
        if line['what'] != 'begin' or line['vm'] in running:
            pytest.fail(f'{line["vm"]} runs twice: {line}, beside {running.get(line["vm"])}')
        running[line['vm']] = line
    return count


def settle(farm, node):
    """For a node whose processes were all killed: he was among them, and could write no end."""
    for name in os.listdir(folder(farm)):
        path = os.path.join(folder(farm), name)
        if not name.endswith('.runs'):
            continue
        with open(path, encoding='ascii') as f:
            where, pid = f.read().split()
        if where == node.nodename:
            with open(folder(farm) + '/runs', 'a', encoding='ascii') as f:
                f.write(f'end {name[:-5]} {where} {pid} {time.monotonic():.6f}\n')
            os.unlink(path)
