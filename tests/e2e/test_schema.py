# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema: its rules, its notifications, and what each role may do.

The tables of rights are typed by hand: who may read and change what is a promise, not a detail.
"""

import subprocess

import pytest

HOST = "INSERT INTO hosts (name, address) VALUES ('{0}', '{1}') RETURNING id"
VM = ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('{0}', {1}, {2}, "
      "vm_free_ip('10.3.0.10', 16)) RETURNING id")


@pytest.fixture(scope='module', name='ids')
def ids_fixture(database):
    """One of everything; ids by name."""
    v = database.value
    ids = {'host': v(HOST.format('node1', '10.3.15.1')),
           'user': v("INSERT INTO users (login) VALUES ('alice') RETURNING id"),
           'osf': v("INSERT INTO osfs (name) VALUES ('desk') RETURNING id")}
    ids['di'] = v(f"INSERT INTO dis (osf_id, version, path) VALUES ({ids['osf']}, "
                  "'2026-01-02-000', '1-desk.tar.zst') RETURNING id")
    ids['vm'] = v(VM.format('desk1', ids['user'], ids['osf']))
    ids['instance'] = v(f"INSERT INTO l7r_instances (host_id) VALUES ({ids['host']}) RETURNING id")
    ids['session'] = v(f"INSERT INTO sessions (vm_id) VALUES ({ids['vm']}) RETURNING id")
    return ids


# -- rules --------------------------------------------------------------------------------------

RULES = [
    # statement, constraint that must refuse it
    ("INSERT INTO users (login) VALUES ('alice')", 'users_tenant_id_login_key'),
    ("INSERT INTO users (login, tenant_id) VALUES ('x', 0)", 'users_tenant_id_check'),
    ("INSERT INTO users (login, tenant_id) VALUES ('x', -1)", 'users_tenant_id_check'),
    ("INSERT INTO users (login) VALUES ('')", 'users_login_check'),
    ("INSERT INTO users (login) VALUES (E'a\\nb')", 'users_login_check'),
    ("INSERT INTO users (login, password) VALUES ('x', 'plain')", 'users_password_check'),
    ("INSERT INTO users (login, password) VALUES ('x', '$1$abcdefgh')", 'users_password_check'),
    ("INSERT INTO administrators (tenant_id, name) VALUES (-1, 'x')",
     'administrators_tenant_id_check'),
    ("INSERT INTO administrators (tenant_id, name) VALUES (0, 'admin')",
     'administrators_tenant_id_name_key'),
    ("INSERT INTO hosts (name, address) VALUES ('node1', '10.3.15.9')", 'hosts_name_key'),
    ("INSERT INTO hosts (name, address) VALUES ('n9', '10.3.15.1')", 'hosts_address_key'),
    ("INSERT INTO hosts (name, address) VALUES ('n9', '10.3.0.0/16')", 'hosts_address_check'),
    ("INSERT INTO osfs (name, memory) VALUES ('x', 15)", 'osfs_memory_check'),
    ("INSERT INTO osfs (name, hypervisor) VALUES ('x', 'xen')", 'osfs_hypervisor_check'),
    ("INSERT INTO osfs (name, user_storage_size) VALUES ('x', -1)",
     'osfs_user_storage_size_check'),
    ("INSERT INTO dis (osf_id, version, path) VALUES ({osf}, 'a', '../x')", 'dis_path_check'),
    ("INSERT INTO dis (osf_id, version, path) VALUES ({osf}, 'a', '..')", 'dis_path_check'),
    ("INSERT INTO dis (osf_id, version) VALUES ({osf}, '2026-01-02-000')",
     'dis_osf_id_version_key'),
    ("INSERT INTO dis (osf_id, version) VALUES ({osf}, '-x')", 'dis_version_check'),
    ("INSERT INTO dis (osf_id, version, sha256) VALUES ({osf}, 'b', 'XYZ')", 'dis_sha256_check'),
    ("UPDATE di_runtimes SET state = 'gone'", 'di_runtimes_state_check'),
    ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('desk1', {user}, {osf}, '10.3.0.99')",
     'vms_user_id_name_key'),
    ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('x', {user}, {osf}, '10.3.0.10')",
     'vms_ip_key'),
    ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('x', {user}, {osf}, '::1')",
     'vms_ip_check'),
    ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('x', {user}, {osf}, '10.3.0.0/24')",
     'vms_ip_check'),
    ("INSERT INTO vms (name, user_id, osf_id, ip) VALUES ('x', 999999, {osf}, '10.3.0.99')",
     'vms_user_fkey'),
    ("UPDATE vm_runtimes SET vm_state = 'starting', host_id = {host}",
     'vm_runtimes_vm_state_check'),
    ("UPDATE vm_runtimes SET vm_state = 'running'", 'vm_runtimes_host_check'),
    ("UPDATE vm_runtimes SET vm_cmd = 'start'", 'vm_runtimes_host_check'),
    ("UPDATE vm_runtimes SET vm_cmd = 'busy', host_id = {host}", 'vm_runtimes_vm_cmd_check'),
    ("UPDATE vm_runtimes SET user_state = 'connected'", 'vm_runtimes_session_check'),
    ("UPDATE vm_runtimes SET session_id = {session}", 'vm_runtimes_session_check'),
    ("UPDATE vm_runtimes SET session_id = {session}, user_state = 'connected'",
     'vm_runtimes_session_check'),
    ("UPDATE vm_runtimes SET user_cmd = 'abort'", 'vm_runtimes_user_cmd_session_check'),
    ("UPDATE vm_runtimes SET blocked_reason = 'x'", 'vm_runtimes_blocked_check'),
    ("UPDATE vm_runtimes SET vm_expiration_hard = now()", 'vm_runtimes_expiration_check'),
    ("UPDATE host_runtimes SET state = 'asleep'", 'host_runtimes_state_check'),
    ("UPDATE host_runtimes SET assigned = assigned - 1", 'host_runtimes_assigned_check'),
    ("INSERT INTO vm_secrets (vm_id, secret) VALUES ({vm}, '\\x00')", 'vm_secrets_secret_check'),
    ("INSERT INTO configs (key, value) VALUES ('a b', '1')", 'configs_key_check'),
    ("INSERT INTO ssl_configs (key, value) VALUES ('x', '1')", 'ssl_configs_key_check'),
    ("DELETE FROM users WHERE id = {user}", 'vms_user_fkey'),
    ("DELETE FROM osfs WHERE id = {osf}", 'dis_osf_id_fkey'),
    ("DELETE FROM tenants WHERE id = 1", 'users_tenant_id_fkey'),
]


@pytest.mark.parametrize('statement, constraint', RULES)
def test_rule(database, ids, statement, constraint):
    assert database.refused(statement.format(**ids)).constraint == constraint


def test_tenants_do_not_mix(database, ids):
    tenant = database.value("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    user = database.value(f"INSERT INTO users (login, tenant_id) VALUES ('alice', {tenant}) "
                          'RETURNING id')
    error = database.refused(VM.format('x', user, ids['osf']))
    assert error.constraint == 'vms_osf_fkey'
    osf = database.value(f"INSERT INTO osfs (name, tenant_id) VALUES ('desk', {tenant}) "
                         'RETURNING id')
    vm = database.value(VM.format('x', user, osf))
    assert database.value(f'SELECT tenant_id FROM vms WHERE id = {vm}') == tenant


def test_companions(database):
    host = database.value(HOST.format('companion', '10.3.15.77'))
    assert database.psql(f'SELECT state, assigned, blocked FROM host_runtimes WHERE host_id = {host}'
                         ) == [['stopped', '0', 'f']]
    database.psql(f'DELETE FROM hosts WHERE id = {host}')
    assert database.psql(f'SELECT FROM host_runtimes WHERE host_id = {host}') == []
    assert database.psql(f'SELECT FROM host_counters WHERE host_id = {host}') == []


def test_tag_is_unique_in_its_osf(database, ids):
    osf = database.value("INSERT INTO osfs (name) VALUES ('tags') RETURNING id")
    a, b = (database.value(f"INSERT INTO dis (osf_id, version, path) VALUES ({osf}, 'v{n}', "
                           f"'tags-{n}') RETURNING id") for n in (1, 2))
    add = "INSERT INTO di_tags (di_id, osf_id, tag) VALUES ({}, {}, 'head')"
    database.psql(add.format(a, osf))
    assert database.refused(add.format(b, osf)).constraint == 'di_tags_osf_id_tag_key'
    assert database.refused(add.format(b, ids['osf'])).constraint == 'di_tags_di_fkey'
    database.psql(f"UPDATE di_tags SET di_id = {b} WHERE osf_id = {osf} AND tag = 'head'")
    vm = database.value(VM.format('tagged', ids['user'], osf).replace(
        '(name,', '(di_tag, name,').replace("('tagged'", "('head', 'tagged'"))
    find = f'SELECT di_id FROM vm_next_di WHERE vm_id = {vm}'
    assert database.psql(find) == []
    database.psql(f"UPDATE di_runtimes SET state = 'published' WHERE di_id = {b}")
    assert database.psql(find) == [[b]]
    database.psql(f'UPDATE dis SET blocked = true WHERE id = {b}')
    assert database.psql(find) == []


def test_stamps(database, ids):
    row = database.psql(f"""
        UPDATE vm_runtimes SET host_id = {ids['host']}, vm_cmd = 'start' WHERE vm_id = {ids['vm']};
        UPDATE vm_runtimes SET vm_state = 'starting_1', vm_cmd = NULL WHERE vm_id = {ids['vm']};
        UPDATE vm_runtimes SET vm_state = 'running', vm_expiration_hard = now() + interval '1 h',
            blocked = true, blocked_reason = 'why' WHERE vm_id = {ids['vm']};
        SELECT vm_cmd_id > 0, vm_cmd_ts > now() - interval '1 min',
            vm_state_ts > vm_cmd_ts, blocked_ts > vm_cmd_ts FROM vm_runtimes
            WHERE vm_id = {ids['vm']}""")
    assert row == [['t', 't', 't', 't']]
    row = database.psql(f"""
        UPDATE vm_runtimes SET vm_state = 'stopped', blocked = false, host_id = NULL
            WHERE vm_id = {ids['vm']};
        SELECT vm_expiration_hard, blocked_reason, blocked_ts FROM vm_runtimes
            WHERE vm_id = {ids['vm']}""")
    assert row == [['', '', '']]


def test_serials_of_sessions_and_commands_are_one_order(database, ids):
    session = int(database.value('INSERT INTO sessions DEFAULT VALUES RETURNING id'))
    command = int(database.value(f"""
        UPDATE vm_runtimes SET host_id = {ids['host']}, vm_cmd = 'start' WHERE vm_id = {ids['vm']}
        RETURNING vm_cmd_id"""))
    database.psql(f"UPDATE vm_runtimes SET vm_cmd = NULL, host_id = NULL WHERE vm_id = {ids['vm']}")
    assert command > session
    assert int(database.value('INSERT INTO sessions DEFAULT VALUES RETURNING id')) > command


def test_properties_later_wins(database, ids):
    database.psql(f"""
        INSERT INTO properties_list (key, tenant_id) VALUES ('p', 1), ('q', 1);
        INSERT INTO qvd_object_properties_list (property_id, qvd_object)
            SELECT id, o FROM properties_list, unnest('{{osf,di,user,vm}}'::text[]) o;
        INSERT INTO osf_properties SELECT {ids['osf']}, q.id, 'osf' FROM
            qvd_object_properties_list q WHERE qvd_object = 'osf';
        INSERT INTO user_properties SELECT {ids['user']}, q.id, 'user' FROM
            qvd_object_properties_list q JOIN properties_list l ON l.id = q.property_id
            WHERE qvd_object = 'user' AND l.key = 'p'""")
    find = f"SELECT key, value FROM vm_effective_properties WHERE vm_id = {ids['vm']} ORDER BY key"
    assert database.psql(find) == [['p', 'user'], ['q', 'osf']]
    database.psql(f"""INSERT INTO vm_properties SELECT {ids['vm']}, q.id, 'vm' FROM
        qvd_object_properties_list q WHERE qvd_object = 'vm'""")
    assert database.psql(find) == [['p', 'vm'], ['q', 'vm']]


def test_fifty_addresses_at_once(database, ids, cluster):
    """50 creations at once get 50 addresses; a full range is told by null."""
    sql = VM.format('at-once-%d', ids['user'], ids['osf']).replace('10.3.0.10', '10.9.0.10')
    runs = [subprocess.Popen(['psql', '-X', '-q', '-A', '-t', '-h', cluster.host, '-U', 'qvd_api',
                              '-d', database.name, '-c', sql % n], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) for n in range(50)]
    assert [(p.wait(60), p.stderr.read()) for p in runs] == [(0, b'')] * 50
    rows = database.psql("SELECT host(ip) FROM vms WHERE name LIKE 'at-once-%' ORDER BY ip")
    assert [r[0] for r in rows] == [f'10.9.0.{n}' for n in range(10, 60)]
    database.psql("DELETE FROM vms WHERE ip = '10.9.0.17'")
    assert database.value("SELECT vm_free_ip('10.9.0.10', 16)") == '10.9.0.17'
    assert database.value("SELECT vm_free_ip('10.9.0.56', 29)") == '10.9.0.60'
    assert database.value("SELECT vm_free_ip('10.9.0.56', 30) IS NULL") == 't'


# -- notifications ------------------------------------------------------------------------------

NOTICES = [
    # statement, what must be told (channel, payload); {x} are ids
    ("UPDATE vm_runtimes SET host_id = {host}, vm_cmd = 'start' WHERE vm_id = {vm}",
     {('h{host}', 'vm {vm}'), ('api', 'vm {vm}')}),
    ("UPDATE vm_runtimes SET user_state = 'connecting', session_id = {session}, "
     "l7r_instance_id = {instance} WHERE vm_id = {vm}",
     {('l{instance}', 'vm {vm}'), ('api', 'vm {vm}')}),
    ("UPDATE vm_runtimes SET vm_state = 'running' WHERE vm_id = {vm}",
     {('l{instance}', 'vm {vm}'), ('api', 'vm {vm}')}),
    ("UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm}",
     {('l{instance}', 'session {session}'), ('api', 'vm {vm}')}),
    ("UPDATE vm_runtimes SET vma_ok_ts = now(), vm_pid = 7 WHERE vm_id = {vm}", set()),
    ("UPDATE vm_runtimes SET vm_cmd = NULL, user_cmd = NULL, session_id = NULL, "
     "l7r_instance_id = NULL, user_state = 'disconnected', vm_state = 'stopped', host_id = NULL "
     "WHERE vm_id = {vm}", {('l{instance}', 'vm {vm}'), ('api', 'vm {vm}')}),
    ("UPDATE host_runtimes SET ok_ts = now(), free_cpu = 0.5, assigned = 3 WHERE host_id = {host}",
     set()),
    ("UPDATE host_runtimes SET cmd = 'stop', assigned = 0 WHERE host_id = {host}",
     {('h{host}', 'host {host}'), ('api', 'host {host}')}),
    ("UPDATE hosts SET description = 'd' WHERE id = {host}",
     {('hosts', 'host {host}'), ('api', 'host {host}')}),
    ("INSERT INTO configs (key, value) VALUES ('a.b', 'c')", {('config', 'config -1')}),
    ("DELETE FROM configs WHERE key = 'a.b'", {('config', 'config -1')}),
    ("UPDATE users SET description = 'd' WHERE id = {user}", {('api', 'user {user}')}),
    ("UPDATE host_counters SET nx_ok = 1; UPDATE vm_counters SET run_ok = 1; "
     "UPDATE sessions SET tls_ms = 4", set()),
]


def notices(database, sql):
    """(channel, payload) of all that the statement told, and whether anything else failed."""
    channels = [r[0] for r in database.psql(
        "SELECT 'h' || id FROM hosts UNION ALL SELECT 'l' || id FROM l7r_instances UNION ALL "
        "SELECT unnest('{api,config,hosts}'::text[])")]
    listen = ''.join(f'LISTEN "{c}";\n' for c in channels)
    done = subprocess.run(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', database.cluster.host,
                           '-U', 'postgres', '-d', database.name, '-f', '-'], check=True, text=True,
                          input=f'{listen}{sql};\nSELECT 1;\n', stdout=subprocess.PIPE)
    found = set()
    for line in done.stdout.splitlines():
        if line.startswith('Asynchronous notification'):
            words = line.split('"')
            found.add((words[1], words[3]))
    return found


@pytest.mark.parametrize('number', range(len(NOTICES)))
def test_notice(database, ids, number):
    statement, expected = NOTICES[number]
    assert notices(database, statement.format(**ids)) == {
        (c.format(**ids), p.format(**ids)) for c, p in expected}


def test_programs_are_not_echoed(database, ids):
    """What the programs' own sessions change is told by them, after the commit."""
    for statement, _ in NOTICES:
        assert notices(database, f"SET qvd.notify = 'store'; {statement.format(**ids)}") == set()


