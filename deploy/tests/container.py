"""Runs the image as a process: its files as a read-only root, its user, no capabilities, and the mounts of a container."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.tests import containerfile, image

DEADLINE = 60
SETPRIV, CHROOT = shutil.which("setpriv"), shutil.which("chroot")


class Container:
    """One process in the files of the image. `mounts` maps paths in the image to folders and files; those in `writable` can be written.
    `hosts` maps names to addresses."""

    def __init__(self, arguments, environment=None, mounts=None, writable=(), hosts=None):
        self.arguments = arguments
        self.environment = environment or {}
        self.mounts = mounts or {}
        self.writable = writable
        self.hosts = {"localhost": "127.0.0.1", **(hosts or {})}
        self.folder = Path(tempfile.mkdtemp(prefix="keygate-container-"))
        self.process = None

    def __enter__(self):
        self._mount()
        self._spawn()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "--lazy", str(self.folder / "root")], check=True)
        shutil.rmtree(self.folder)

    @property
    def output(self):
        return (self.folder / "log").read_text()

    def run(self, *arguments):
        """Runs another command in the same files, as `exec` does, and returns its output."""
        done = subprocess.run(self._command(arguments), env=self._environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def wait_for(self, url, text=""):
        """Waits until the address answers with the status 200 and a body that has the text."""
        end = time.monotonic() + DEADLINE
        answer = None
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the process has ended: {self.output}"
            answer = get(url)
            if answer and answer.status == 200 and text.encode() in answer.body:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"{url} gives {answer and answer.status}, or lacks {text!r}: {self.output}")

    def stop(self):
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def _mount(self):
        tree, root = self.folder / "tree", self.folder / "root"
        # A container engine makes the folders to mount on, and /etc/hosts.
        shutil.copytree(image.root_file_system(), tree, copy_function=os.link, symlinks=True)
        root.mkdir()
        lines = [f"{address} {name}\n" for name, address in self.hosts.items()]
        (tree / "etc/hosts").write_text("".join(lines))
        mount("--bind", tree, root)
        for point, source in {"/dev": "/dev", "/proc": "/proc", **self.mounts}.items():
            place = tree / point.lstrip("/")
            if Path(source).is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            mount("--rbind", source, root / point.lstrip("/"))
            if point not in self.writable and point in self.mounts:
                mount("-o", "remount,bind,ro", root / point.lstrip("/"))
        mount("-o", "remount,bind,ro", root)

    def _spawn(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                self._command(self.arguments), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _command(self, arguments):
        stage = containerfile.stage(None)
        user = ["--userspec", stage.one("USER")] if image.can_change_owner() else []
        entry = containerfile.json_list(stage.one("ENTRYPOINT"))
        return [SETPRIV, "--no-new-privs", CHROOT, *user, str(self.folder / "root"), *entry, *arguments]

    def _environment(self):
        return containerfile.stage(None).arguments({}) | self.environment


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def get(url, headers=None, body=None, method=None):
    """The answer to a request; None if no connection can be made."""
    request = urllib.request.Request(url, headers=headers or {}, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())
    except (urllib.error.URLError, OSError):
        return None
