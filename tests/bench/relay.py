# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker against haproxy (one thread), hitch beside: bulk, round trips, memory, handshakes."""

import os
import subprocess
import time

import peers
from peers import Haproxy, Hitch, Qvd, certificate, load

GB = 1e9


def sliced(results, order, one, slices):
    """one(peer) for each, in slices shorter than a second: one of results.runs runs is the sum of its
    own, taken in both directions, so that what else the machine does meanwhile falls on all."""
    found = {peer.name: [] for peer in order}
    for _ in range(results.runs):
        parts = {peer.name: [] for peer in order}
        for number in range(slices):
            for peer in order if number % 2 == 0 else reversed(order):
                parts[peer.name].append(one(peer))
                peer.rest()
        for name, some in parts.items():
            found[name].append({key: sum(part[key] for part in some) for key in some[0]})
    return found


def rate(run):
    return run['bytes'] / run['seconds'] / GB


def cpu_per_gb(run):
    return run['cpu'] / run['bytes'] * GB


def bulk(results, three, size):
    for command, what, least in (('down', 'VM to client', 1.2), ('up', 'client to VM', 1.15)):
        runs = sliced(results, three, lambda p: load(p, command, '--sessions', '4', '--bytes',
                                                     str(size // 2)), 2)
        ours, theirs = runs['qvd'], runs['haproxy']
        part = 'Relay, TLS 1.3, one worker, 4 sessions at once'
        results.ratio(part, f'throughput, {what}', [rate(r) for r in ours],
                      [rate(r) for r in theirs], least=least, show=lambda v: f'{v:.2f} GB/s')
        results.ratio(part, f'CPU a GB, {what}', [cpu_per_gb(r) for r in ours],
                      [cpu_per_gb(r) for r in theirs], most=1.0, show=lambda v: f'{v:.2f} s')
        results.ratio(part, f'throughput, {what}, beside hitch', [rate(r) for r in ours],
                      [rate(r) for r in runs['hitch']], show=lambda v: f'{v:.2f} GB/s',
                      peer='hitch')
        own = [r['load_cpu'] / r['bytes'] * GB for r in ours]
        results.add(part, f"the load tool's own CPU a GB, {what}", f'{sorted(own)[len(own) // 2]:.2f} s')


def round_trips(results, three, count):
    slices = 4
    runs = sliced(results, three, lambda p: load(p, 'rtt', '--count', str(count // slices)), slices)
    part = 'Relay, round trip of 100 bytes'
    for key, most in (('p50', 1.0), ('p99', 1.15)):
        ours, theirs, hitch = ([r[key] / slices for r in runs[name]]
                               for name in ('qvd', 'haproxy', 'hitch'))
        results.ratio(part, key, ours, theirs, most=most, show=lambda v: f'{v:.0f} µs')
        results.ratio(part, f'{key}, beside hitch', ours, hitch, show=lambda v: f'{v:.0f} µs',
                      peer='hitch')


def hold(peer, count):
    """A process that holds so many idle sessions."""
    argv = [os.environ['QVD_BENCH_LOAD'], 'idle', '--port', str(peer.port), '--backend-fd',
            str(peer.backend.fileno()), '--count', str(count)]
    if peer.heads:
        argv += ['--heads', peer.heads]
    process = subprocess.Popen(argv, pass_fds=[peer.backend.fileno()], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not process.stdout.readline().startswith('{"ready"'):
        raise peers.BenchError(f'{peer.name}: {process.stderr.read()}')
    return process


def memory_of(peer, count):
    """KiB a session: what a first handful needed once is not counted."""
    def release(process):
        process.stdin.close()
        process.wait(60)
        peer.rest()
    release(hold(peer, 20))
    pids = peer.all_pids()
    before = peers.pss(pids)
    process = hold(peer, count)
    try:
        time.sleep(1)   # not waiting: whatever is still on its way counts as well
        return (peers.pss(pids) - before) / count
    finally:
        release(process)


def memory(results, three, count):
    found = {p.name: memory_of(p, count) for p in three}
    part = f'Memory of an idle session, {count} of them (PSS of all processes)'
    beside = ', '.join(f'{name} {found[name]:.1f}' for name in ('haproxy', 'hitch'))
    results.add(part, 'each', f'{found["qvd"]:.2f} KiB', f'{beside} KiB', '', 'at most 16 KiB',
                found['qvd'] <= 16)


def handshakes(results, two, count):
    part = 'TLS connections a second and core'
    qvd = two[0]
    # Our ticket comes with the first answer, haproxy's in the handshake: both are asked the same.
    for what, more in (('full handshakes', ()), ('resumed', ('--resume', '--heads', qvd.list_heads))):
        runs = sliced(results, two, lambda p: load(p, 'handshakes', '--count', str(count // 8),
                                                   *more), 8)
        per_core = {name: [r['count'] / r['cpu'] for r in found] for name, found in runs.items()}
        results.ratio(part, what, per_core['qvd'], per_core['haproxy'], least=1.1,
                      show=lambda v: f'{v:.0f}')


def logins(results, qvd, count):
    """TLS, a token, the list of VMs: all processes of the L7R."""
    qvd_heads, qvd.heads = qvd.heads, qvd.list_heads
    try:
        runs = [load(qvd, 'requests', '--count', str(count), '--heads', qvd.list_heads,
                     watch=qvd.all_pids()) for _ in range(results.runs)]
    finally:
        qvd.heads = qvd_heads
    found = sorted(r['count'] / r['cpu'] for r in runs)
    results.add('TLS connections a second and core',
                'full logins (TLS, token, list), CPU of all our processes',
                f'{found[len(found) // 2]:.0f}')


def run(results, short):
    sessions = 1000 if short else 2000
    qvd = Qvd(max(sessions, 8))
    opened = [qvd]
    try:
        pem = certificate(qvd.farm)
        haproxy, hitch = Haproxy(pem), Hitch(pem)
        opened += [haproxy, hitch]
        three = [qvd, haproxy, hitch]
        for peer in three:
            peers.pin(peer.pids, 1)
        # First: memory that the rest has left behind is not a session's.
        memory(results, three, sessions)
        bulk(results, three, 200_000_000 if short else 1_200_000_000)
        round_trips(results, three, 1000 if short else 10000)
        pages = Haproxy(pem, 'http')
        opened.append(pages)
        peers.pin(pages.pids, 1)
        handshakes(results, [qvd, pages], 300 if short else 2000)
        logins(results, qvd, 100 if short else 500)
    finally:
        for peer in reversed(opened):
            peer.close()
