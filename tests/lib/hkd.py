# SPDX-License-Identifier: GPL-3.0-or-later
"""A farm of hkd alone: rows are written and orders given by SQL, as L7R and the API do."""

import contextlib
import os
import re
import shutil

from farm import built_image, wait_until


def add_node(farm, name='node1', address='10.3.15.1'):
    """The node's row; its id."""
    return int(farm.psql(f"INSERT INTO hosts (name, address) VALUES ('{name}', '{address}')"
                         " RETURNING id")[0][0])


def add_osf(farm, hypervisor='nothing', name='desk', image=None, **fields):
    """An OSF with one published image tagged default. image: of images/build, None: a name only."""
    columns = {'name': f"'{name}'", 'hypervisor': f"'{hypervisor}'", 'memory': '512',
               **{k: str(v) for k, v in fields.items()}}
    osf = farm.psql(f"INSERT INTO osfs ({','.join(columns)}) VALUES ({','.join(columns.values())})"
                    " RETURNING id")[0][0]
    di = farm.psql(f"INSERT INTO dis (osf_id, version) VALUES ({osf}, 'v1') RETURNING id")[0][0]
    file = f'{di}-{image or "none"}.tar.zst'
    if image:
        folder = farm.path('lib/storage/images')
        os.makedirs(folder, exist_ok=True)
        put_image(built_image(image, farm.tree), os.path.join(folder, file))
    farm.psql(f"UPDATE dis SET path = '{file}' WHERE id = {di};"
              f"UPDATE di_runtimes SET state = 'published' WHERE di_id = {di};"
              f"INSERT INTO di_tags (di_id, osf_id, tag) VALUES ({di}, {osf}, 'default')")
    return int(osf)


