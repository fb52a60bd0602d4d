# SPDX-License-Identifier: GPL-3.0-or-later
"""The API with a real database: every resource, every refusal, images, orders, addresses."""

import concurrent.futures
import hashlib
import os
import time

import pytest

from apiclient import Api, start_api
from farm import make_farm, wait_until


@pytest.fixture(scope='module')
def farm(request):
    made = make_farm({'services': False})
    try:
        made.api = start_api(made)
        failed_before = request.session.testsfailed
        yield made
        if request.session.testsfailed > failed_before:
            print(made.logs())
    finally:
        made.destroy()


@pytest.fixture
def api(farm):
    return farm.api


@pytest.fixture(scope='module')
def base(farm):
    """An OSF and a user that tests may use but not change."""
    api = farm.api
    return {'osf': api.add('osf', name='base', memory=256),
            'user': api.add('user', login='base', password='secret')}


def stage(farm, name, data):
    path = farm.path('lib/storage/staging', name)
    with open(path, 'wb') as f:
        f.write(data)
    return path


def published(api, di):
    def look():
        row = api.ok('GET', f'di/{di}')
        assert row['state'] != 'fail', row['status_message']
        return row if row['state'] == 'published' else None
    return wait_until(look, 20, f'image {di} published')


def test_only_a_ticket_opens_anything(farm):
    stranger = Api(farm)
    assert stranger.call('GET', 'info')[1]['api'] == 1
    for method, path in (('GET', 'vm'), ('POST', 'vm'), ('GET', 'vm/1'), ('DELETE', 'vm/1'),
                         ('PATCH', 'user/1'), ('POST', 'vm/1/start'), ('GET', 'config'),
                         ('PUT', 'config/x'), ('PUT', 'ssl'), ('POST', 'logout')):
        assert stranger.call(method, path, {})[0] == 401, (method, path)
    for value in ('Bearer x', 'Bearer ' + 'A' * 43, 'Basic YWRtaW46eA==', 'nothing', ''):
        assert stranger.call('GET', 'vm', None, Authorization=value)[0] == 401, value


def test_a_ticket_is_stored_hashed_and_ends(farm):
    one = Api(farm, 'admin', farm.admin_password, '*')
    session = one.ok('GET', 'session')
    assert (session['name'], session['tenant'], session['superadmin']) == ('admin', '*', True)
    digest = hashlib.sha256(one.ticket.encode()).hexdigest()
    assert farm.psql(f"SELECT count(*) FROM api_sessions WHERE ticket_hash = '\\x{digest}'") == [['1']]
    assert one.ticket not in str(farm.psql('SELECT s.*::text FROM api_sessions s'))
    one.ok('POST', 'logout')
    assert one.call('GET', 'session')[0] == 401
    two = Api(farm, 'admin', farm.admin_password)
    farm.psql("UPDATE api_sessions SET expires_at = now() WHERE ticket_hash = '\\x"
              f"{hashlib.sha256(two.ticket.encode()).hexdigest()}'")
    assert two.call('GET', 'session')[0] == 401


def test_login_tells_nothing(farm):
    stranger = Api(farm)
    answers = [stranger.call('POST', 'login', body) for body in (
        {'login': 'admin', 'password': 'wrong', 'tenant': '*'},
        {'login': 'nobody', 'password': 'wrong', 'tenant': '*'},
        {'login': 'nobody', 'password': 'wrong', 'tenant': 'nowhere'})]
    assert [a[0] for a in answers] == [401, 401, 401]
    assert answers[0] == answers[1] == answers[2]
    for body in ({}, {'login': 'admin'}, {'login': 1, 'password': 'x'},
                 {'login': 'a', 'password': 'x', 'more': 1}):
        assert stranger.call('POST', 'login', body)[0] == 400, body


def test_a_blocked_administrator_is_out_at_once(farm):
    farm.psql("INSERT INTO administrators (tenant_id, name, password)"
              " SELECT 0, 'second', password FROM administrators WHERE name = 'admin'")
    second = Api(farm, 'second', farm.admin_password)
    farm.psql("UPDATE administrators SET blocked = true WHERE name = 'second'")
    assert second.call('GET', 'vm')[0] == 401
    assert Api(farm).call('POST', 'login', {'login': 'second', 'tenant': '*',
                                            'password': farm.admin_password})[0] == 401


def test_own_password(farm):
    farm.psql("INSERT INTO administrators (tenant_id, name, password)"
              " SELECT 0, 'third', password FROM administrators WHERE name = 'admin'")
    third, other = (Api(farm, 'third', farm.admin_password) for _ in range(2))
    assert third.refused('POST', 'password', {'password': 'wrong', 'new': 'x'})[0] == 403
    assert third.refused('POST', 'password', {'password': 'wrong'})[0] == 400
    third.ok('POST', 'password', {'password': farm.admin_password, 'new': 'fresh one'})
    assert third.call('GET', 'session')[0] == 200
    assert other.call('GET', 'session')[0] == 401
    assert Api(farm, 'third', 'fresh one').ticket


