# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients that exist, as they were observed, byte for byte: Perl, Qt and C library.

Nothing is shared with src/. TLS runs over memory, so that each record is seen as one: the C client
loses what shares a record with the head of the 101.
"""

import base64
import json
import re
import socket
import time
import urllib.parse

from OpenSSL import SSL

NX_HELLO = b'NXPROXY-3.5.0-3.5.99 stream=default,data=default '


class Wire:
    """A TLS connection whose records are told apart."""

    source = None       # (address, port) that it comes from, if a test minds

    def __init__(self, address, *, sni=None, ocsp=False, alpn=None, session=None, timeout=30):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if alpn:
            context.set_alpn_protos(alpn)
        if ocsp:
            context.set_ocsp_client_callback(lambda *_: True)
        self.tls = SSL.Connection(context, None)
        if sni:
            self.tls.set_tlsext_host_name(sni)
        if ocsp:
            self.tls.request_ocsp()
        if session:
            self.tls.set_session(session)
        self.tls.set_connect_state()
        self.raw = b''
        self.closed = False
        self.socket = socket.create_connection(address, timeout, source_address=self.source)
        while True:
            try:
                self.tls.do_handshake()
                break
            except SSL.WantReadError:
                self._flush()
                if not self._feed():
                    raise ConnectionError('closed during the handshake') from None
        self._flush()

    def _flush(self):
        while True:
            try:
                self.socket.sendall(self.tls.bio_read(65536))
            except SSL.WantReadError:
                return

    def _feed(self):
        """Gives exactly one record to TLS; False at the end of the stream."""
        while len(self.raw) < 5 or len(self.raw) < 5 + int.from_bytes(self.raw[3:5], 'big'):
            piece = self.socket.recv(65536)
            if not piece:
                return False
            self.raw += piece
        size = 5 + int.from_bytes(self.raw[3:5], 'big')
        self.tls.bio_write(self.raw[:size])
        self.raw = self.raw[size:]
        return True

    def send(self, data):
        self.tls.sendall(data)
        self._flush()

    def record(self):
        """What the next record with data holds; b'' when the server has closed."""
        while not self.closed:
            try:
                if not self._feed():
                    break
                data = self.tls.recv(65536)
                if data:
                    return data
            except SSL.WantReadError:
                self._flush()       # a ticket or the like
            except (SSL.ZeroReturnError, SSL.SysCallError, ConnectionResetError):
                break
        self.closed = True
        return b''

    def close(self):
        self.socket.close()

    def reset(self):
        """Goes for good: a plain end might still want its answer."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.socket.close()


class Answer:
    """A final answer, read as strictly as the strictest client reads it."""

    def __init__(self, wire, before=b''):
        self.infos = []         # texts of the 102s
        self.info_records = 0   # how many records they came in
        data = before
        while True:
            while b'\r\n\r\n' not in data:
                piece = wire.record()
                if not piece:
                    raise ConnectionError(f'closed after {data!r}')
                if not data and piece.startswith(b'HTTP/1.1 102'):
                    self.info_records += 1
                self.last_record = piece
                data += piece
            head, _, data = data.partition(b'\r\n\r\n')
            self._parse(head.decode('ascii'))
            if self.status != 102:
                break
            self.infos.append(self.headers['X-QVD-VM-Info'])
        self.body = data
        if self.status == 101:
            return
        # Qt: complete only when the bytes of the body equal Content-Length, and it looks only
        # once it has some of them.
        length = int(self.headers['Content-Length'])
        assert length > 0
        while len(self.body) < length:
            piece = wire.record()
            if not piece:
                raise ConnectionError(f'closed in the body after {self.body!r}')
            self.body += piece
        assert len(self.body) == length, 'more bytes than Content-Length tells'

    def _parse(self, head):
        assert '\n' not in head.replace('\r\n', ''), 'a line ends without CR'
        status, *lines = head.split('\r\n')
        # Version, code and a reason: Qt takes the third word without looking whether it is there.
        match = re.fullmatch(r'HTTP/1\.1 (\d{3}) (\S.*)', status)
        assert match, status
        self.status, self.reason = int(match[1]), match[2]
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(': ')
            assert value, line
            self.headers[name] = value
        assert 'Transfer-Encoding' not in self.headers

    def json(self):
        assert self.headers['Content-Type'].startswith('application/json'), self.headers
        assert all(byte < 128 for byte in self.body), 'JSON is escaped to ASCII'
        return json.loads(self.body)


def basic(login, password):
    return 'Basic ' + base64.b64encode(f'{login}:{password}'.encode()).decode()


def request(path, headers=(), end='\r\n', version='HTTP/1.1', method='GET'):
    lines = [f'{method} {path} {version}', *(f'{name}: {value}' for name, value in headers)]
    return (end.join(lines) + end + end).encode()


def check_list(rows):
    """As Qt reads it: ids are numbers; blocked and is_application 0 or 1."""
    for row in rows:
        assert isinstance(row['id'], int) and not isinstance(row['id'], bool), row
        assert row['blocked'] in (0, 1) and row['is_application'] in (0, 1), row
        assert isinstance(row['name'], str), row
        assert row['state'] in ('stopped', 'starting', 'running', 'stopping', 'zombie'), row
    return rows


