# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-authd with a real database: passwords, tokens, slowing down, its queue, its time."""

import base64
import hashlib
import statistics
import time

import pytest

from authd import BUSY, DENIED, OK, THROTTLED, UNAVAILABLE, Authd
from farm import make_farm


@pytest.fixture(scope='module')
def farm(request):
    made = make_farm({'services': False})
    try:
        made.init_database()
        helper = Authd(made)
        made.hash = helper.ask('hash', password='right')['hash']
        helper.end()
        made.psql("INSERT INTO tenants (id, name) VALUES (50, 'lab'), (51, 'shut')")
        made.psql("UPDATE tenants SET blocked = true WHERE id = 51")
        for number, tenant, login, blocked in ((100, 1, 'ann', False), (101, 50, 'ann', False),
                                               (102, 1, 'bob', True), (103, 51, 'eve', False)):
            made.psql('INSERT INTO users (id, tenant_id, login, password, blocked) VALUES '
                      f"({number}, {tenant}, '{login}', '{made.hash}', {blocked})")
        made.psql("INSERT INTO users (id, tenant_id, login) VALUES (104, 1, 'nopass')")
        made.psql("INSERT INTO osfs (id, tenant_id, name) VALUES (1, 1, 'o')")
        for vm in (1, 2):
            made.psql("INSERT INTO vms (id, name, user_id, osf_id, ip) VALUES "
                      f"({vm}, 'v{vm}', 100, 1, '10.3.15.{60 + vm}')")
        made.psql("INSERT INTO vms (id, name, user_id, osf_id, ip) VALUES "
                  "(3, 'v3', 102, 1, '10.3.15.70')")
        failed_before = request.session.testsfailed
        yield made
        if request.session.testsfailed > failed_before:
            print(made.logs())
    finally:
        made.destroy()


@pytest.fixture
def authd(farm):
    """A fresh one, that remembers no failures."""
    started = Authd(farm)
    yield started
    started.end()


LOGINS = [
    ('ann', 'right', OK, 100), ('ann@default', 'right', OK, 100), ('ann@lab', 'right', OK, 101),
    ('ann#lab', 'right', OK, 101), (' ANN @ Lab ', 'right', OK, 101), ('ann', 'wrong', DENIED, 0),
    ('ann@nowhere', 'right', DENIED, 0), ('nobody', 'right', DENIED, 0), ('ann', '', DENIED, 0),
    ('', 'right', DENIED, 0), ('@lab', 'right', DENIED, 0), ('bob', 'right', DENIED, 0),
    ('eve@shut', 'right', DENIED, 0), ('nopass', 'right', DENIED, 0), ('nopass', '', DENIED, 0),
    ("ann' OR '1'='1", 'right', DENIED, 0), ('ann@*', 'right', DENIED, 0),
    ('ann', 'right' + 'x' * 600, DENIED, 0),
]


@pytest.mark.parametrize('login, password, status, user', LOGINS,
                         ids=[f'{i}-{row[0]}' for i, row in enumerate(LOGINS)])
def test_logins(authd, login, password, status, user):
    answer = authd.ask('verify_user', login=login, password=password, source='192.0.2.1')
    assert (answer['status'], answer['user_id']) == (status, user)
    assert answer['params'] == '{}'
    if status == OK:
        assert answer['login'] == 'ann' and answer['tenant_id'] == (1 if user == 100 else 50)


def test_administrators(farm, authd):
    def ask(name, tenant, password):
        return authd.ask('verify_admin', name=name, tenant=tenant, password=password, source='')
    for tenant in ('', '*'):
        answer = ask('admin', tenant, farm.admin_password)
        assert (answer['status'], answer['admin_id'], answer['tenant_id']) == (OK, 1, 0)
    for name, tenant, password in (('admin', 'default', farm.admin_password),
                                   ('admin', '*', 'wrong'), ('ann', 'default', 'right')):
        assert ask(name, tenant, password)['status'] == DENIED