ROUNDS = [
    ('host', {'name': 'n7', 'address': '192.0.2.7'}, {'description': 'rack 4', 'frontend': 'no'},
     {'name': 'n7', 'address': '192.0.2.7', 'state': 'stopped', 'blocked': False, 'vms': 0,
      'frontend': False, 'backend': True, 'description': 'rack 4', 'http_requests': 0}),
    ('osf', {'name': 'Desk', 'memory': 512, 'user_storage_size': '100'},
     {'memory': '1024', 'user_storage_size': ''},
     {'name': 'Desk', 'memory': 1024, 'use_overlay': True, 'user_storage_size': None,
      'hypervisor': 'lxc', 'is_application': False, 'tenant': 'default', 'vms': 0, 'dis': 0}),
    ('user', {'login': ' Ann ', 'password': 'secret'}, {'description': 'Ännchen', 'blocked': 'yes'},
     {'login': 'ann', 'blocked': True, 'description': 'Ännchen', 'vms': 0, 'language': 'auto',
      'tenant': 'default'}),
    ('vm', {'name': 'desk 1', 'user': 'base', 'osf': 'base', 'ip': '10.3.15.99'},
     {'di_tag': 'test', 'name': 'desk one'},
     {'name': 'desk one', 'user': 'base', 'osf': 'base', 'ip': '10.3.15.99', 'di_tag': 'test',
      'state': 'stopped', 'user_state': 'disconnected', 'blocked': False, 'host': None,
      'memory': 256, 'di': None, 'command': None}),
]


@pytest.mark.parametrize('kind, made, changed, seen', ROUNDS, ids=[r[0] for r in ROUNDS])
def test_every_resource_goes_its_round(api, base, kind, made, changed, seen):
    number = api.add(kind, **made)
    assert api.ok('PATCH', f'{kind}/{number}', changed)['id'] == number
    row = api.ok('GET', f'{kind}/{number}')
    assert {k: row[k] for k in seen} == seen
    assert 'password' not in row
    assert api.rows(kind, f'id={number}') == [row]
    assert api.ok('POST', f'{kind}/{number}/unblock')['id'] == number if kind != 'osf' else True
    api.ok('DELETE', f'{kind}/{number}')
    assert api.refused('GET', f'{kind}/{number}')[0] == 404
    assert api.refused('DELETE', f'{kind}/{number}')[0] == 404
    assert api.refused('PATCH', f'{kind}/{number}', {'description': 'x'})[0] == 404