# -- rights -------------------------------------------------------------------------------------

HIDDEN = {  # columns that a role must not read, though it reads others of the table
    'qvd_hkd': {'users': {'password'}, 'configs': 'all', 'administrators': 'all', 'user_tokens': 'all',
                'user_auth_parameters': 'all', 'api_sessions': 'all', 'ssl_configs': 'all'},
    'qvd_l7r': {'users': {'password'}, 'configs': 'all', 'administrators': 'all', 'user_tokens': 'all',
                'user_auth_parameters': 'all', 'api_sessions': 'all'},
    'qvd_auth': {'vm_secrets': 'all', 'ssl_configs': 'all', 'sessions': 'all', 'vm_runtimes': 'all',
                 'api_sessions': 'all', 'hosts': 'all'},
    'qvd_api': {'users': {'password'}, 'administrators': {'password'}, 'vm_secrets': 'all',
                'user_tokens': {'token_hash', 'auth_params_id'}, 'user_auth_parameters': 'all',
                'ssl_configs': {'value'}, 'configs': {'value'}},
}


@pytest.mark.parametrize('role, table', [(r, t) for r, ts in HIDDEN.items() for t in ts])
def test_hidden(database, role, table):
    columns = [r[0] for r in database.psql(
        f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0")]
    hidden = set(columns) if HIDDEN[role][table] == 'all' else HIDDEN[role][table]
    for column in hidden:
        assert database.refused(f'SELECT {column} FROM {table}', role).sqlstate == '42501', column
    for column in set(columns) & {'id', 'login', 'name', 'key'} - hidden:
        database.psql(f'SELECT {column} FROM {table}', role)


def test_secrets_of_settings_are_for_authd_alone(database):
    """auth-plugins 3 and 4: the salt, the password of the directory."""
    keys = {'auth.ldap.bindpass': True, 'l7r.auth.plugin.default.salt': True,
            'l7r.auth.plugin.x.client_secret': True, 'auth.ldap.binddn': False,
            'l7r.auth.token.expiration': False}
    for key in keys:
        database.psql(f"INSERT INTO configs (key, value) VALUES ('{key}', 'canary')", 'qvd_api')
    for role in ('qvd_hkd', 'qvd_l7r', 'qvd_auth', 'qvd_api'):
        seen = dict(database.psql('SELECT key, value FROM config_values', role))
        for key, secret in keys.items():
            hidden = secret and role != 'qvd_auth'
            assert seen[key] == ('***' if hidden else 'canary'), (role, key)
    # What cannot be read can be changed, and removed.
    for key in keys:
        database.psql(f"INSERT INTO configs (key, value) VALUES ('{key}', '1') ON CONFLICT "
                      "(tenant_id, key) DO UPDATE SET value = 'other'", 'qvd_api')
        assert database.value(f"SELECT value FROM configs WHERE key = '{key}'") == 'other'
        database.psql(f"DELETE FROM configs WHERE key = '{key}'", 'qvd_api')
    # Nor by a function that is called for each row before the view decides.
    assert database.refused("SELECT value FROM configs WHERE key = 'x'", 'qvd_api').sqlstate == '42501'


HASH = '$y$j9T$canarycanary$' + 'h' * 20
BREAKS = [  # what a row with a hash may break in a way that PostgreSQL would tell the whole row
    ('users', 'login', "''"), ('users', 'login', "repeat('x', 65)"), ('users', 'login', 'NULL'),
    ('users', 'login', "E'a\\nb'"), ('users', 'language', "'xx'"), ('users', 'language', 'NULL'),
    ('users', 'tenant_id', '0'), ('users', 'tenant_id', 'NULL'), ('users', 'blocked', 'NULL'),
    ('users', 'created_at', 'NULL'), ('users', 'password', "substr(password, 2)"),
    ('users', 'tenant_id', '4711'),
    ('administrators', 'name', "''"), ('administrators', 'name', 'NULL'),
    ('administrators', 'tenant_id', '-1'), ('administrators', 'blocked', 'NULL'),
    ('administrators', 'password', "substr(password, 2)"), ('administrators', 'tenant_id', '4711'),
]


def test_no_hash_reaches_the_log_of_the_database(cluster, database):
    """Whichever rule a row breaks. The values come out of the table: statements stand in the log."""
    def log():
        with open(cluster.log_path, encoding='utf-8', errors='replace') as f:
            return f.read()
    for table, name in (('users', 'login'), ('administrators', 'name')):
        database.psql(f"INSERT INTO {table} ({name}, tenant_id, password) VALUES ('hashed', 1, "
                      f"'{HASH}')")
    before = len(log())
    for table, column, value in BREAKS:
        name = 'login' if table == 'users' else 'name'
        error = database.refused(f"UPDATE {table} SET {column} = {value} WHERE {name} = 'hashed'")
        assert error.sqlstate.startswith('23'), (table, column, value, error)
        row = {name: "'other'", 'tenant_id': '1', 'password': 'password', column: value}
        error = database.refused(f"INSERT INTO {table} ({', '.join(row)}) SELECT "
                                 f"{', '.join(row.values())} FROM {table} WHERE {name} = 'hashed'")
        assert error.sqlstate.startswith('23'), (table, column, value, error)
    told = log()[before:]
    assert told.count(' breaks ') >= 16 and 'users_login_check' in told
    assert 'canary' not in told and 'hhhh' not in told


WRITES = {  # role: tables it may insert into, delete from; (table, column) it may update
    'qvd_hkd': ({'vm_secrets'}, {'vm_secrets'},
                {('vm_runtimes', 'vm_state'), ('host_runtimes', 'ok_ts'), ('vm_counters', 'run_ok'),
                 ('sessions', 'ended'), ('di_runtimes', 'percentage'), ('vm_secrets', 'secret')}),
    'qvd_l7r': ({'l7r_instances', 'sessions'}, {'l7r_instances'},
                {('vm_runtimes', 'session_id'), ('vm_runtimes', 'vm_cmd'),
                 ('host_runtimes', 'assigned'), ('sessions', 'tls_ms'), ('l7r_instances', 'ok'),
                 ('host_counters', 'nx_ok')}),
    'qvd_auth': ({'user_tokens', 'user_auth_parameters'}, {'user_tokens', 'user_auth_parameters'},
                 {('users', 'password'), ('administrators', 'password'),
                  ('user_tokens', 'expiration')}),
    'qvd_api': ({'tenants', 'users', 'hosts', 'osfs', 'dis', 'di_tags', 'vms', 'configs',
                 'ssl_configs', 'administrators', 'api_sessions', 'properties_list',
                 'qvd_object_properties_list', 'user_properties', 'vm_properties',
                 'host_properties', 'osf_properties', 'di_properties'},
                {'tenants', 'users', 'hosts', 'osfs', 'dis', 'di_tags', 'vms', 'configs',
                 'ssl_configs', 'administrators', 'api_sessions', 'properties_list',
                 'qvd_object_properties_list', 'user_properties', 'vm_properties',
                 'host_properties', 'osf_properties', 'di_properties', 'user_tokens'},
                {('users', 'password'), ('administrators', 'password'), ('vm_runtimes', 'vm_cmd'),
                 ('vm_runtimes', 'blocked'), ('host_runtimes', 'blocked'), ('host_runtimes', 'cmd'),
                 ('di_runtimes', 'state'), ('configs', 'value'), ('ssl_configs', 'value')}),
}
NEVER = [  # what must not be possible, said one by one
    ('qvd_hkd', 'users', 'blocked'), ('qvd_hkd', 'configs', 'value'), ('qvd_hkd', 'vms', 'name'),
    ('qvd_l7r', 'vm_runtimes', 'vm_state'), ('qvd_l7r', 'vm_runtimes', 'blocked'),
    ('qvd_l7r', 'users', 'password'), ('qvd_l7r', 'vm_secrets', 'secret'),
    ('qvd_l7r', 'host_runtimes', 'blocked'), ('qvd_auth', 'users', 'blocked'),
    ('qvd_auth', 'users', 'login'), ('qvd_auth', 'configs', 'value'),
    ('qvd_auth', 'administrators', 'tenant_id'), ('qvd_api', 'vm_runtimes', 'vm_state'),
    ('qvd_api', 'vm_runtimes', 'session_id'), ('qvd_api', 'sessions', 'ended'),
    ('qvd_api', 'vm_secrets', 'secret'), ('qvd_api', 'user_tokens', 'expiration'),
    ('qvd_api', 'host_runtimes', 'state'), ('qvd_api', 'host_runtimes', 'ok_ts'),
]


@pytest.mark.parametrize('role', WRITES)
def test_writes(database, role):
    inserts, deletes, updates = WRITES[role]
    rows = database.psql(
        "SELECT c.relname, has_table_privilege(r, c.oid, 'INSERT'), "
        "has_table_privilege(r, c.oid, 'DELETE'), has_table_privilege(r, c.oid, 'TRUNCATE') "
        f"FROM pg_class c, (SELECT '{role}'::name AS r) x "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    assert {r[0] for r in rows if r[1] == 't'} == inserts
    assert {r[0] for r in rows if r[2] == 't'} == deletes
    assert {r[0] for r in rows if r[3] == 't'} == set()
    for table, column in updates:
        assert database.value(
            f"SELECT has_column_privilege('{role}', '{table}', '{column}', 'UPDATE')") == 't', column


@pytest.mark.parametrize('role, table, column', NEVER)
def test_never(database, role, table, column):
    assert database.value(
        f"SELECT has_column_privilege('{role}', '{table}', '{column}', 'UPDATE')") == 'f'


@pytest.mark.parametrize('role', WRITES)
def test_roles_make_nothing(database, role):
    assert database.refused('CREATE TABLE x (i int)', role).sqlstate == '42501'
    assert database.refused('CREATE ROLE x', role).sqlstate == '42501'
    assert database.refused("UPDATE schema_migrations SET name = 'x'", role).sqlstate == '42501'
    assert database.refused('SET ROLE qvd_owner', role).sqlstate == '42501'


def test_hash_goes_in_but_not_out(database):
    """The API sets what it cannot read."""
    database.psql("UPDATE users SET password = '$y$j9T$abcdefgh' WHERE login = 'alice'", 'qvd_api')
    database.psql("INSERT INTO users (login, password) VALUES ('carol', '$y$j9T$abcdefgh') "
                  'RETURNING id, login', 'qvd_api')
    assert database.refused("INSERT INTO users (login, password) VALUES ('dave', '$y$j9T$abcdefgh')"
                            ' RETURNING password', 'qvd_api').sqlstate == '42501'


def test_hot_queries_use_indexes(database):
    """With many rows, what runs at each login, beat or sweep reads no whole table."""
    database.psql("""
        INSERT INTO users (login) SELECT 'load' || i FROM generate_series(1, 3000) i;
        INSERT INTO osfs (name) VALUES ('load');
        INSERT INTO vms (name, user_id, osf_id, ip) SELECT 'load', u.id, o.id,
            '10.200.0.0'::inet + row_number() OVER ()::int FROM users u, osfs o
            WHERE u.login LIKE 'load%' AND o.name = 'load';
        ANALYZE""")
    queries = [
        "SELECT id FROM users WHERE tenant_id = 1 AND login = 'load77'",
        'SELECT * FROM vms WHERE user_id = 77',
        'SELECT * FROM vm_runtimes WHERE host_id = 1',
        'SELECT * FROM vm_runtimes WHERE l7r_instance_id = 1',
        'SELECT * FROM vm_runtimes WHERE session_id = 1',
        'SELECT * FROM vm_next_di WHERE vm_id = 77',
    ]
    for query in queries:
        plan = '\n'.join(r[0] for r in database.psql(f'EXPLAIN {query}'))
        for table in ('users', 'vms', 'vm_runtimes', 'v'):
            assert f'Seq Scan on {table}' not in plan, plan
