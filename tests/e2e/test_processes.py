# SPDX-License-Identifier: GPL-3.0-or-later
"""Every process of a farm with a desktop in use: its user, rights, filter, root and descriptors,
against a table typed by hand. Every process matches one row, every row as many as it tells."""

import os
import re

import pytest

from oldclients import PerlClient, first_nx_bytes

FARM = {'image': 'minimal', 'users': ['alice']}

NONE = frozenset()

# Capabilities by their names, as capabilities(7) has them.
CAPS = ('chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap '
        'linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner '
        'sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice '
        'sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap '
        'mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf '
        'checkpoint_restore').split()


def caps(words):
    return frozenset(words.split())


HKD = caps('chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap setfcap '
           'net_bind_service net_admin net_raw sys_chroot sys_ptrace sys_admin sys_nice '
           'sys_resource mknod ipc_lock')
API = caps('setuid setgid setpcap dac_override kill net_bind_service')
L7R = caps('setuid setgid setpcap sys_chroot dac_override kill net_bind_service sys_resource')

# What every event loop of ours has: standard files, the loop, its timer, its signals.
LOOP = {'null': 1, 'log': 2, 'eventpoll': 1, 'pipe': 2}


def loop(**more):
    return {**LOOP, **more}


# name: command line; how many; user; effective and bounding capabilities (None: not ours to judge);
# seccomp mode (2: filter);
# no-new-privs; root; descriptors by kind (None: not ours to judge). channel: our own messages;
# stream: a connection by unix socket (the database); tcp: a connection; listen: a listening socket.
ROWS = [
    ('l7r master', r'/usr/lib/qvd/qvd-l7r$', 1, 'root', L7R, L7R, 0, 1, '/',
     # Channels to broker and 2 workers; pidfds of these, authd and rpc; the memory in which workers
     # count connections. No connection.
     loop(channel=3, pidfd=5, listen=2, memory=1)),
    ('l7r worker', r'/usr/lib/qvd/qvd-l7r-worker --user qvd-l7r$', 2, 'qvd-l7r', NONE, NONE, 2, 1,
     '/run/qvd/empty',
     # Master and broker; of the two workers one has the client and its desktop.
     [loop(channel=2, listen=1), loop(channel=2, listen=1, tcp=2)]),
    ('l7r broker', r'/usr/lib/qvd/qvd-l7r-broker --user qvd-broker$', 1, 'qvd-broker', NONE, NONE,
     2, 1, '/',
     # Master, 2 workers, authd, rpc; the database. No connection of a client or of a VM.
     loop(channel=5, stream=(1, 3))),
    ('authd', r'/usr/lib/qvd/qvd-authd', 2, 'qvd-auth', NONE, NONE, 2, 1, '/',
     loop(channel=1, stream=(1, 2))),
    ('rpc', r'/usr/lib/qvd/qvd-rpc', 2, 'qvd-rpc', NONE, NONE, 2, 1, '/run/qvd/empty',
     # No database, no VM's socket while nobody is asked.
     loop(channel=1)),
    ('hkd', r'/usr/lib/qvd/qvd-hkd$', 1, 'root', HKD, HKD, 0, 0, '/',
     loop(channel=1, stream=(1, 2), pidfd=3, lock=1)),
    ('guard', r'/usr/lib/qvd/qvd-guard --vm 1 ', 1, 'root', HKD, HKD, 0, 0, '/',
     # Locks of VM and overlay, its hook; no socket at all.
     {'null': 1, 'log': 2, 'pidfd': 1, 'signalfd': 1, 'lock': 1, 'hook': 1,
      'overlay': 1}),
    ('lxc-start', r'lxc-start -F -n qvd-1 ', 1, 'root', HKD, HKD, 0, 0, '/', None),
    ('dnsmasq', r'dnsmasq --keep-in-foreground', 1, 'nobody', caps('net_bind_service net_admin'),
     HKD, 0, 0, '/', None),
    ('api master', r'/usr/lib/qvd/qvd-api$', 1, 'root', API, API, 0, 1, '/',
     loop(channel=1, pidfd=2, listen=1)),
    ('api server', r'/usr/lib/qvd/qvd-api --serve', 1, 'qvd-api', NONE, NONE, 2, 1, '/',
     loop(channel=2, listen=1, stream=(1, 5))),
    ('postgres', r'(postgres: |/usr/lib/postgresql/)', None, 'postgres', NONE, None, 0, 0, '/',
     None),
    ('supervisor', r'/usr/bin/python3 .*supervisor.py', 1, 'root', None, None, 0, 0, '/', None),
    # In the VM: no process has a user of the host, all have LXC's filter.
    ('vma monitor', r'/usr/lib/qvd/qvd-vma$', 1, 1000000, None, None, 2, None, '/', None),
    ('vma listener', r'/usr/lib/qvd/qvd-vma-listener', 1, range(1000001, 1001000), NONE, NONE, 2,
     1, '/run/qvd/empty',
     # The port and the channel to the monitor; no file.
     {'null': 1, 'log': 2, 'eventpoll': 1, 'pipe': 2, 'channel': 1, 'listen': 1}),
    ('nxagent', r'/usr/bin/nxagent :100', (1, 2), 1001000, NONE, None, 2, None, '/', None),
    ('session', r'.*', (1, 20), range(1000000, 1065536), None, None, 2, None, '/', None),
]