REFUSALS = [
    ('POST', 'osf', {'nam': 'x'}, 400, 'did you mean "name"'),
    ('POST', 'osf', {'memory': 512}, 422, 'needs name'),
    ('POST', 'osf', {'name': ''}, 422, '1 to 64 bytes'),
    ('POST', 'osf', {'name': 'x' * 65}, 422, '1 to 64 bytes'),
    ('POST', 'osf', {'name': 'a\nb'}, 422, 'control'),
    ('POST', 'osf', {'name': 'o', 'memory': 15}, 422, '16 to 16777216'),
    ('POST', 'osf', {'name': 'o', 'memory': 16777217}, 422, '16 to 16777216'),
    ('POST', 'osf', {'name': 'o', 'memory': '1e3'}, 422, 'whole number'),
    ('POST', 'osf', {'name': 'o', 'use_overlay': 'maybe'}, 422, 'yes or no'),
    ('POST', 'osf', {'name': 'o', 'hypervisor': 'xen'}, 422, 'lxc kvm nothing'),
    ('POST', 'osf', {'name': 'o', 'id': 7}, 422, 'cannot be set'),
    ('POST', 'osf', {'name': ['o']}, 422, 'text or a number'),
    ('POST', 'osf', {'name': 'o', 'tenant': 'nowhere'}, 422, 'no such tenant'),
    ('POST', 'osf', {'name': 'base'}, 409, 'of this name already'),
    ('POST', 'user', {'login': 'base'}, 409, 'of this login already'),
    ('POST', 'user', {'login': 'BASE '}, 409, 'of this login already'),
    ('POST', 'user', {'login': 'u', 'password': 'p' * 512}, 422, '511'),
    ('POST', 'user', {'login': 'u:v'}, 422, 'the password begins behind it'),
    ('POST', 'user', {'login': 'u@v'}, 422, 'the tenant begins behind it'),
    ('PATCH', 'user/1', {'login': 'u#v'}, 422, 'the tenant begins behind it'),
    ('POST', 'host', {'name': 'h', 'address': 'somewhere'}, 422, 'address'),
    ('POST', 'vm', {'name': 'v', 'osf': 'base'}, 422, 'needs user'),
    ('POST', 'vm', {'name': 'v', 'user': 'base'}, 422, 'needs osf'),
    ('POST', 'vm', {'name': 'v', 'user': 'none', 'osf': 'base'}, 422, 'no such user'),
    ('POST', 'vm', {'name': 'v', 'user': 'base', 'osf': 'none'}, 422, 'no such osf'),
    ('POST', 'vm', {'name': 'v', 'user': 'base', 'user_id': 1, 'osf': 'base'}, 400, 'only one'),
    ('POST', 'vm', {'name': 'v', 'user': 'base', 'osf': 'base', 'ip': '10.3.15.1'}, 422,
     '10.3.15.50 to 10.3.15.254'),
    ('POST', 'vm', {'name': 'v', 'user': 'base', 'osf': 'base', 'ip': '10.3.15.255'}, 422,
     '10.3.15.50 to 10.3.15.254'),
    ('POST', 'vm', {'name': 'v', 'user': 'base', 'osf': 'base', 'di_tag': 'a b'}, 422, 'tag'),
    ('POST', 'di', {'osf': 'base'}, 400, 'path'),
    ('POST', 'di', {'path': 'x.tar', 'osf': 'none'}, 422, 'no such OSF'),
    ('POST', 'di', {'path': 'x.tar', 'osf': 'base', 'version': 'a/b'}, 422, 'version'),
    ('POST', 'di', {'path': 'x.tar', 'osf': 'base', 'tags': 'head'}, 422, 'tags'),
    ('POST', 'di', {'path': 'x.tar', 'osf': 'base', 'tags': [1]}, 422, 'tags'),
    ('GET', 'vm/abc', None, 404, 'nothing at this path'),
    ('GET', 'vm/0', None, 404, 'nothing at this path'),
    ('GET', 'things', None, 404, 'nothing at this path'),
    ('GET', 'vm/1/start', None, 405, 'method'),
    ('POST', 'osf/1/block', {}, 405, 'cannot be blocked'),
    ('GET', 'vm?fields=nam', None, 400, 'did you mean "name"'),
    ('GET', 'vm?sort=colour', None, 400, 'no field'),
    ('GET', 'vm?filter=colour%3Dred', None, 400, 'no field'),
    ('GET', 'vm?filter=id%3Dx', None, 400, 'whole number'),
    ('GET', 'vm?filter=blocked%3D7', None, 400, 'yes or no'),
    ('GET', 'vm?filter=((', None, 400, 'character 3'),
    ('GET', 'vm?filter=state_time%3Esoonish', None, 400, ''),
    ('GET', 'vm?limit=-1', None, 400, 'number'),
    ('PATCH', 'user/1', {}, 400, 'nothing to change'),
    ('PATCH', 'user/1', {'login': 'new', 'vms': 3}, 422, 'cannot be changed'),
    ('POST', 'vm/999/start', {}, 404, 'none'),
    ('POST', 'vm/999/stop', {}, 404, 'no vm 999'),
    ('POST', 'vm/999/disconnect', {}, 404, 'no vm 999'),
    ('POST', 'di/999/tag', {'tag': 'x'}, 404, 'no di 999'),
    ('POST', 'di/999/tag', {'tag': 'x y'}, 422, 'blanks'),
    ('PUT', 'config/l7r.workers', {'value': '0'}, 422, 'between 1 and'),
    ('PUT', 'config/database.host', {'value': 'x'}, 422, 'settings file'),
    ('PUT', 'ssl', {'cert': 'x', 'key': 'y'}, 422, ''),
]


@pytest.mark.parametrize('method, path, body, status, text', REFUSALS,
                         ids=[f'{r[0]}-{r[1]}-{i}' for i, r in enumerate(REFUSALS)])
def test_refusals_are_clear(api, base, method, path, body, status, text):
    got, message = api.refused(method, path, body)
    assert got == status, message
    assert text in message


@pytest.mark.parametrize('key, text', [
    ('internal.x', 'it was internal to the original'), ('l7r.auth.mode', 'use l7r.auth.plugins')])
def test_a_setting_of_the_original_is_no_error(api, key, text):
    """Its manual's commands work; what they no longer do is told, and nothing is stored."""
    answer = api.ok('PUT', f'config/{key}', {'value': 'x'})
    assert answer['changed'] == 0 and text in answer['warning']


def test_bodies_that_are_no_json(api):
    for data in (b'{', b'[]', b'"x"', b'{"name":"a","name":"b"}', b'\xff\xfe', b'{"a":1}x',
                 b'[' * 5000):
        status, _ = api.raw('POST', 'osf', data)
        assert status == 400, data[:20]
    status, _ = api.raw('POST', 'osf', b'{"name":"' + b'x' * (1 << 20) + b'"}')
    assert status == 413
    # Strangers fill less memory still.
    status, _ = Api(api.farm).raw('POST', 'login', b'{"login":"' + b'x' * 9000 + b'"}')
    assert status == 413


