"""Verifies the packages of one repository after dnf has downloaded them, and before rpm sees them.

dnf 4 loads it from /usr/lib/python3*/site-packages/dnf-plugins/ (Debian: /usr/lib/python3/dist-packages/
dnf-plugins/), and installs nothing if it raises an error. It verifies all packages of the repository, because
whoever took that over can have dnf install another package with yours, and packages with your names from
anywhere. All others are left to dnf's own check.
"""

import os
import subprocess
import tempfile

import dnf
import dnf.exceptions

REPOSITORY = "app"  # the name in brackets in /etc/yum.repos.d
FROM = "https://downloads.example.com/v1.2.0"
NAMES = ("app",)
KEY = "/etc/colophon/release.pub"


class ColophonVerify(dnf.Plugin):
    name = "colophon_verify"

    def pre_transaction(self):
        try:
            for package in self.base.transaction.install_set:
                if package.reponame == REPOSITORY or package.name in NAMES:
                    verify(package.localPkg())
        except dnf.exceptions.Error:
            raise
        except Exception as e:  # dnf would only log it, and install
            raise dnf.exceptions.Error(f"colophon_verify: {type(e).__name__}: {e}")


def verify(path):
    name = os.path.basename(path)
    with tempfile.TemporaryDirectory() as work:
        bundle = os.path.join(work, "bundle")
        run("cannot download the bundle of " + name, "curl", "--fail", "--silent", "--show-error", "--max-filesize", "1000000",
            "--output", bundle, FROM + "/" + name + ".sigstore.json")
        run(name + " is not what was released", "colophon", "verify", path, "--bundle", bundle, "--key", KEY)


def run(failed, *command):
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.CalledProcessError as e:
        raise dnf.exceptions.Error("colophon_verify: " + failed + "\n" + (e.stdout + e.stderr).decode(errors="replace"))
