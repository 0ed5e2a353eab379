"""The service of threads.py, whose threads are greenlets of gevent."""

from gevent import monkey

monkey.patch_all()

import threads  # noqa: E402, F401 - serves