def test_filters_sort_and_pages(api, base):
    ids = [api.add('user', login=f'f-{name}', description=text)
           for name, text in (('anna', 'one'), ('bert', 'two'), ('carl_', None), ('d%e', 'x*y'))]
    def found(text):
        return [r['login'][2:] for r in api.rows('user', f'login=f-*,({text})', 'login')]
    assert found('login=f-a*') == ['anna']
    assert found('login=f-?ert;login=f-anna') == ['anna', 'bert']
    assert found('!login=f-a*') == ['bert', 'carl_', 'd%e']
    assert found('login=*_') == ['carl_']
    assert found('login=f-d%e') == ['d%e']
    assert found('description=') == ['carl_']
    assert found('description!=one') == ['bert', 'carl_', 'd%e']
    assert found('description="x*y"') == ['d%e']
    assert found(f'id=[{ids[0]},{ids[3]}]') == ['anna', 'd%e']
    assert found(f'id=[{ids[0]}:{ids[1]}]') == ['anna', 'bert']
    assert found(f'id>{ids[1]}') == ['carl_', 'd%e']
    assert found('name~ER') == []
    assert found('name~er') == ['bert']
    assert found("description=';DROP TABLE users;--'") == []
    answer = api.ok('GET', 'user?filter=login%3Df-*&sort=-login&limit=2&offset=1&fields=login')
    assert answer == {'total': 4, 'rows': [{'login': 'f-carl_'}, {'login': 'f-bert'}]}
    assert api.ok('GET', 'user?filter=login%3Df-*&offset=9')['rows'] == []


def test_states_and_properties_filter(farm, api, base):
    vm = api.add('vm', name='prop', user='base', osf='base')
    host = api.add('host', name='propnode', address='192.0.2.77')
    farm.psql("INSERT INTO properties_list (key, tenant_id) VALUES ('city', 1)")
    farm.psql("INSERT INTO qvd_object_properties_list (property_id, qvd_object)"
              " SELECT id, 'vm' FROM properties_list WHERE key = 'city'")
    farm.psql(f"INSERT INTO vm_properties SELECT {vm}, q.id, 'Rome' FROM qvd_object_properties_list q")
    farm.psql(f"UPDATE vm_runtimes SET host_id = {host}, vm_state = 'starting_2' WHERE vm_id = {vm}")
    assert [r['id'] for r in api.rows('vm', 'property.city=R*', 'id')] == [vm]
    assert api.rows('vm', 'property.city=Milan') == []
    assert [r['id'] for r in api.rows('vm', 'state=starting', 'id')] == [vm]
    assert [r['id'] for r in api.rows('vm', 'state=starting_2,host=propnode', 'id')] == [vm]
    assert api.rows('vm', 'state=starting_1') == []
    status, text = api.refused('DELETE', f'vm/{vm}')
    assert status == 409 and 'stop it first' in text
    assert api.refused('DELETE', f'host/{host}')[0] == 409
    farm.psql(f"UPDATE vm_runtimes SET host_id = NULL, vm_state = 'stopped' WHERE vm_id = {vm}")
    api.ok('DELETE', f'vm/{vm}')
    api.ok('DELETE', f'host/{host}')


def test_images_come_with_their_tags(farm, api):
    osf = api.add('osf', name='images')
    data = os.urandom(3 << 20)
    stage(farm, 'one.tar', data)
    today = farm.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")[0][0]
    one = published(api, api.add('di', path='one.tar', osf='images', tags='blue,green'))
    assert one['tags'] == sorted([f'{today}-000', 'blue', 'default', 'green', 'head'])
    assert one['path'] == f'{one["id"]}-one.tar'
    assert (one['size'], one['sha256']) == (len(data), hashlib.sha256(data).hexdigest())
    target = farm.path('lib/storage/images', one['path'])
    with open(target, 'rb') as f:
        assert f.read() == data
    assert os.path.exists(farm.path('lib/storage/staging/one.tar'))
    two = published(api, api.add('di', path='one.tar', osf_id=osf, tags=['blue']))
    assert two['version'] == f'{today}-001'
    assert two['tags'] == sorted([f'{today}-001', 'blue', 'head'])
    assert api.ok('GET', f'di/{one["id"]}')['tags'] == sorted([f'{today}-000', 'default', 'green'])
    # Tags by hand.
    api.ok('POST', f'di/{two["id"]}/tag', {'tag': 'green'})
    assert api.refused('POST', f'di/{two["id"]}/tag', {'tag': f'{today}-000'})[0] == 409
    assert api.refused('POST', f'di/{two["id"]}/untag', {'tag': 'head'})[0] == 409
    assert api.refused('POST', f'di/{two["id"]}/untag', {'tag': f'{today}-001'})[0] == 409
    api.ok('POST', f'di/{two["id"]}/untag', {'tag': 'green'})
    # head and default go to what is left; the file goes with its image.
    api.ok('DELETE', f'di/{one["id"]}')
    assert api.ok('GET', f'di/{two["id"]}')['tags'] == sorted([f'{today}-001', 'blue', 'default',
                                                               'head'])
    wait_until(lambda: not os.path.exists(target), 10, 'the file is gone')
    assert api.refused('DELETE', f'osf/{osf}')[0] == 409
    assert api.refused('POST', 'di', {'path': 'one.tar', 'osf': 'images', 'version': two['version']}
                       )[0] == 409