# The libraries of those that strangers' bytes reach, beside libc: what is not there has no faults.
SANITIZERS = {'asan', 'ubsan', 'gcc_s', 'm'}     # of ./check --asan
LIBRARIES = {
    'l7r worker': {'event_core', 'ssl', 'crypto', 'jansson', 'seccomp'},
    'rpc': {'event_core', 'nettle', 'jansson', 'seccomp'},
    'vma listener': {'event_core', 'nettle', 'jansson', 'seccomp'},
}


def caps_of(text):
    return frozenset(name for i, name in enumerate(CAPS) if int(text, 16) >> i & 1)


class Process:
    def __init__(self, pid, root, kinds):
        with open(f'/proc/{pid}/cmdline', 'rb') as f:
            self.command = f.read().replace(b'\0', b' ').decode(errors='replace').rstrip()
        with open(f'/proc/{pid}/status', encoding='utf-8') as f:
            self.status = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
        self.uid = int(self.status['Uid'].split()[0])
        self.root = os.readlink(f'/proc/{pid}/root').removeprefix(root) or '/'
        with open(f'/proc/{pid}/maps', encoding='utf-8') as f:
            self.libraries = set(re.findall(r'/lib([a-z_]+)[-0-9.]*\.so', f.read())) - {'c'}
        self.fds = {}
        for fd in os.listdir(f'/proc/{pid}/fd'):
            kind = kinds(os.readlink(f'/proc/{pid}/fd/{fd}'))
            self.fds[kind] = self.fds.get(kind, 0) + 1

    def caps(self, which):
        return caps_of(self.status[which])

    def __repr__(self):
        return f'{self.command[:60]!r} uid {self.uid}'


def socket_kinds(pids):
    """inode -> kind, of the network namespaces of these processes."""
    found = {}
    for pid in pids:
        for name in ('tcp', 'tcp6'):
            with open(f'/proc/{pid}/net/{name}', encoding='ascii') as f:
                for line in f.readlines()[1:]:
                    words = line.split()
                    found[words[9]] = 'listen' if words[3] == '0A' else 'tcp'
        with open(f'/proc/{pid}/net/unix', encoding='utf-8') as f:
            for line in f.readlines()[1:]:
                words = line.split()
                found[words[6]] = {'0005': 'channel', '0001': 'stream'}.get(words[4], 'datagram')
    return found


def describer(sockets):
    """What a descriptor's link tells, in the words of the table."""
    def kind(link):
        match = re.fullmatch(r'(socket|pipe|anon_inode):\[?([\w]+)\]?', link)
        if match and match[1] == 'socket':
            return sockets.get(match[2], 'other socket')
        if match:
            return 'pipe' if match[1] == 'pipe' else match[2]
        for pattern, name in ((r'/dev/null$', 'null'), (r'/dev/console$', 'log'),
                              (r'.*/log/qvd/[\w-]+\.log$', 'log'), (r'.*\.log$', 'log'),
                              (r'.*/lock$|.*\.lock$', 'lock'), (r'.*/hook$', 'hook'),
                              (r'.*/overlayfs/\S+$', 'overlay'), (r'/memfd:qvd-', 'memory')):
            if re.match(pattern, link):
                return name
        return link
    return kind


