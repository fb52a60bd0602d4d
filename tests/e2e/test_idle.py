# SPDX-License-Identifier: GPL-3.0-or-later
"""No polling: a farm with a desktop that somebody is connected to, and nothing happening in it."""

import re
import time

from farm import wait_until

HOUR = {key: '1h' for key in ('hkd.sweep.interval', 'l7r.sweep', 'hkd.vm.vma.ping.interval')}
FARM = {'image': 'minimal', 'users': ['alice'], 'settings': HOUR}
SECONDS = 20

# Voluntary context switches of each process of QVD, all its threads together.
COUNT = r'''
for p in /proc/[0-9]*; do
    name=$(cat $p/comm 2>/dev/null) || continue
    case $name in qvd-*) ;; *) continue ;; esac
    n=$(cat $p/task/*/status | awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }')
    echo "${p#/proc/} $name $n"
done
'''

# What a farm may say to its database while nothing happens.
BEATS = ('UPDATE host_runtimes SET ok_ts = now(), ', 'INSERT INTO l7r_instances ')


def switches(farm):
    rows = [line.split() for line in farm.run(['sh', '-c', COUNT]).stdout.splitlines()]
    return {(pid, name): int(n) for pid, name, n in rows}


def statements(farm, offset):
    """Texts of the statements that PostgreSQL has logged since."""
    with open(farm.path('log/postgres.log'), encoding='utf-8', errors='replace') as f:
        f.seek(offset)
        text = f.read()
    found = re.findall(r' LOG:  execute \S+: (.*?)(?=^\d{4}-\d\d-\d\d |\Z)', text, re.M | re.S)
    return [' '.join(s.split()) for s in found]


def settled(farm):
    """Is a second over in which no process had anything to do? A desktop paints for a while."""
    before = switches(farm)
    time.sleep(1)
    return all(n - before.get(key, 0) < 10 for key, n in switches(farm).items())


def test_idle_is_idle(farm, xserver):
    with farm.client('alice', xserver.display, '--link', 'local'):
        wait_until(lambda: farm.vm_row('alice')['user_state'] == 'connected', 40, 'a session')
        wait_until(lambda: len(xserver.image().getcolors(1 << 24)) > 8, 30, 'a painted desktop')
        farm.psql("ALTER SYSTEM SET log_statement = 'all'", database='postgres')
        farm.psql('SELECT pg_reload_conf()', database='postgres')
        # The L7R tells its counters with its next beat: after that there is nothing left to tell.
        wait_until(lambda: any(s.startswith(BEATS[1]) for s in statements(farm, 0)), 15, 'a beat')
        wait_until(lambda: settled(farm), 60, 'a second of rest')
        with open(farm.path('log/postgres.log'), 'rb') as f:
            offset = f.seek(0, 2)
        before = switches(farm)
        time.sleep(SECONDS)  # this measures, it waits for nothing
        after = switches(farm)
        said = statements(farm, offset)
    names = {name for _, name in after}
    assert {'qvd-hkd', 'qvd-l7r', 'qvd-l7r-worker', 'qvd-l7r-broker', 'qvd-authd', 'qvd-api',
            'qvd-guard', 'qvd-vma'} <= names, names
    assert set(before) == set(after), 'no process came or went'
    rates = {f'{name} {pid}': (after[pid, name] - n) / SECONDS
             for (pid, name), n in before.items()}
    assert {k: r for k, r in rates.items() if r >= 10} == {}, rates
    assert [s for s in said if not s.startswith(BEATS)] == [], said
    # The node's beat every 2 s, the L7R's every 10 s.
    assert SECONDS / 2 - 3 <= len(said) <= SECONDS / 2 + SECONDS / 10 + 5, said