def test_an_image_in_use_stays(farm, api, base):
    api.add('osf', name='used')
    stage(farm, 'used.tar', b'x' * 1000)
    di = published(api, api.add('di', path='used.tar', osf='used'))['id']
    vm = api.add('vm', name='used', user='base', osf='used')
    status, text = api.refused('DELETE', f'di/{di}')
    assert status == 409 and 'VMs start with it' in text
    assert api.ok('GET', f'vm/{vm}')['di'] == f'{di}-used.tar'
    api.ok('POST', f'di/{di}/block')
    assert api.ok('GET', f'vm/{vm}')['di'] is None
    assert 'no published image' in api.refused('POST', f'vm/{vm}/start')[1]


def test_only_plain_files_of_the_staging_folder(farm, api, base):
    for path in ('../etc/passwd', '/etc/passwd', '.', '..', 'a/b', '', 'x' * 201, 'a\nb'):
        assert api.refused('POST', 'di', {'path': path, 'osf': 'base'})[0] == 422, path
    staging = farm.path('lib/storage/staging')
    os.symlink('/etc/shadow', os.path.join(staging, 'link'))
    os.mkdir(os.path.join(staging, 'folder'))
    os.mkfifo(os.path.join(staging, 'fifo'))
    stage(farm, 'empty', b'')
    for path, text in (('link', 'link'), ('folder', 'not a plain file'), ('fifo', 'not a plain file'),
                       ('empty', 'empty'), ('absent', 'No such file')):
        di = api.add('di', path=path, osf='base')
        row = wait_until(lambda di=di: (lambda r: r if r['state'] == 'fail' else None)(
            api.ok('GET', f'di/{di}')), 10, f'{path} refused')
        assert text in row['status_message'], row
        assert row['tags'] == []
        api.ok('DELETE', f'di/{di}')
    assert not [n for n in os.listdir(farm.path('lib/storage/images')) if 'part' in n]


def node(farm, api, name, address, ram=4000, free=1.0):
    number = api.add('host', name=name, address=address)
    farm.psql(f"UPDATE host_runtimes SET state = 'running', usable_ram = {ram}, usable_cpu = 2,"
              f" free_ram = {free}, free_cpu = 1, ok_ts = now() WHERE host_id = {number}")
    return number


def test_orders_reach_the_best_node(farm, api, base):
    api.add('osf', name='big', memory=3000)
    stage(farm, 'big.tar', b'x' * 1000)
    published(api, api.add('di', path='big.tar', osf='big'))
    vm = api.add('vm', name='big', user='base', osf='big')
    assert 'no node runs VMs' in api.refused('POST', f'vm/{vm}/start')[1]
    small = node(farm, api, 'small', '192.0.2.11', ram=1000)
    status, text = api.refused('POST', f'vm/{vm}/start')
    assert status == 409 and '3000 MB' in text and '1000 MB' in text
    best = node(farm, api, 'roomy', '192.0.2.12', ram=8000)
    api.ok('POST', f'vm/{vm}/block')  # blocks users, not administrators
    api.ok('POST', f'vm/{vm}/start')
    row = api.ok('GET', f'vm/{vm}')
    assert (row['host'], row['command'], row['state']) == ('roomy', 'start', 'stopped')
    assert [api.ok('GET', f'host/{h}')['vms'] for h in (small, best)] == [0, 1]
    assert api.refused('POST', f'vm/{vm}/start')[0] == 409
    assert api.refused('DELETE', f'vm/{vm}')[0] == 409
    api.ok('POST', f'vm/{vm}/stop')
    assert api.ok('GET', f'vm/{vm}')['command'] == 'stop'
    farm.psql(f"UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'running' WHERE vm_id = {vm}")
    assert api.refused('POST', f'vm/{vm}/disconnect')[0] == 409
    farm.psql("WITH i AS (INSERT INTO l7r_instances DEFAULT VALUES RETURNING id),"
              f" s AS (INSERT INTO sessions (vm_id, l7r_instance_id) SELECT {vm}, id FROM i"
              "       RETURNING id, l7r_instance_id)"
              " UPDATE vm_runtimes r SET user_state = 'connected', session_id = s.id,"
              f" l7r_instance_id = s.l7r_instance_id FROM s WHERE r.vm_id = {vm}")
    api.ok('POST', f'vm/{vm}/disconnect')
    assert farm.psql(f'SELECT user_cmd FROM vm_runtimes WHERE vm_id = {vm}') == [['abort']]
    api.ok('POST', f'vm/{vm}/stop')
    assert farm.psql(f'SELECT vm_cmd FROM vm_runtimes WHERE vm_id = {vm}') == [['stop']]
    farm.psql('UPDATE vm_runtimes SET user_state = \'disconnected\', user_cmd = NULL, session_id ='
              ' NULL, l7r_instance_id = NULL, vm_cmd = NULL, vm_state = \'stopped\', host_id = NULL'
              f' WHERE vm_id = {vm}')
    farm.psql('UPDATE host_runtimes SET state = \'stopped\', assigned = 0')


