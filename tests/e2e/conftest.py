# SPDX-License-Identifier: GPL-3.0-or-later
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, 'tests', 'lib'))

import scratch  # noqa: E402  pylint: disable=wrong-import-position

scratch.for_this_process()  # before BASE_DIR is read

from fakenode import node_fixture, vm_fixture  # noqa: E402,F401
from farm import farm, screen, xserver, xservers  # noqa: E402,F401  pylint: disable=wrong-import-position
from l7rscript import pki_fixture  # noqa: E402,F401  pylint: disable=wrong-import-position
from pg import cluster_fixture, database_fixture  # noqa: E402,F401  pylint: disable=wrong-import-position
