# SPDX-License-Identifier: GPL-3.0-or-later
"""A farm's API spoken to from Python's own HTTP and TLS, sharing no code with src/."""

import http.client
import json
import ssl
import urllib.parse


class Api:
    """api.call('POST', 'vm', {...}) gives (status, body); keeps its connection."""

    def __init__(self, farm, login=None, password=None, tenant=None):
        self.farm = farm
        self.context = ssl.create_default_context(cafile=farm.path('ca.pem'))
        self.ticket = None
        self.connection = None
        if login:
            status, body = self.call('POST', 'login', {
                'login': login, 'password': password, **({'tenant': tenant} if tenant else {})})
            assert status == 200, body
            self.ticket = body['ticket']

    def raw(self, method, path, data=None, headers=None):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                self.farm.address, self.farm.api_port, context=self.context, timeout=30)
        head = dict(headers or {})
        if self.ticket and 'Authorization' not in head:
            head['Authorization'] = 'Bearer ' + self.ticket
        try:
            self.connection.request(method, '/api/1/' + path, body=data, headers=head)
            answer = self.connection.getresponse()
            text = answer.read()
        except (http.client.HTTPException, OSError):
            self.close()
            raise
        if answer.getheader('Connection', '').lower() == 'close':
            self.close()
        return answer.status, text

    def call(self, method, path, body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        status, text = self.raw(method, path, data, headers)
        return status, json.loads(text)

    def ok(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        assert 200 <= status < 300, (method, path, status, answer)
        return answer

    def add(self, kind, **fields):
        return self.ok('POST', kind, fields)['id']

    def rows(self, kind, filter_text='', fields=''):
        query = urllib.parse.urlencode({'filter': filter_text, 'fields': fields})
        return self.ok('GET', f'{kind}?{query}')['rows']

    def refused(self, method, path, body=None):
        """status and message of a refusal."""
        status, answer = self.call(method, path, body)
        assert status >= 400, (method, path, answer)
        return status, answer['error']['message']

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def start_api(farm):
    """Database and API of a farm made with {'services': False}; the API as the first
    administrator."""
    farm.init_database()
    farm.start_service('api')
    return Api(farm, 'admin', farm.admin_password, '*')
