# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-authd in a farm, spoken to as qvd-l7r and qvd-api do, with a codec of our own."""

import select
import socket
import struct
import subprocess
import time

OK, DENIED, BUSY, UNAVAILABLE, THROTTLED = range(5)
VERSION = 1

# type -> (name, fields): u64, i64, u32, bool, str, bytes (src/ipc/auth-msg.h, src/ipc/codec.h)
MESSAGES = {
    100: ('verify_user', ('id:u64', 'login:str', 'password:str', 'source:str',
                          'file_name:str', 'env:bytes')),
    101: ('verify_token', ('id:u64', 'token:str', 'vm_id:u64', 'source:str',
                           'file_name:str', 'env:bytes')),
    102: ('user', ('id:u64', 'status:u32', 'user_id:u64', 'tenant_id:i64', 'login:str',
                   'params:str', 'token_vm_id:u64', 'token_until:i64', 'asks:bool')),
    103: ('make_token', ('id:u64', 'user_id:u64', 'vm_id:u64', 'ttl:u32', 'until:i64',
                         'multi_use:bool', 'store_only:bool', 'params:str')),
    104: ('token', ('id:u64', 'status:u32', 'auth_params_id:u64', 'token:str')),
    105: ('verify_admin', ('id:u64', 'name:str', 'tenant:str', 'password:str', 'source:str')),
    106: ('admin', ('id:u64', 'status:u32', 'admin_id:u64', 'tenant_id:i64')),
    107: ('hash', ('id:u64', 'password:str')),
    108: ('hashed', ('id:u64', 'status:u32', 'hash:str')),
    109: ('ask', ('id:u64', 'kind:u32', 'user_id:u64', 'tenant_id:i64', 'login:str', 'vm_id:u64',
                  'source:str', 'file_name:str', 'env:bytes')),
    110: ('asked', ('id:u64', 'status:u32', 'allowed:bool', 'lists:bool', 'vms:bytes', 'params:str')),
}
NUMBERS = {'u64': '<Q', 'i64': '<q', 'u32': '<I', 'bool': '<B'}
TYPES = {name: (number, fields) for number, (name, fields) in MESSAGES.items()}


def encode(name, values):
    number, fields = TYPES[name]
    data = struct.pack('<HH', VERSION, number)
    for field in fields:
        key, kind = field.split(':')
        if kind == 'str':
            raw = values.get(key, '').encode()
            data += struct.pack('<I', len(raw)) + raw + b'\0'
        elif kind == 'bytes':
            data += struct.pack('<I', len(values.get(key, b''))) + values.get(key, b'')
        else:
            data += struct.pack(NUMBERS[kind], int(values.get(key, 0)))
    return data


def decode(data):
    version, number = struct.unpack_from('<HH', data)
    assert version == VERSION, data
    name, fields = MESSAGES[number]
    values, at = {'kind': name}, 4
    for field in fields:
        key, kind = field.split(':')
        if kind == 'str':
            size = struct.unpack_from('<I', data, at)[0]
            values[key] = data[at + 4:at + 4 + size].decode()
            at += 5 + size
        elif kind == 'bytes':
            size = struct.unpack_from('<I', data, at)[0]
            values[key] = data[at + 4:at + 4 + size]
            at += 4 + size
        else:
            values[key] = struct.unpack_from(NUMBERS[kind], data, at)[0]
            at += struct.calcsize(NUMBERS[kind])
    assert at == len(data), data
    return values


class Authd:
    def __init__(self, farm, *args):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            ['bash', '-c', f'exec 3<&{fd}; exec "$@"', 'bash',
             *farm.command(['/usr/lib/qvd/qvd-authd', *args])],
            pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        theirs.close()
        self.last_id = 0

    def send(self, kind, /, **values):
        """The id of the question."""
        self.last_id += 1
        self.channel.setblocking(True)
        self.channel.send(encode(kind, {'id': self.last_id, **values}))
        self.channel.setblocking(False)
        return self.last_id

    def receive(self, timeout=10.0):
        ready, _, _ = select.select([self.channel], [], [], timeout)
        assert ready, 'no answer of qvd-authd'
        data = self.channel.recv(65536)
        assert data, 'qvd-authd closed its channel: ' + self.end()
        return decode(data)

    def ask(self, kind, /, **values):
        number = self.send(kind, **values)
        answer = self.receive()
        assert answer['id'] == number
        return answer

    def ask_many(self, questions, timeout=20.0):
        """Sends all, then gathers all answers: id -> answer with 'after' seconds."""
        begin = time.monotonic()
        ids = [self.send(kind, **values) for kind, values in questions]
        answers = {}
        while len(answers) < len(ids):
            answer = self.receive(timeout)
            assert answer['id'] not in answers
            answer['after'] = time.monotonic() - begin
            answers[answer['id']] = answer
        return [answers[i] for i in ids]

    def end(self):
        """Closes the channel; what it said."""
        self.channel.close()
        try:
            return self.process.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
