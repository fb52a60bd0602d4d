# SPDX-License-Identifier: GPL-3.0-or-later
import threading


class Later:
    """Runs call() beside the test; its value or exception."""

    def __init__(self, call):
        self.value = self.error = None

        def run():
            try:
                self.value = call()
            except BaseException as error:  # pylint: disable=broad-except
                self.error = error
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self, timeout=20):
        self.thread.join(timeout)
        assert not self.thread.is_alive(), 'no answer'
        if self.error:
            raise self.error
        return self.value

    def done(self):
        return not self.thread.is_alive()
