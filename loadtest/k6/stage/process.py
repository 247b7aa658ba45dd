"""Child processes that end with whoever started them, whatever happens."""

import os
import signal
import subprocess
import time
from pathlib import Path


# Whoever is killed cannot end its children: before a command, this has the kernel do it.
GUARD = ["setpriv", "--pdeathsig", "KILL", "--"]


class Failed(Exception):
    """The stage does not stand; the message says why, with the end of a log."""


class Process:
    """Runs until it ends, or until `kill`. Its output is in `name.log`."""

    def __init__(self, name, command, directory, environment=None):
        self.name = name
        self.log = Path(directory) / f"{name}.log"
        # A group of its own: Ctrl-C is for us alone.
        with self.log.open("ab") as output:
            self._child = subprocess.Popen([*GUARD, *map(str, command)], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                           stdout=output, stderr=output, start_new_session=True)
        self.pid = self._child.pid

    @property
    def exit_code(self):
        """`None` while it runs."""
        return self._child.poll()

    def terminate(self):
        """SIGTERM: it is to end in its own way."""
        self._child.send_signal(signal.SIGTERM)

    def kill(self):
        """Ends it at once, and waits for that."""
        self._child.kill()
        self._child.wait()

    def wait(self, patience):
        """Its exit code, or `None` if it does not end within `patience` seconds."""
        try:
            return self._child.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def cpu_seconds(self):
        """How long it has kept a processor busy so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        """What it has in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def open_files(self):
        """How many it has open, sockets included."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def until_up(self, is_up, patience=30):
        """Waits until `is_up()`, or fails with the end of the log."""
        end = time.monotonic() + patience
        while not is_up():
            if self.exit_code is not None or time.monotonic() > end:
                state = "is not ready" if self.exit_code is None else f"has ended with {self.exit_code}"
                last = "\n  ".join(self.log.read_text(errors="replace").splitlines()[-10:])
                raise Failed(f"{self.name} {state}:\n  {last}")
            time.sleep(0.02)


def until(what, holds, patience=60):
    """Waits until `holds()`, or fails."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise Failed(f"still waiting for {what} after {patience} s")
        time.sleep(0.05)
