# SPDX-License-Identifier: GPL-3.0-or-later
"""Where log lines go: files (a component each, rotated), syslog, as settings and SIGHUP tell, also
those of processes that may open nothing."""

import contextlib
import os
import re
import socket
import ssl

import pytest

from farm import TOP, wait_until

FARM = {'settings': {'log.level': 'INFO', 'log.filename': '/var/log/qvd/all.log',
                     'log.l7r.filename': '/var/log/qvd/own-l7r.log'}}
DAEMONS = ('hkd', 'l7r', 'api')
# All that live on: the daemons and their helpers.
PROGRAMS = {'qvd-hkd': 1, 'qvd-l7r': 1, 'qvd-l7r-worker': 2, 'qvd-l7r-broker': 1, 'qvd-authd': 2,
            'qvd-rpc': 2, 'qvd-api': 2}


def processes(farm):
    """(program, where its descriptor 2 leads) of all programs of QVD in the farm."""
    script = ('for p in /proc/[0-9]*; do e=$(readlink $p/exe) || continue; case $e in '
              '/usr/lib/qvd/*) echo "${e##*/} $(readlink $p/fd/2)";; esac; done')
    return [tuple(line.split(' ', 1)) for line in farm.run(['sh', '-c', script]).stdout.splitlines()]


def set_conf(farm, **changes):
    """Keys with _ for . ; None takes one away."""
    path = farm.path('etc/node.conf')
    with open(path, encoding='utf-8') as f:
        lines = f.read().splitlines()
    for key, value in changes.items():
        key = key.replace('_', '.')
        lines = [line for line in lines if not line.startswith(key + ' =')]
        if value is not None:
            lines.append(f'{key} = {value}')
    with open(path, 'w', encoding='utf-8') as f:
        f.write('\n'.join(lines) + '\n')


def reload_all(farm):
    for name in DAEMONS:
        farm.run(['kill', '-HUP', str(farm.service(name)['pid'])])


def text_of(farm, name):
    with contextlib.suppress(FileNotFoundError):
        with open(farm.path('log', name), encoding='utf-8') as f:
            return f.read()
    return ''


def all_at(farm, where):
    """Every program is there as often as it should, and its lines go to where(program)."""
    def look():
        found = processes(farm)
        count = {name: [n for n, _ in found].count(name) for name in PROGRAMS}
        wrong = [(n, target) for n, target in found
                 if not re.fullmatch(where(n), target)]
        look.last = (count, wrong)
        return all(count[n] >= PROGRAMS[n] for n in PROGRAMS) and not wrong
    try:
        wait_until(look, 30, 'targets')
    except BaseException:
        print(look.last)
        raise


def file_of(program):
    return r'/var/log/qvd/(own-l7r|all)\.log' if program in ('qvd-authd', 'qvd-rpc') else (
        r'/var/log/qvd/own-l7r\.log' if program.startswith('qvd-l7r') else r'/var/log/qvd/all\.log')


def bad_login(farm):
    """A question that worker, broker and authd take part in."""
    context = ssl.create_default_context(cafile=farm.path('ca.pem'))
    with socket.create_connection((farm.address, farm.l7r_port), 10) as raw:
        with context.wrap_socket(raw, server_hostname='localhost') as s:
            s.sendall(b'GET /qvd/list_of_vm HTTP/1.1\r\nHost: x\r\n'
                      b'Authorization: Basic bm9ib2R5Om5vdGhpbmc=\r\n\r\n')
            return s.recv(4096)


class Syslog:
    """A syslog daemon at /run/qvd/syslog of the farm."""

    def __init__(self, farm):
        self.path = farm.path('run')
        self.sock = None
        self.lines = []
        self.open()

    def open(self):
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f'/proc/self/fd/{fd}/syslog'
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        self.sock.bind(name)
        os.chmod(name, 0o666)
        os.close(fd)
        self.sock.setblocking(False)

    def restart(self):
        self.sock.close()
        self.open()

    def has(self, pattern):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines.append(self.sock.recv(65536).decode())
        return any(re.search(pattern, line) for line in self.lines)


@pytest.fixture(name='syslog')
def syslog_fixture(farm):
    daemon = Syslog(farm)
    yield daemon
    daemon.sock.close()


def test_a_file_for_each_component(farm):
    all_at(farm, file_of)
    assert bad_login(farm).startswith(b'HTTP/1.1 401 ')
    hkd, l7r = text_of(farm, 'all.log'), text_of(farm, 'own-l7r.log')
    assert re.search(r'^20\S+Z qvd-hkd\[\d+\] info: ', hkd, re.M)
    assert re.search(r'^20\S+Z qvd-api\[\d+\] info: ', hkd, re.M)
    assert re.search(r'^20\S+Z qvd-l7r\[\d+\] info: ', l7r, re.M)
    assert 'qvd-l7r' not in hkd and 'qvd-hkd' not in l7r


def test_rotation(farm):
    """As logrotate does it: rename, SIGHUP. A worker that only finishes its sessions follows too."""
    context = ssl.create_default_context(cafile=farm.path('ca.pem'))
    with socket.create_connection((farm.address, farm.l7r_port), 10) as raw, \
            context.wrap_socket(raw, server_hostname='localhost') as s:
        s.sendall(b'GET /qvd/')  # so that its worker cannot end
        for name in ('all.log', 'own-l7r.log'):
            os.rename(farm.path('log', name), farm.path('log', name + '.1'))
        reload_all(farm)
        all_at(farm, file_of)
        wait_until(lambda: 'reload' in text_of(farm, 'own-l7r.log'), 10, 'a line of the L7R')
        wait_until(lambda: 'settings read again' in text_of(farm, 'all.log'), 10, 'one of the node')
    wait_until(lambda: [n for n, _ in processes(farm)].count('qvd-l7r-worker') == 2, 30,
               'the end of the old workers')


