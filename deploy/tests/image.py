"""Builds the files of the image without a container engine: runs the stage `build` in a mount namespace, then copies as the last stage."""

import functools
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from deploy.tests import containerfile
from deploy.tests.containerfile import ROOT

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "deploy"
# A build of the profile `release` takes many minutes.
PROFILE = os.environ.get("PROFILE", "dev")
# Numbers of the user and the group of the image.
USER = 65532


@functools.cache
def root_file_system():
    """The folder with the files of the image; built once."""
    context, output, image = WORK / "context", WORK / "mnt", WORK / "image"
    if os.environ.get("REUSE"):
        return image
    for folder in (context, output, image):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    containerfile.copy_context(context)
    run_build_stage(context, output)
    for text in containerfile.stage(None).all("COPY"):
        copy_into_image(text, output, image)
    return image


def run_build_stage(context, output):
    stage = containerfile.stage("build")
    environment = os.environ | stage.arguments({"PROFILE": PROFILE})
    source = stage.one("WORKDIR")
    (context / "target").mkdir()
    TARGET.mkdir(exist_ok=True)
    mounts = [(context, source), (TARGET, f"{source}/target"), (output, "/mnt")]
    script = "".join(f"mount --bind {shlex.quote(str(folder))} {point}\n" for folder, point in mounts)
    script += f"cd {source}\n"
    script += "".join(containerfile.run_command(text) + "\n" for text in stage.all("RUN"))
    environment.pop("CARGO_TARGET_DIR", None)
    subprocess.run(["unshare", "--mount", "sh", "-euc", script], env=environment, check=True)


def copy_into_image(text, output, image):
    """Carries out `COPY --from=build [--chown=…] /mnt/FOLDER/ TARGET`."""
    *options, source, target = shlex.split(text)
    assert "--from=build" in options and source.startswith("/mnt/"), text
    destination = image / target.lstrip("/")
    shutil.copytree(output / source.removeprefix("/mnt/"), destination, symlinks=True, dirs_exist_ok=True)
    for option in options:
        if option.startswith("--chown=") and can_change_owner():
            user, group = option.removeprefix("--chown=").split(":")
            for folder, _, files in os.walk(destination):
                for path in [folder, *(os.path.join(folder, name) for name in files)]:
                    os.chown(path, int(user), int(group), follow_symlinks=False)


def can_change_owner():
    """Whether this process is root of the machine. Root of a user namespace has no other users."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"] and os.geteuid() == 0
