# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames by hand and what a wire carries. enter: a function that turns an argv into a command that
runs it as root in the network meant."""

import subprocess
import sys
import time

EVERYONE = 'ff:ff:ff:ff:ff:ff'

PRELUDE = '''
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('eth0', 0))
def mac(text): return bytes.fromhex(text.replace(':', ''))
def ip(text): return socket.inet_aton(text)
def frame(dst, src, kind, payload): s.send(mac(dst) + mac(src) + struct.pack('>H', kind) + payload)
def arp(op, sha, spa, tha, tpa):
    return struct.pack('>HHBBH', 1, 0x800, 6, 4, op) + mac(sha) + ip(spa) + mac(tha) + ip(tpa)
def checksum(b):
    n = sum(struct.unpack('>%dH' % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
def packet(src, dst, proto, payload):
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0, ip(src), ip(dst))
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + payload
def udp(sport, dport, data): return struct.pack('>HHHH', sport, dport, 8 + len(data), 0) + data
def discover(own):
    return (bytes([1, 1, 6, 0]) + b'abcd' + b'\\0\\0\\x80\\0' + b'\\0' * 16 + mac(own) + b'\\0' * 202
            + b'\\x63\\x82\\x53\\x63' + bytes([53, 1, 1, 255]))
def offer():
    return bytes([2, 1, 6, 0]) + b'\\0' * 232 + b'\\x63\\x82\\x53\\x63' + bytes([53, 1, 2, 255])
'''


def mac_of(ip):
    """The hardware address that a VM has (vm.network.mac.prefix and three bytes of its address)."""
    return '54:52:00:' + ':'.join(f'{int(p):02x}' for p in ip.split('.')[1:])


def send_frames(enter, code):
    """Python in that network, with frame(dst, src, type, payload) and a raw socket on eth0."""
    done = subprocess.run(enter([sys.executable, '-c', PRELUDE + code]), text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 0, done.stderr


class Capture:
    """tcpdump on an interface of that network; stop() gives the lines of what passed meanwhile."""

    def __init__(self, enter, expression, interface='eth0'):
        self.process = subprocess.Popen(enter(['tcpdump', '-lnnei', interface, expression]),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if 'listening on' in line:
                break

    def stop(self):
        time.sleep(0.3)  # what is on its way; nothing tells that nothing comes
        self.process.terminate()
        return [line for line in self.process.communicate(timeout=10)[0].splitlines() if line]