def in_namespace(pid):
    """All processes below that one (a pid namespace's first), itself too."""
    below, parents = [], {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat', encoding='utf-8', errors='replace') as f:
                    parents[int(name)] = int(f.read().rsplit(')', 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    for p in parents:
        at = p
        while at and at != pid:
            at = parents.get(at, 0)
        if at == pid:
            below.append(p)
    return below


@pytest.fixture(name='processes', scope='module')
def processes_fixture(farm):
    client = PerlClient((farm.address, farm.l7r_port), 'alice', farm.users['alice'])
    vm = client.list()[0]['id']
    assert first_nx_bytes(client.wire, client.connect(vm)).startswith(b'NXPROXY')
    pids = in_namespace(farm.pid)
    root = os.readlink(f'/proc/{farm.pid}/root').rstrip('/')
    kinds = describer(socket_kinds([*pids, os.getpid()]))
    yield [Process(pid, root, kinds) for pid in pids
           if open(f'/proc/{pid}/cmdline', 'rb').read()]
    client.wire.close()


def users_of(farm):
    with open(farm.path('sys/etc/upper/passwd'), encoding='utf-8') as f:
        return {line.split(':')[0]: int(line.split(':')[2]) for line in f}


def row_of(process, users):
    """The first row whose command and user it has: the last ones are wider."""
    for row in ROWS:
        user = row[3]
        fits = (process.uid == users[user] if isinstance(user, str) else
                process.uid in user if isinstance(user, range) else process.uid == user)
        if re.match(row[1], process.command) and fits:
            return row
    return None


def grouped(farm, processes):
    users, groups = users_of(farm), {row[0]: [] for row in ROWS}
    for process in processes:
        row = row_of(process, users)
        assert row, f'{process} is in no row of the table'
        groups[row[0]].append(process)
    return groups


def within(count, wanted):
    low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    return low <= count <= high


def test_every_process_has_a_row_and_every_row_its_processes(farm, processes):
    groups = grouped(farm, processes)
    for name, _, count, *_ in ROWS:
        assert groups[name], f'no process is a {name}'
        if count is not None:
            assert within(len(groups[name]), count), f'{name}: {groups[name]}'


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_rights(farm, processes, row):
    name, _, _, _, effective, bounding, seccomp, privileges, root, _ = row
    # What the machine itself does not give, nobody has.
    with open('/proc/self/status', encoding='ascii') as f:
        given = next(caps_of(line.split()[1]) for line in f if line.startswith('CapBnd'))
    for process in grouped(farm, processes)[name]:
        if effective is not None:
            assert process.caps('CapEff') == effective & given, process
            assert process.caps('CapPrm') == effective & given, process
            assert process.caps('CapInh') == NONE and process.caps('CapAmb') == NONE, process
        if bounding is not None:
            assert process.caps('CapBnd') == bounding & given, process
        assert int(process.status['Seccomp']) == seccomp, process
        if privileges is not None:
            assert int(process.status['NoNewPrivs']) == privileges, process
        assert process.root == root, process
        uids = set(process.status['Uid'].split())
        assert len(uids) == 1, f'{process} may take back another user'


@pytest.mark.parametrize('name', LIBRARIES)
def test_libraries(farm, processes, name):
    for process in grouped(farm, processes)[name]:
        assert process.libraries - SANITIZERS == LIBRARIES[name], process


def matches(fds, wanted):
    return set(fds) <= set(wanted) and all(within(fds.get(k, 0), n) for k, n in wanted.items())


@pytest.mark.parametrize('row', [r for r in ROWS if r[9]], ids=lambda row: row[0])
def test_descriptors(farm, processes, row):
    wanted = row[9] if isinstance(row[9], list) else [row[9]]
    found = grouped(farm, processes)[row[0]]
    for process in found:
        assert any(matches(process.fds, w) for w in wanted), f'{process}: {process.fds}'
    # Each way to be is there once.
    for w in wanted:
        assert any(matches(process.fds, w) for process in found), f'none has {w}'