def test_logrotate_takes_our_rules(farm):
    rules = os.path.join(TOP, 'packaging/logrotate.d/qvd')
    done = farm.run(['sh', '-c', 'cp "$1" /run/rules && chmod 644 /run/rules && '
                     'logrotate -d /run/rules', 'sh', rules], check=False)
    assert done.returncode == 0, done.stderr
    assert 'error' not in done.stderr.lower(), done.stderr
    assert '/var/log/qvd/all.log' in done.stderr


def test_syslog(farm, syslog):
    set_conf(farm, log_target='syslog', log_syslog_address='/run/qvd/syslog',
             log_syslog_facility='local3')
    reload_all(farm)
    all_at(farm, lambda program: r'socket:\[\d+\]')
    # local3 is 19: 19 * 8 + 6 (informational, RFC 3164 4.1.1) = 158.
    for program in ('qvd-hkd', 'qvd-l7r', 'qvd-api'):
        wait_until(lambda p=program: syslog.has(
            rf'^<158>[A-Z][a-z]{{2}} [ 123]\d \d\d:\d\d:\d\d {p}\[\d+\]: '), 10, program)
    before = (text_of(farm, 'all.log'), text_of(farm, 'own-l7r.log'))
    # Its worker ends: told by the master; then one that begins has the target from its start.
    pid = farm.run(['pgrep', '-of', 'qvd-l7r-worker']).stdout.strip()
    farm.run(['kill', '-KILL', pid])
    wait_until(lambda: syslog.has(r'<155>.* qvd-l7r\[\d+\]: worker \d \(pid \d+\) has ended'), 10,
               'the line about it')
    all_at(farm, lambda program: r'socket:\[\d+\]')
    assert before == (text_of(farm, 'all.log'), text_of(farm, 'own-l7r.log'))


def test_syslog_is_restarted(farm, syslog):
    """Its socket is a new one; the daemons find it, and their children with them."""
    for name in DAEMONS:
        farm.run(['kill', '-HUP', str(farm.service(name)['pid'])])
    wait_until(lambda: syslog.has(r'qvd-hkd\[\d+\]: settings read again'), 10, 'a line')
    broker = farm.run(['pgrep', '-of', 'qvd-l7r-broker']).stdout.strip()
    syslog.restart()
    farm.run(['kill', '-HUP', str(farm.service('l7r')['pid'])])
    wait_until(lambda: syslog.has(r' qvd-l7r\[\d+\]: reload'), 10, 'the master')
    farm.run(['kill', '-TERM', broker])
    wait_until(lambda: syslog.has(r' qvd-l7r\[\d+\]: qvd-l7r-broker: '), 10, 'its end')


def test_the_manuals_block(farm, syslog):
    """Manual, "2.1.2 Logging": log4perl's block chooses syslog and the level; others are named."""
    set_conf(farm, log_target=None, log_syslog_facility=None, log_level=None,
             **{'log4perl.rootLogger': 'DEBUG, SYSLOG',
                'log4perl.appender.SYSLOG': 'Log::Dispatch::Syslog'})
    reload_all(farm)
    # daemon is 3: 3 * 8 + 7 (debug) = 31.
    wait_until(lambda: syslog.has(r'^<31>.* qvd-\S+\[\d+\]: '), 30, 'a line of level DEBUG')
    wait_until(lambda: syslog.has(r'log4perl\.appender\.SYSLOG is obsolete, ignoring it: use '
                                  r'log\.target'), 10, 'the hint')
    set_conf(farm, **{'log4perl.rootLogger': 'INFO, SCREEN'})
    reload_all(farm)
    wait_until(lambda: 'log4perl.rootLogger = INFO, SCREEN: only' in text_of(farm, 'all.log'), 10,
               'what is understood')
    set_conf(farm, **{'log4perl.rootLogger': None, 'log4perl.appender.SYSLOG': None})


def test_levels_of_components(farm):
    """log.l7r.level over log.level; OFF is silence."""
    set_conf(farm, log_level='OFF', log_l7r_level='DEBUG')
    reload_all(farm)
    wait_until(lambda: re.search(r'^20\S+Z qvd-l7r-worker\[\d+\] debug: ',
                                 (bad_login(farm), text_of(farm, 'own-l7r.log'))[1], re.M), 20,
               'a line of level DEBUG of a worker')
    size = len(text_of(farm, 'all.log'))
    farm.run(['kill', '-HUP', str(farm.service('hkd')['pid'])])
    bad_login(farm)
    assert len(text_of(farm, 'all.log')) == size
    set_conf(farm, log_level='INFO', log_l7r_level=None)
    reload_all(farm)


def test_what_cannot_be_written(farm):
    """A target that cannot be opened is told where lines went before; nothing ends."""
    set_conf(farm, log_filename='/nonexistent/x.log')
    farm.run(['kill', '-HUP', str(farm.service('hkd')['pid'])])
    wait_until(lambda: 'log.filename = /nonexistent/x.log: No such file or directory' in text_of(
        farm, 'all.log'), 10, 'the warning')
    assert farm.service('hkd')['ready']
