# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd-l7r-broker in a farm, with a master and a worker that are ours: what a worker in hostile hands
can tell it."""

import os
import select
import socket
import struct
import subprocess

import authd

# src/ipc/l7r-msg.h
MESSAGES = {
    131: ('broker_context', ('nodename:str', 'instance:u64', 'settings_len:u32', 'log_level:u32')),
    132: ('link', ('peer:u32', 'slot:u32', 'generation:u32')),
    140: ('hello', ('version:u32', 'instance:u64', 'slot:u32', 'generation:u32')),
    141: ('resync', ('sessions:bytes', 'last:bool')),
    142: ('request', ('conn:u64', 'kind:u32', 'credentials:u32', 'login:str', 'secret:str',
                      'source:str', 'client:str', 'vm_id:u64', 'flaw:u32', 'flaw_text:str',
                      'store_auth:bool', 'file_name:str', 'tls_ms:u32', 'params:bytes',
                      'env:bytes')),
    144: ('gone', ('conn:u64',)),
    150: ('welcome', ('instance:u64',)),
    152: ('answer', ('conn:u64', 'status:u32', 'type:str', 'retry_after:u32', 'authenticated:bool',
                     'last:bool', 'body:bytes')),
}
authd.MESSAGES.update(MESSAGES)
authd.TYPES.update({name: (number, fields) for number, (name, fields) in MESSAGES.items()})
PEER_WORKER = 1


class Broker:
    def __init__(self, farm, settings):
        self.master, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            ['bash', '-c', f'exec 3<&{fd}; exec "$@"', 'bash',
             *farm.command(['/usr/lib/qvd/qvd-l7r-broker', '--user', 'qvd-broker'])],
            pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        theirs.close()
        text = ''.join(f'{key} = {value}\n' for key, value in settings.items()).encode()
        memory = os.memfd_create('settings')
        os.write(memory, text)
        self.tell_master('broker_context', memory, nodename='nowhere', settings_len=len(text),
                         log_level=3)
        os.close(memory)
        self.worker, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tell_master('link', theirs.fileno(), peer=PEER_WORKER, slot=0, generation=1)
        theirs.close()
        self.send('hello', version=1, slot=0, generation=1)
        self.receive('welcome')

    def tell_master(self, kind, fd, /, **values):
        self.master.sendmsg([authd.encode(kind, values)],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', fd))])

    def send(self, kind, /, **values):
        self.worker.send(authd.encode(kind, values))

    def receive(self, kind):
        """The next of that kind."""
        while True:
            ready, _, _ = select.select([self.worker], [], [], 15)
            assert ready, f'no {kind} of the broker'
            data = self.worker.recv(65536)
            assert data, 'the broker closed the channel: ' + self.end()
            message = authd.decode(data)
            if message['kind'] == kind:
                return message

    def ask(self, conn):
        """Status and text of the answer to a request without credentials."""
        self.send('request', conn=conn, kind=3, source='192.0.2.1')
        answer = self.receive('answer')
        assert answer['conn'] == conn
        return answer['status'], answer['body'].decode().strip()

    def end(self):
        """Its master goes; what it said."""
        self.master.close()
        return self.process.communicate(timeout=15)[1]
