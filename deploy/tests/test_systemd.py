"""The unit: systemd accepts it, it is confined, and Keygate needs no system call that it denies."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from deploy.tests import image
from deploy.tests.container import get
from deploy.tests.tools import DEPLOY, run

FOLDER = DEPLOY / "systemd"
UNIT = FOLDER / "keygate.service"
# The scale of `systemd-analyze security` is 0 to 10.
MOST_EXPOSURE = 2.0


def settings():
    """The assignments of the unit, in order."""
    lines = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in lines]


class Unit(unittest.TestCase):
    def setUp(self):
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_unit_is_confined(self):
        text = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
        exposure = float(re.search(r"Overall exposure level for keygate.service: ([\d.]+)", text)[1])
        self.assertLess(exposure, MOST_EXPOSURE, text)

    def test_unit_is_valid(self):
        units = self.root / "etc/systemd/system"
        units.mkdir(parents=True)
        shutil.copy(UNIT, units)
        for program in ["usr/bin/keygate", "usr/bin/sh"]:
            (self.root / program).parent.mkdir(parents=True, exist_ok=True)
            (self.root / program).touch(0o755)
        for target in ["multi-user", "network-online", "sysinit", "basic", "shutdown"]:
            (units / f"{target}.target").write_text("[Unit]\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"--root={self.root}", "keygate.service"], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_misspelled_setting_is_found(self):
        units = self.root / "etc/systemd/system"
        units.mkdir(parents=True)
        (units / "keygate.service").write_text(UNIT.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
        command = ["systemd-analyze", "verify", f"--root={self.root}", "keygate.service"]
        self.assertIn("NoNewPrivilege", subprocess.run(command, capture_output=True, text=True).stderr)

    @unittest.skipUnless(image.can_change_owner(), "owners cannot be changed in a user namespace; run as root")
    def test_user_and_folders_are_made(self):
        (self.root / "etc").mkdir()
        run("systemd-sysusers", f"--root={self.root}", FOLDER / "keygate.sysusers")
        user = re.search(r"^keygate:x:(\d+):(\d+):", (self.root / "etc/passwd").read_text(), re.MULTILINE)
        self.assertTrue(user)
        (self.root / "etc/keygate").mkdir()
        for file in ["keygate.yaml", "keygate.env"]:
            (self.root / "etc/keygate" / file).touch(0o644)
        run("systemd-tmpfiles", f"--root={self.root}", "--create", FOLDER / "keygate.tmpfiles")
        made = {name: (self.root / "etc/keygate" / name).stat() for name in ["", "keygate.yaml", "keygate.env"]}
        modes = {name: (oct(info.st_mode & 0o777), info.st_gid == int(user[2])) for name, info in made.items()}
        self.assertEqual(modes, {"": ("0o750", True), "keygate.yaml": ("0o640", True), "keygate.env": ("0o600", False)})

    def test_time_to_stop_is_longer_than_the_grace_of_active_requests(self):
        self.assertGreater(int(dict(settings())["TimeoutStopSec"].removesuffix("s")), 30)


class SystemCalls(unittest.TestCase):
    def test_keygate_makes_no_system_call_that_the_unit_denies(self):
        allowed = allowed_calls()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        trace = Path(folder, "trace")
        binary = image.root_file_system() / "usr/bin/keygate"
        options = ["--ephemeral", "--gateway-port", "8080", "--admin-port", "4420", "--metrics-port", "4422"]
        command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", trace, binary, "dev", *options]
        # As the unit does: soft and hard limit of open files are the same.
        limited = ["prlimit", "--nofile=1024:1024", *command]
        with open(Path(folder, "log"), "wb") as log:
            process = subprocess.Popen(limited, stdout=log, stderr=log, start_new_session=True, cwd=folder)
        try:
            end = time.monotonic() + 60
            while getattr(get("http://127.0.0.1:4422/health/ready"), "status", None) != 200:
                self.assertLess(time.monotonic(), end, Path(folder, "log").read_text())
                time.sleep(0.1)
            self.assertEqual(get("http://127.0.0.1:8080/orders").status, 401)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
        calls = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
        self.assertLessEqual({"openat", "accept4", "epoll_wait"}, calls)
        self.assertEqual(calls - allowed, set())


def allowed_calls():
    """The system calls that SystemCallFilter= leaves, from the groups of the installed systemd."""
    groups, name = {}, None
    for line in run("systemd-analyze", "syscall-filter", "--no-pager").splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            groups[name].add(line.strip())

    def expand(group):
        return {call for each in groups[group] for call in (expand(each) if each.startswith("@") else {each})}

    # systemd always allows these.
    allowed = expand("@default")
    for value in (value for name, value in settings() if name == "SystemCallFilter"):
        listed = {call for group in value.removeprefix("~").split() for call in expand(group)}
        allowed = allowed - listed if value.startswith("~") else allowed | listed
    return allowed


if __name__ == "__main__":
    unittest.main()