def first_nx_bytes(wire, answer):
    """The client speaks first; what nxagent says then. Nothing of the server's own may precede."""
    assert answer.status == 101, (answer.status, answer.body)
    assert answer.body == b'', 'bytes behind the head of the 101 in its record'
    assert answer.last_record.endswith(b'\r\n\r\n')
    assert answer.last_record.startswith(b'HTTP/1.1 101'), 'the 101 shares its record'
    assert re.fullmatch(r'[A-Za-z0-9]{64}', answer.headers['X-QVD-Slave-Key'])
    wire.send(NX_HELLO)
    return wire.record()


class PerlClient:
    """qvd-client.pl: one connection, CRLF, no Host, IP address as SNI, asks for OCSP."""

    def __init__(self, address, login, password):
        self.auth = basic(login, password)
        self.wire = Wire(address, sni=address[0].encode(), ocsp=True)

    def list(self):
        self.wire.send(request('/qvd/list_of_vm?', [('Authorization', self.auth),
                                                    ('Accept', 'application/json')]))
        answer = Answer(self.wire)
        assert answer.status == 200, answer.body
        return check_list(answer.json())

    def connect(self, vm):
        parameters = {'qvd.client.link': 'local', 'qvd.client.keyboard': 'pc105/es',
                      'qvd.client.os': 'linux', 'qvd.client.geometry': '1024x768',
                      'qvd.client.fullscreen': '', 'id': str(vm),
                      'qvd.client.printing.enabled': '0', 'qvd.client.usb.enabled': '0',
                      'qvd.client.audio.compression.enable': '1'}
        query = '&'.join(f'{k}={urllib.parse.quote(v, safe="")}' for k, v in parameters.items())
        self.wire.send(request(f'/qvd/connect_to_vm?{query}',
                               [('Authorization', self.auth), ('Connection', 'Upgrade'),
                                ('Upgrade', 'QVD/1.0')]))
        return Answer(self.wire)


class QtClient:
    """QVD Client Qt: one connection, lines end with a bare LF, no Host, no SNI, no ALPN."""

    def __init__(self, address, login, password):
        self.auth = basic(login, password)
        self.wire = Wire(address)

    def list(self):
        self.wire.send(request('/qvd/list_of_vm', [('Authorization', self.auth),
                                                   ('User-Agent', 'QVD Client Qt')], end='\n'))
        answer = Answer(self.wire)
        assert answer.status == 200, answer.body
        return check_list(answer.json())

    def stop(self, vm):
        self.wire.send(request(f'/qvd/stop_vm?id={vm}',
                               [('Authorization', self.auth), ('Connection', 'Upgrade'),
                                ('Upgrade', 'QVD/1.0')], end='\n'))
        return Answer(self.wire)

    def connect(self, vm):
        # A raw slash in the time zone, and a key without "=" as there is no X to ask.
        query = (f'id={vm}&qvd.client.type=qt&qvd.client.keyboard&qvd.client.os=linux'
                 '&qvd.client.link=local&qvd.client.geometry=1024x768&qvd.client.fullscreen=0'
                 '&qvd.client.audio.sound.enable=0&qvd.client.audio.microphone.enable=0'
                 '&qvd.client.usb.enabled=0&qvd.client.usb.implementation=usbip'
                 '&qvd.client.timezone=Etc/UTC')
        self.wire.send(request(f'/qvd/connect_to_vm?{query}',
                               [('Authorization', self.auth), ('Connection', 'Upgrade'),
                                ('Upgrade', 'QVD/1.0'), ('User-Agent', 'QVD Client Qt')],
                               end='\n'))
        return Answer(self.wire)


class CClient:
    """libqvdclient of the mobile clients: the list on one connection that stays open all session,
    the desktop on a second one, which resumes the first one's TLS session."""

    def __init__(self, address, login, password):
        self.address = address
        self.auth = basic(login, password)
        self.lists = Wire(address, alpn=[b'h2', b'http/1.1'])
        assert self.lists.tls.get_alpn_proto_negotiated() in (b'', b'http/1.1')
        self.wire = None

    def list(self):
        host = f'{self.address[0]}:{self.address[1]}'
        self.lists.send(request('/qvd/list_of_vm', [('Host', host),
                                                    ('Authorization', self.auth),
                                                    ('User-Agent', 'QVD/1.0'),
                                                    ('Accept', '*/*')]))
        answer = Answer(self.lists)
        assert answer.status == 200, answer.body
        return check_list(answer.json())

    def stop(self):
        """As it does: without the id."""
        self.lists.send(request('/qvd/stop_vm', [('Host', self.address[0]),
                                                 ('Authorization', self.auth)]))
        return Answer(self.lists)

    def connect(self, vm):
        self.wire = Wire(self.address, alpn=[b'h2', b'http/1.1'],
                         session=self.lists.tls.get_session())
        assert self.wire.tls.get_alpn_proto_negotiated() in (b'', b'http/1.1')
        query = (f'id={vm}&qvd.client.keyboard=pc105/en&qvd.client.os=linux'
                 '&qvd.client.link=local&qvd.client.geometry=1024x768&qvd.client.fullscreen=0')
        self.wire.send(request(f'/qvd/connect_to_vm?{query}',
                               [('Authorization', self.auth), ('Connection', 'Upgrade'),
                                ('Upgrade', 'QVD/1.0')], end='\n'))
        answer = Answer(self.wire)
        if answer.status != 101:
            # It hangs if head and body share a record and the socket stays open.
            began = time.monotonic()
            assert self.wire.record() == b''
            assert time.monotonic() - began < 5
        return answer
