"""`python -m sagabus.dev.followed FD ARGS`: runs `sagabus ARGS`, and ends when the other end of FD is gone.

Whoever starts a command beside itself may be killed, and what it has started is not to stay behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run the command; see the module."""
    from sagabus.cli import main as sagabus
    from sagabus.supervisor import follow_parent

    arguments = (int(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=follow_parent, args=arguments, name="follow-parent", daemon=True).start()
    sagabus(sys.argv[2:], prog_name="sagabus")


if __name__ == "__main__":
    main()