def test_hashes_are_yescrypt_with_salts(authd):
    one, two = (authd.ask('hash', password='x')['hash'] for _ in range(2))
    assert one.startswith('$y$') and two.startswith('$y$') and one != two
    assert authd.ask('hash', password='')['status'] == DENIED
    assert authd.ask('hash', password='x' * 511)['status'] == OK
    assert authd.ask('hash', password='x' * 512)['status'] == DENIED


def test_a_hash_of_the_original_is_replaced_at_login(farm, authd):
    old = base64.b64encode(hashlib.sha256(b'qvd1234' + b'altes').digest()).decode().rstrip('=')
    farm.psql("INSERT INTO users (id, tenant_id, login, password) VALUES "
              f"(110, 1, 'old', '$qvd1${old}')")
    def ask(password):
        return authd.ask('verify_user', login='old', password=password, source='')['status']
    assert ask('neues') == DENIED
    assert farm.psql('SELECT password FROM users WHERE id = 110')[0][0].startswith('$qvd1$')
    assert ask('altes') == OK
    deadline = time.monotonic() + 5
    while farm.psql('SELECT password FROM users WHERE id = 110')[0][0].startswith('$qvd1$'):
        assert time.monotonic() < deadline, 'the old hash is still there'
    assert farm.psql('SELECT password FROM users WHERE id = 110')[0][0].startswith('$y$')
    assert ask('altes') == OK and ask('neues') == DENIED


def make(authd, **values):
    answer = authd.ask('make_token', **{'user_id': 100, 'ttl': 60, **values})
    assert answer['status'] == OK, answer
    return answer


def use(authd, token, vm=0, source=''):
    return authd.ask('verify_token', token=token, vm_id=vm, source=source)


def test_a_single_use_token_works_once(farm, authd):
    token = make(authd, params='{"qvd.x": "1"}')['token']
    assert len(token) == 43 and token.isalnum()
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert farm.psql("SELECT encode(token_hash, 'hex') FROM user_tokens") == [[digest]]
    answer = use(authd, token, 1)
    assert (answer['status'], answer['user_id'], answer['login']) == (OK, 100, 'ann')
    assert answer['params'] == '{"qvd.x": "1"}' and answer['token_vm_id'] == 0
    assert use(authd, token, 1)['status'] == DENIED
    assert farm.psql('SELECT count(*) FROM user_tokens') == [['0']]


def test_of_two_uses_at_once_one_wins(farm):
    two = [Authd(farm), Authd(farm)]
    for _ in range(10):
        token = make(two[0])['token']
        for a in two:
            a.send('verify_token', token=token)
        assert sorted(a.receive()['status'] for a in two) == [OK, DENIED]
    for a in two:
        a.end()


def test_a_multi_use_token_works_until_it_expires(farm, authd):
    token = make(authd, multi_use=True, ttl=3600)['token']
    assert [use(authd, token, vm)['status'] for vm in (0, 1, 2)] == [OK] * 3
    farm.psql('UPDATE user_tokens SET expiration = now()')
    assert use(authd, token)['status'] == DENIED
    assert farm.psql('SELECT count(*) FROM user_tokens') == [['0']]


def test_a_token_of_one_vm_opens_no_other(farm, authd):
    token = make(authd, vm_id=1)['token']
    assert use(authd, token, 2)['status'] == DENIED
    answer = use(authd, token, 1)  # the refusal has not used it up
    assert (answer['status'], answer['token_vm_id']) == (OK, 1)
    assert authd.ask('make_token', user_id=100, vm_id=3, ttl=60)['status'] == DENIED
    assert authd.ask('make_token', user_id=999, ttl=60)['status'] == DENIED
    assert farm.psql('SELECT count(*) FROM user_tokens') == [['0']]


