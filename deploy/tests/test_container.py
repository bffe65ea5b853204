"""The image: what is in it, and that it starts with nothing but that, read-only and without privileges."""

import fnmatch
import json
import os
import stat
import subprocess
import tempfile
import unittest
import zlib
from pathlib import Path

from deploy.tests import containerfile, image
from deploy.tests.container import Container, get

CONFIG = """\
serve: {http: {port: 4420}}
db: {dsn: "sqlite:///var/lib/keygate/keygate.db"}
gateway:
  address: 0.0.0.0:8080
  routes: [{name: api, upstream: api}]
  upstreams: {api: {endpoints: ["http://127.0.0.1:9000"]}}
"""
ENVIRONMENT = {
    "KEYGATE_CREDENTIALS_ISSUER": "https://keys.example.com",
    "KEYGATE_SECRETS_HMAC_CURRENT": "0123456789abcdef0123456789abcdef",
}
# All files of the image.
FILES = [
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
    "lib*/*ld-linux-*.so.*",
    "lib/*/libc.so.6",
    "lib/*/libgcc_s.so.1",
    "lib/*/libm.so.6",
    "usr/bin/keygate",
    "var/lib/dpkg/status.d/ca-certificates",
    "var/lib/dpkg/status.d/libc6",
    "var/lib/dpkg/status.d/libgcc-s1",
]


class Image(unittest.TestCase):
    def setUp(self):
        self.root = image.root_file_system()
        self.last = containerfile.stage(None)

    def files(self):
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())

    def test_image_has_the_listed_files_and_no_other(self):
        files = self.files()
        unlisted = [file for file in files if not any(fnmatch.fnmatchcase(file, pattern) for pattern in FILES)]
        missing = [pattern for pattern in FILES if not fnmatch.filter(files, pattern)]
        self.assertEqual((unlisted, missing), ([], []))

    def test_no_file_is_set_user_id_or_writable_by_others(self):
        modes = {path: path.lstat().st_mode for path in self.root.rglob("*")}
        wrong = [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH | stat.S_IWGRP)]
        self.assertEqual(wrong, [])

    def test_image_starts_from_scratch_as_a_numbered_user_that_is_not_root(self):
        self.assertEqual(self.last.base, "scratch")
        # Kubernetes checks runAsNonRoot only for a number.
        self.assertEqual(self.last.one("USER"), f"{image.USER}:{image.USER}")
        self.assertIn(f":{image.USER}:{image.USER}:", (self.root / "etc/passwd").read_text())

    def test_entry_point_is_the_binary_in_exec_form(self):
        entry = containerfile.json_list(self.last.one("ENTRYPOINT"))
        self.assertTrue(os.access(self.root / entry[0].lstrip("/"), os.X_OK))
        self.assertEqual((entry, containerfile.json_list(self.last.one("CMD"))), (["/usr/bin/keygate"], ["serve"]))

    def test_binary_lists_its_dependencies(self):
        with tempfile.NamedTemporaryFile() as section:
            binary = self.root / "usr/bin/keygate"
            dump = ["objcopy", "--dump-section", f".dep-v0={section.name}", binary, "/dev/null"]
            subprocess.run(dump, check=True)
            packages = json.loads(zlib.decompress(Path(section.name).read_bytes()))["packages"]
        names = {package["name"] for package in packages}
        self.assertLessEqual({"keygate", "pingora", "rustls", "sqlx-postgres"}, names)
        # Tools of tests are not in the binary.
        self.assertNotIn("proptest", names)

    def test_context_has_no_data_and_no_build_output(self):
        folders = {path.parts[0] for path in containerfile.context_files()}
        self.assertEqual(folders & {"target", ".git", "keygate-data", "docs", "config"}, set())


class ReadOnlyStart(unittest.TestCase):
    def test_image_serves_with_a_read_only_root_and_stops_on_sigterm(self):
        with tempfile.TemporaryDirectory() as folder:
            config, data = Path(folder, "config"), Path(folder, "data")
            config.mkdir()
            data.mkdir()
            (config / "keygate.yaml").write_text(CONFIG)
            os.chmod(folder, 0o755)
            if image.can_change_owner():
                os.chown(data, image.USER, image.USER)
            mounts = {"/etc/keygate": config, "/var/lib/keygate": data}
            command = containerfile.json_list(containerfile.stage(None).one("CMD"))
            with Container(command, ENVIRONMENT, mounts, writable=["/var/lib/keygate"]) as keygate:
                keygate.wait_for("http://127.0.0.1:4422/health/ready")
                self.assertEqual(get("http://127.0.0.1:8080/orders").status, 401)
                key = json.loads(keygate.run("keys", "issue", "Orders", "--actor", "ana", "--format", "json"))
                answer = get("http://127.0.0.1:8080/orders", {"Authorization": f"Bearer {key['secret']}"})
                # The credential is good; there is no upstream.
                self.assertEqual(answer.status, 502)
                self.assertEqual(keygate.stop(), 0, keygate.output)

    def test_root_of_the_image_cannot_be_written(self):
        with Container(["serve", "--config", "/etc/keygate/missing.yaml"]) as keygate:
            self.assertNotEqual(keygate.process.wait(60), 0)
            with self.assertRaises(OSError):
                (keygate.folder / "root/usr/bin/other").write_text("")


if __name__ == "__main__":
    unittest.main()