def test_a_start_notifies_its_node_after_the_commit(farm, api, base):
    import subprocess
    api.add('osf', name='note')
    stage(farm, 'note.tar', b'x' * 1000)
    published(api, api.add('di', path='note.tar', osf='note'))
    vm = api.add('vm', name='note', user='base', osf='note')
    host = node(farm, api, 'listener', '192.0.2.20')
    with subprocess.Popen(farm.command(['psql', '-X', '-q', '-h', '/run/postgresql', '-d', 'qvd'],
                                       user='postgres'), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as psql:
        psql.stdin.write(f'LISTEN h{host};\n\\echo listening\n')
        psql.stdin.flush()
        assert psql.stdout.readline() == 'listening\n'
        api.ok('POST', f'vm/{vm}/start')

        def told():
            psql.stdin.write('SELECT 1;\n\\echo done\n')
            psql.stdin.flush()
            lines = list(iter(psql.stdout.readline, 'done\n'))
            return f'"h{host}" with payload "vm {vm}"' in ''.join(lines)
        wait_until(told, 5, 'the notification')
        psql.stdin.close()
    farm.psql(f'UPDATE vm_runtimes SET vm_cmd = NULL, host_id = NULL WHERE vm_id = {vm}')
    farm.psql('UPDATE host_runtimes SET state = \'stopped\', assigned = 0')


def test_fifty_creations_at_once_get_fifty_addresses(farm, api, base):
    def make(i):
        mine = Api(farm)
        mine.ticket = api.ticket
        answer = mine.call('POST', 'vm', {'name': f'many-{i}', 'user': 'base', 'osf': 'base'})
        mine.close()
        return answer
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(make, range(50)))
    assert [a[0] for a in answers] == [201] * 50, answers
    ips = [r['ip'] for r in api.rows('vm', 'name=many-*', 'ip')]
    assert len(set(ips)) == 50
    # The lowest free ones, without holes.
    numbers = sorted(int(r['ip'].rsplit('.', 1)[1]) for r in api.rows('vm', '', 'ip'))
    lowest = [n for n in range(50, 255) if n not in numbers][0]
    assert lowest > max(int(ip.rsplit('.', 1)[1]) for ip in ips)


def test_a_full_range_is_a_clear_refusal(farm, api, base):
    api.ok('PUT', 'config/vm.network.ip.start', {'value': '10.3.15.252'})
    wait_until(lambda: '10.3.15.252 to' in api.refused('POST', 'vm', {
        'name': 'v', 'user': 'base', 'osf': 'base', 'ip': '10.3.15.1'})[1], 10, 'the setting')
    made = [api.add('vm', name=f'full-{i}', user='base', osf='base') for i in range(3)]
    status, text = api.refused('POST', 'vm', {'name': 'full', 'user': 'base', 'osf': 'base'})
    assert status == 409 and 'no address is free' in text
    taken = api.ok('GET', f'vm/{made[1]}')['ip']
    status, text = api.refused('POST', 'vm', {'name': 'twice', 'user': 'base', 'osf': 'base',
                                              'ip': taken})
    assert status == 409 and 'this address' in text
    for vm in made:
        api.ok('DELETE', f'vm/{vm}')
    api.ok('DELETE', 'config/vm.network.ip.start')


def test_settings(farm, api):
    rows = {r['key']: r for r in api.ok('GET', 'config')['rows']}
    assert rows['l7r.auth.plugin.default.salt']['value'] == '***'
    assert not [k for k in rows if k.startswith(('internal.', 'database.'))]
    assert list(rows) == sorted(rows)
    answer = api.ok('PUT', 'config/vm.network.domain', {'value': 'lab.example'})
    assert answer['change'] == 'restart'
    row = api.ok('GET', 'config?key=vm.network.domain')['rows'][0]
    assert (row['value'], row['is_set']) == ('lab.example', True)
    assert 'did you mean vm.network.domain' in api.ok(
        'PUT', 'config/vm.network.domainn', {'value': 'x'})['warning']
    assert api.ok('DELETE', 'config/vm.network.domainn')['changed'] == 1
    assert api.ok('DELETE', 'config/vm.network.domainn')['changed'] == 0
    assert api.ok('DELETE', 'config/vm.network.domain')['changed'] == 1
    row = api.ok('GET', 'config?key=vm.network.domain')['rows'][0]
    assert (row['value'], row['is_set']) == ('', False)


