# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings in the database lie over the file's and are in force at once, in every daemon."""

import socket
import time

from farm import wait_until

FARM = {'settings': {'hkd.heartbeat.interval': '5s', 'l7r.limit.handshake': '2s'}}


def beats_within(farm, seconds):
    """How often the node has told that it lives."""
    seen = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.add(farm.psql('SELECT ok_ts FROM host_runtimes')[0][0])
        time.sleep(0.05)
    return len(seen) - 1


def silence(farm):
    """Seconds until a client that says nothing is thrown out."""
    with socket.create_connection((farm.address, farm.l7r_port), 20) as s:
        begin = time.monotonic()
        s.settimeout(20)
        try:
            assert s.recv(1) == b''
        except ConnectionResetError:
            pass
        return time.monotonic() - begin


def test_node_takes_a_setting_at_once(farm):
    wait_until(lambda: farm.psql('SELECT ok_ts FROM host_runtimes')[0][0], 10, 'a beat')
    assert beats_within(farm, 2) <= 1
    farm.qa('config', 'set', 'hkd.heartbeat.interval=200ms')
    wait_until(lambda: beats_within(farm, 1) >= 3, 10, 'the new period')
    farm.qa('config', 'del', 'hkd.heartbeat.interval')
    wait_until(lambda: beats_within(farm, 2) <= 1, 20, 'the period of the file')


def test_l7r_takes_a_setting_at_once(farm):
    farm.qa('config', 'set', 'l7r.limit.handshake=300ms')
    wait_until(lambda: silence(farm) < 1.5, 30, 'the new limit')
    farm.qa('config', 'del', 'l7r.limit.handshake')
    wait_until(lambda: silence(farm) > 1.5, 30, 'the limit of the file')


def test_by_hand_it_is_the_same(farm):
    """The triggers tell what somebody types into psql."""
    farm.psql("INSERT INTO configs (key, value) VALUES ('l7r.limit.handshake', '300ms')")
    wait_until(lambda: silence(farm) < 1.5, 30, 'the new limit')
    farm.psql("DELETE FROM configs WHERE key = 'l7r.limit.handshake'")
    wait_until(lambda: silence(farm) > 1.5, 30, 'the limit of the file')


def test_a_bad_value_changes_nothing(farm):
    done = farm.qa('config', 'set', 'l7r.limit.handshake=soon', check=False)
    assert done.returncode != 0 and 'l7r.limit.handshake' in done.stderr + done.stdout
    farm.psql("INSERT INTO configs (key, value) VALUES ('l7r.limit.handshake', 'soon')")
    assert silence(farm) > 1.5
    farm.psql("DELETE FROM configs WHERE key = 'l7r.limit.handshake'")


def test_files_only(farm):
    """What must be known before there is a database is not taken from it."""
    farm.psql("INSERT INTO configs (key, value) VALUES ('database.host', '/nowhere')")
    farm.stop_service('hkd')
    farm.start_service('hkd')
    before = farm.psql('SELECT ok_ts FROM host_runtimes')[0][0]
    wait_until(lambda: farm.psql('SELECT ok_ts FROM host_runtimes')[0][0] != before, 10, 'a beat')
    farm.psql("DELETE FROM configs WHERE key = 'database.host'")