def test_tokens_of_blocked_users_and_tenants_are_refused(farm, authd):
    token = make(authd, multi_use=True)['token']
    farm.psql('UPDATE users SET blocked = true WHERE id = 100')
    assert use(authd, token)['status'] == DENIED
    farm.psql('UPDATE users SET blocked = false WHERE id = 100')
    farm.psql('UPDATE tenants SET blocked = true WHERE id = 1')
    assert use(authd, token)['status'] == DENIED
    farm.psql('UPDATE tenants SET blocked = false WHERE id = 1')
    assert use(authd, token)['status'] == OK
    assert use(authd, 'x' * 43)['status'] == DENIED and use(authd, '')['status'] == DENIED


def test_parameters_alone_make_no_token(farm, authd):
    answer = make(authd, store_only=True, params='{"a": "b"}')
    assert answer['token'] == '' and answer['auth_params_id'] > 0
    assert farm.psql('SELECT parameters FROM user_auth_parameters WHERE id = '
                     f'{answer["auth_params_id"]}') == [['{"a": "b"}']]
    # They have an end like those of a token.
    assert farm.psql("SELECT expiration < now() + interval '61 s' FROM user_tokens WHERE "
                     f'auth_params_id = {answer["auth_params_id"]}') == [['t']]


def expiration(farm, token):
    digest = hashlib.sha256(token.encode()).hexdigest()
    return farm.psql(f"SELECT expiration FROM user_tokens WHERE token_hash = '\\x{digest}'")[0][0]


def test_a_token_made_with_a_token_lives_no_longer(farm, authd):
    """And so on: the chain ends when the first one does."""
    token = make(authd, multi_use=True, ttl=300)['token']
    first, until = expiration(farm, token), None
    for _ in range(5):
        answer = use(authd, token)
        assert until in (None, answer['token_until'])
        until = answer['token_until']
        token = make(authd, multi_use=True, ttl=3600, until=until)['token']
        assert expiration(farm, token) <= first
    gone = farm.psql('SELECT floor(extract(epoch FROM now()) * 1000)::bigint')[0][0]
    assert authd.ask('make_token', user_id=100, ttl=60, until=int(gone))['status'] == DENIED


def test_a_user_has_so_many_tokens(farm, authd):
    farm.psql("DELETE FROM user_tokens; INSERT INTO user_tokens (token_hash, user_id, expiration) "
              "SELECT sha256(n::text::bytea), 100, now() + interval '1 h' FROM "
              'generate_series(1, 999) n')
    ask = {'user_id': 100, 'ttl': 60}
    assert [authd.ask('make_token', **ask)['status'] for _ in range(2)] == [OK, BUSY]
    assert farm.psql('SELECT count(*) FROM user_tokens') == [['1000']]
    assert authd.ask('make_token', user_id=101, ttl=60)['status'] == OK
    farm.psql("UPDATE user_tokens SET expiration = now() WHERE user_id = 100")
    assert authd.ask('make_token', **ask)['status'] == OK
    farm.psql('DELETE FROM user_tokens')


def test_guessing_an_account_slows_down_and_others_go_on(authd):
    statuses = []
    begin = time.monotonic()
    for i in range(12):  # from many addresses
        statuses.append(authd.ask('verify_user', login='ann', password=f'guess {i}',
                                  source=f'198.51.100.{i}')['status'])
        if statuses[-1] == THROTTLED:
            break
    took = time.monotonic() - begin
    # 5 tries at once, then waits of 1 s and 2 s, then 4 s: longer than anybody is held.
    assert statuses == [DENIED] * 7 + [THROTTLED], statuses
    assert 2.5 < took < 8
    begin = time.monotonic()
    assert authd.ask('verify_user', login='ann@lab', password='right',
                     source='198.51.100.1')['status'] == OK
    assert time.monotonic() - begin < 1
    # An account that does not exist is treated alike.
    statuses = [authd.ask('verify_user', login='nobody', password='x', source='')['status']
                for _ in range(8)]
    assert statuses == [DENIED] * 7 + [THROTTLED]