def put_image(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def add_vms(farm, osf, count):
    """That many VMs of one user; their ids."""
    rows = farm.psql(
        f"WITH u AS (INSERT INTO users (login) VALUES ('u' || nextval('serials')) RETURNING id)"
        " INSERT INTO vms (name, user_id, osf_id, ip, tenant_id)"
        f" SELECT 'vm' || g, u.id, {osf}, ('10.3.15.50'::inet + g +"
        "  (SELECT count(*) FROM vms)::integer), 1"
        f" FROM u, generate_series(1, {count}) g RETURNING id")
    return [int(row[0]) for row in rows]


def order_start(farm, *vms, host_id=1, quiet=False, local=False):
    """As CLAIM does, for all at once. quiet: nobody is notified; local: no standby is waited for."""
    farm.psql(('SET qvd.notify = store; ' if quiet else '')
              + ('SET synchronous_commit = local; ' if local else '')
              + f"WITH r AS (UPDATE vm_runtimes SET host_id = {host_id}, vm_cmd = 'start'"
              f" WHERE vm_id IN ({','.join(map(str, vms))})"
              " AND vm_state = 'stopped' AND host_id IS NULL RETURNING vm_id)"
              " UPDATE host_runtimes SET assigned = assigned + (SELECT count(*) FROM r)"
              f" WHERE host_id = {host_id}")


def order_stop(farm, *vms, quiet=False, local=False):
    """quiet: nobody is notified; local: no standby is waited for."""
    farm.psql(('SET qvd.notify = store; ' if quiet else '')
              + ('SET synchronous_commit = local; ' if local else '')
              + "UPDATE vm_runtimes SET vm_cmd = 'stop'"
              f" WHERE vm_id IN ({','.join(map(str, vms))}) AND vm_state <> 'stopped'")


def vm(farm, vm_id):
    names = ('vm_state', 'vm_cmd', 'host_id', 'vm_pid', 'blocked', 'blocked_reason', 'vm_address',
             'vm_vma_port', 'vm_x_port', 'current_di_id')
    row = farm.psql(f"SELECT {','.join(f'coalesce({n}::text, $$$$)' for n in names)}"
                    f' FROM vm_runtimes WHERE vm_id = {vm_id}')[0]
    return dict(zip(names, row))


def state(farm, vm_id):
    return vm(farm, vm_id)['vm_state']


def wait_state(farm, vm_ids, wanted, timeout=20):
    """vm_ids: one, or several."""
    ids = [vm_ids] if isinstance(vm_ids, int) else vm_ids
    sql = ("SELECT count(*) FROM vm_runtimes"
           f" WHERE vm_id IN ({','.join(map(str, ids))}) AND vm_state = '{wanted}'")
    wait_until(lambda: farm.psql(sql) == [[str(len(ids))]], timeout,
               f'VM {vm_ids} to be {wanted}')


def state_since(farm, vm_id):
    """When it came into its state: seconds since 1970 (one machine, one clock)."""
    return float(farm.psql('SELECT extract(epoch FROM vm_state_ts) FROM vm_runtimes'
                           f' WHERE vm_id = {vm_id}')[0][0])


def host(farm, host_id=1):
    names = ('state', 'pid', 'assigned', 'usable_ram', 'usable_cpu', 'free_ram', 'free_cpu',
             'clock_diff', 'cmd', 'ok_ts')
    row = farm.psql(f"SELECT {','.join(f'coalesce({n}::text, $$$$)' for n in names)}"
                    f' FROM host_runtimes WHERE host_id = {host_id}')[0]
    return dict(zip(names, row))


def wait_host(farm, wanted, timeout=20):
    wait_until(lambda: host(farm)['state'] == wanted, timeout, f'the node to be {wanted}')


def wait_host_named(farm, name, wanted, timeout=20):
    sql = ('SELECT r.state FROM hosts h JOIN host_runtimes r ON r.host_id = h.id'
           f" WHERE h.name = '{name}'")
    wait_until(lambda: farm.psql(sql) == [[wanted]], timeout, f'{name} to be {wanted}')


def log(farm):
    with open(farm.path('log/hkd.log'), encoding='utf-8', errors='replace') as f:
        return f.read()


def wait_log(farm, pattern, timeout=10):
    return wait_until(lambda: re.search(pattern, log(farm)), timeout, f'{pattern!r} in the log')


def log_times(farm, pattern):
    """Seconds since midnight of the lines that match."""
    found = []
    for line in log(farm).splitlines():
        if re.search(pattern, line):
            h, m, s = re.match(r'.*?T(\d\d):(\d\d):(\d\d\.\d+)', line).groups()
            found.append(int(h) * 3600 + int(m) * 60 + float(s))
    return found


def descends(pid, ancestor):
    """Is the process the ancestor, its child, its child's child...?"""
    while pid > 1 and pid != ancestor:
        with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as f:
            pid = int(re.search(r'^PPid:\s*(\d+)', f.read(), re.M)[1])
    return pid == ancestor


def host_pid(farm, inner):
    """The pid that the host knows for a process inside the farm (the farm's pid namespace)."""
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/status', encoding='ascii', errors='replace') as f:
                pids = re.search(r'^NSpid:\s*(.*)$', f.read(), re.M)[1].split()
            if len(pids) >= 2 and pids[1] == str(inner) and descends(int(name), farm.pid):
                return int(name)
        except (OSError, TypeError):
            continue
    return 0


def voluntary_switches(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return int(re.search(r'^voluntary_ctxt_switches:\s*(\d+)', f.read(), re.M)[1])


@contextlib.contextmanager
def statements(farm, user):
    """A list that has, after the block, every statement that the role (a pattern) sent meanwhile."""
    def log_all(value):
        farm.psql(f"ALTER SYSTEM SET log_statement = '{value}'")
        farm.psql('SELECT pg_reload_conf()')
        # Servers' processes read it between two statements.
        wait_until(lambda: farm.psql('SHOW log_statement') == [[value]], 5, 'the setting')

    path, seen = farm.path('log/postgres.log'), []
    log_all('all')
    begin = os.path.getsize(path)
    yield seen
    log_all('none')
    with open(path, encoding='utf-8', errors='replace') as f:
        f.seek(begin)
        for line in f:
            found = re.search(rf'\] {user}@\S+ LOG:  (?:execute [^:]*|statement): (.*)', line)
            if found:
                seen.append(found[1])


def kill_postgres(farm):
    """-9 for the postmaster; its children end when they notice, and hold its memory until then."""
    farm.stop_service('postgres', 'SIGKILL')
    wait_until(lambda: farm.run(['pgrep', '-x', 'postgres'], check=False).returncode == 1, 20,
               'the children of postgres to end')