def test_certificate_of_the_l7rs(farm, api):
    with open(farm.path('etc/certs/cert.pem'), encoding='ascii') as f:
        cert = f.read()
    with open(farm.path('etc/certs/key.pem'), encoding='ascii') as f:
        key = f.read()
    with open(farm.path('ca-key.pem'), encoding='ascii') as f:
        wrong = f.read()
    assert api.refused('PUT', 'ssl', {'cert': cert, 'key': wrong})[0] == 422
    assert farm.psql('SELECT count(*) FROM ssl_configs') == [['0']]
    api.ok('PUT', 'ssl', {'cert': cert, 'key': key, 'ca': cert})
    assert farm.psql('SELECT key FROM ssl_configs ORDER BY key') == [
        ['l7r.ssl.ca'], ['l7r.ssl.cert'], ['l7r.ssl.key']]
    api.ok('PUT', 'ssl', {'cert': cert, 'key': key})
    assert farm.psql('SELECT count(*) FROM ssl_configs') == [['2']]
    farm.psql('DELETE FROM ssl_configs')


def test_tenants_do_not_see_each_other(farm, api, base):
    farm.psql("INSERT INTO tenants (name) VALUES ('lab')")
    farm.psql("INSERT INTO administrators (tenant_id, name, password) SELECT t.id, 'boss', a.password"
              " FROM tenants t, administrators a WHERE t.name = 'lab' AND a.name = 'admin'")
    boss = Api(farm, 'boss', farm.admin_password, 'lab')
    assert boss.ok('GET', 'session')['superadmin'] is False
    user = boss.add('user', login='base', password='x')  # the same login, another tenant
    assert boss.rows('user', '', 'id,login,tenant') == [
        {'id': user, 'login': 'base', 'tenant': 'lab'}]
    assert boss.rows('osf') == [] and boss.rows('vm') == []
    assert boss.refused('GET', f'user/{base["user"]}')[0] == 404
    assert boss.refused('PATCH', f'user/{base["user"]}', {'blocked': True})[0] == 404
    assert boss.refused('DELETE', f'osf/{base["osf"]}')[0] == 404
    assert boss.refused('POST', 'vm', {'name': 'v', 'user': 'base', 'osf': 'base'}) == (
        422, 'vm: there is no such osf in this tenant')
    assert boss.refused('POST', 'vm', {'name': 'v', 'user_id': base['user'],
                                       'osf_id': base['osf']})[0] == 422
    assert boss.refused('POST', 'user', {'login': 'x', 'tenant': 'default'})[0] == 403
    for method, path, body in (('GET', 'host', None), ('POST', 'host', {'name': 'x', 'address': '192.0.2.9'}),
                               ('PUT', 'config/l7r.workers', {'value': '2'}),
                               ('PUT', 'config/my.own', {'value': '2'}),
                               ('PUT', 'ssl', {'cert': 'x', 'key': 'y'})):
        assert boss.refused(method, path, body)[0] == 403, path
    boss.ok('PUT', 'config/l7r.auth.plugins', {'value': 'default'})
    assert farm.psql("SELECT t.name, c.key, c.value FROM configs c JOIN tenants t ON t.id = c.tenant_id"
                     " WHERE c.key = 'l7r.auth.plugins'") == [['lab', 'l7r.auth.plugins', 'default']]
    assert [r['key'] for r in boss.ok('GET', 'config')['rows'] if r['is_set']] == ['l7r.auth.plugins']
    assert {r['tenant'] for r in api.rows('user', 'login=base', 'tenant')} == {'default', 'lab'}
    assert api.add('user', login='lab-user', tenant='lab')
    farm.psql("UPDATE tenants SET blocked = true WHERE name = 'lab'")
    assert boss.call('GET', 'user')[0] == 401


def test_hashes_cannot_be_read_by_the_api(farm, base):
    def as_role(user, sql):
        return farm.run(['psql', '-X', '-q', '-A', '-t', '-h', '/run/postgresql', '-d', 'qvd', '-U',
                         user.replace('-', '_'), '-c', sql], user=user, check=False)
    for sql in ('SELECT password FROM users', 'SELECT * FROM users', 'SELECT u FROM users u',
                'SELECT password FROM administrators', 'SELECT token_hash FROM user_tokens',
                'SELECT secret FROM vm_secrets', 'SELECT value FROM ssl_configs',
                "COPY (SELECT password FROM users) TO STDOUT",
                'UPDATE users SET description = password',
                "DELETE FROM users WHERE password LIKE '$y$%'",
                'INSERT INTO users (tenant_id, login) VALUES (1, \'r\') RETURNING password'):
        done = as_role('qvd-api', sql)
        assert done.returncode != 0 and 'permission denied' in done.stderr, (sql, done.stdout)
    assert as_role('qvd-auth', 'SELECT password FROM users').stdout.startswith('$y$')
    assert as_role('qvd-api', 'SELECT login FROM users').returncode == 0