def test_guessing_many_accounts_from_one_address_slows_down(authd):
    statuses = []
    while THROTTLED not in statuses:
        statuses.append(authd.ask('verify_user', login=f'n{len(statuses)}', password='x',
                                  source='203.0.113.5')['status'])
    # 30 tries at once (a source may be an office), then waits of 0.5 s, 1 s, 2 s.
    assert statuses == [DENIED] * (len(statuses) - 1) + [THROTTLED]
    assert 32 <= len(statuses) <= 34
    assert authd.ask('verify_user', login='ann', password='right',
                     source='203.0.113.6')['status'] == OK


def test_a_good_login_clears_the_account(authd):
    for _ in range(4):
        for _ in range(4):
            assert authd.ask('verify_user', login='ann', password='x', source='')['status'] == DENIED
        begin = time.monotonic()
        assert authd.ask('verify_user', login='ann', password='right', source='')['status'] == OK
        assert time.monotonic() - begin < 1


def test_the_queue_is_bounded_and_every_question_answered(authd):
    answers = authd.ask_many([('hash', {'password': f'p{i}'}) for i in range(250)])
    statuses = [a['status'] for a in answers]
    assert set(statuses) <= {OK, BUSY}
    # More than 200 never wait, and nobody waits much longer than 3 s.
    assert statuses.count(BUSY) >= 40
    assert statuses.count(OK) >= 10
    assert max(a['after'] for a in answers) < 10
    assert authd.ask('hash', password='later')['status'] == OK


def test_known_and_unknown_accounts_take_the_same_time(farm, authd):
    for i in range(14):
        farm.psql('INSERT INTO users (tenant_id, login, password) VALUES '
                  f"(1, 'timed{i}', '{farm.hash}')")
    known, unknown = [], []
    for i in range(14):  # interleaved; each account once, so that nobody is slowed down
        for logins, times in ((f'timed{i}', known), (f'absent{i}', unknown)):
            begin = time.perf_counter()
            status = authd.ask('verify_user', login=logins, password='wrong', source='')['status']
            times.append(time.perf_counter() - begin)
            assert status == DENIED
    # Lower quartiles: other load of the machine only ever adds.
    a, b = (statistics.quantiles(times, n=4)[0] for times in (known, unknown))
    assert 0.67 < a / b < 1.5, (a, b)
    assert a > 0.008  # it was hashed


def test_no_database_is_unavailable_not_wrong(farm, authd):
    assert authd.ask('verify_user', login='ann', password='right', source='')['status'] == OK
    farm.stop_service('postgres', 'SIGINT')
    try:
        number = authd.send('verify_user', login='ann', password='right', source='')
        answer = authd.receive(15)
        assert (answer['id'], answer['status']) == (number, UNAVAILABLE)
    finally:
        farm.start_service('postgres')
    deadline = time.monotonic() + 20
    while authd.ask('verify_user', login='ann', password='right', source='')['status'] != OK:
        assert time.monotonic() < deadline


def test_what_is_no_question_ends_it(farm):
    for data in (b'', b'x', b'\1\0\xff\xff', b'\1\0\x64\0' + b'\0' * 10):
        one = Authd(farm)
        one.ask('hash', password='x')
        one.channel.setblocking(True)
        if data:
            one.channel.send(data)
        one.channel.shutdown(1)
        one.process.wait(10)
        assert one.process.returncode == (1 if data else 0), one.end()


def test_an_unknown_plugin_stops_it_with_a_reason(farm):
    farm.run(['sh', '-c', 'sed "s/^nodename.*/&\\nl7r.auth.plugins = ldpa/" /etc/qvd/node.conf'
              ' >/run/qvd/wrong.conf'])
    done = farm.run(['/usr/lib/qvd/qvd-authd', '-f', '/run/qvd/wrong.conf', '--check-config'],
                    check=False)
    assert done.returncode == 1 and 'no plugin "ldpa"' in done.stderr