def test_secrets_stay_out_of_logs_and_arguments(farm, api):
    canary = 'c4n4ry' + os.urandom(8).hex()
    api.add('user', login='canary', password=canary)
    Api(farm).call('POST', 'login', {'login': canary, 'password': canary, 'tenant': '*'})
    Api(farm).call('POST', 'login', {'login': 'admin', 'password': canary, 'tenant': '*'})
    shown = farm.logs() + farm.run(['sh', '-c', 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ']).stdout
    assert canary not in shown
    assert api.ticket not in shown
    assert canary not in str(farm.psql('SELECT u.*::text FROM users u'))


def processes(farm):
    """name -> status fields of the API's processes, as the farm sees them."""
    found = {}
    script = ('for p in /proc/[0-9]*; do case "$(tr "\\0" " " <$p/cmdline)" in '
              '*/qvd-api*|*/qvd-authd*) tr "\\0" " " <$p/cmdline; echo; '
              'grep -E "^(Pid|Uid|Gid|Groups|CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):" $p/status; '
              'ls -l $p/fd | grep -c socket: ; echo; esac; done')
    for block in farm.run(['sh', '-c', script]).stdout.strip().split('\n\n'):
        lines = block.splitlines()
        if lines[0].startswith('sh '):
            continue
        name = ' '.join(os.path.basename(w) for w in lines[0].split()[:2])
        found[name] = dict(line.split(':\t', 1) for line in lines[1:] if ':\t' in line)
    return found


def test_processes_have_no_more_rights_than_they_need(farm):
    uid = {n: farm.run(['id', '-u', n]).stdout.strip() for n in ('qvd-api', 'qvd-auth')}
    found = processes(farm)
    assert sorted(found) == ['qvd-api', 'qvd-api --serve=1', 'qvd-authd']
    for name, user in (('qvd-api --serve=1', 'qvd-api'), ('qvd-authd', 'qvd-auth')):
        p = found[name]
        assert p['Uid'].split() == [uid[user]] * 4
        assert p['Groups'].strip() == ''
        assert {p['CapEff'], p['CapPrm'], p['CapBnd']} == {'0000000000000000'}
        assert (p['NoNewPrivs'], p['Seccomp']) == ('1', '2')
    assert found['qvd-api']['Uid'].split()[0] == '0'


def test_killed_parts_come_back(farm, api):
    found = processes(farm)
    farm.run(['kill', '-9', found['qvd-authd']['Pid']])
    wait_until(lambda: Api(farm).call('POST', 'login', {
        'login': 'admin', 'tenant': '*', 'password': farm.admin_password})[0] == 200, 10,
        'logins after the death of qvd-authd')
    farm.run(['kill', '-9', found['qvd-api --serve=1']['Pid']])
    api.close()

    def works():
        try:
            return api.call('GET', 'session')[0] == 200
        except OSError:
            return False
    wait_until(works, 10, 'the API after the death of its server')
    assert Api(farm, 'admin', farm.admin_password).ticket
    assert sorted(processes(farm)) == ['qvd-api', 'qvd-api --serve=1', 'qvd-authd']


def test_certificate_is_renewed_by_reload(farm, api):
    import ssl
    def serial():
        pem = ssl.get_server_certificate((farm.address, farm.api_port))
        return hashlib.sha256(pem.encode()).hexdigest()
    before = serial()
    cert, key = farm.path('etc/certs/cert.pem'), farm.path('etc/certs/key.pem')
    for path in (cert, key):
        os.rename(path, path + '.old')
    with open(cert, 'w', encoding='ascii') as f:
        f.write('broken')
    os.link(key + '.old', key)
    master = processes(farm)['qvd-api']['Pid']
    farm.run(['kill', '-HUP', master])
    wait_until(lambda: 'former stays' in farm.log_tail('api'), 10, 'a line about the bad one')
    assert serial() == before
    for path in (cert, key):
        os.unlink(path)
    farm._make_certificates()  # a new authority too
    farm.run(['kill', '-HUP', master])
    wait_until(lambda: serial() != before, 10, 'the new certificate')
    assert api.ok('GET', 'session')  # open connections go on
    api.close()
    api.context = ssl.create_default_context(cafile=farm.path('ca.pem'))
    assert api.ok('GET', 'session')


def test_without_the_database_503_and_then_on(farm, api):
    farm.stop_service('postgres', 'SIGINT')
    started = time.monotonic()
    status, text = api.refused('GET', 'vm')
    assert status == 503 and 'database' in text
    assert time.monotonic() - started < 15
    farm.start_service('postgres')
    wait_until(lambda: api.call('GET', 'vm')[0] == 200, 20, 'lists after the database is back')
