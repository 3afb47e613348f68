"""Certificates and kubeconfigs of a cluster, made with openssl."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import folders
from .errors import ClusterError

AUTHORITY = "keyUsage = critical, digitalSignature, keyCertSign, cRLSign\nbasicConstraints = critical, CA:TRUE"
LEAF = "keyUsage = critical, digitalSignature\nextendedKeyUsage = serverAuth, clientAuth\nbasicConstraints = CA:FALSE"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate stands for: a Kubernetes user with its groups, or a server with its names."""

    name: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ("DNS:unused",)
    authority: str = "ca"


@dataclass(frozen=True, slots=True)
class Certificates:
    """The folder with the keys of one cluster; a file that exists is kept."""

    folder: Path

    def certificate(self, name: str) -> Path:
        """Path of a certificate."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Path of a private key."""
        return self.folder / f"{name}.key"

    @property
    def public_key(self) -> Path:
        """With which the API server checks service-account tokens."""
        return self.folder / "service-account.pub"

    def make(self, identities: Sequence[Identity]) -> None:
        """Make the authorities, the service-account key and a certificate for each identity."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for authority in ("ca", "front-proxy-ca"):
            self._issue(authority, subject=f"/CN={authority}", extensions=AUTHORITY, signer=None)
        if not self.public_key.exists():
            private = str(self.key("service-account"))
            self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
            self._openssl("pkey", "-in", private, "-pubout", "-out", str(self.public_key))
        for identity in identities:
            subject = "".join(f"/O={group}" for group in identity.groups) + f"/CN={identity.user}"
            extensions = f"{LEAF}\nsubjectAltName = {', '.join(identity.names)}"
            self._issue(identity.name, subject=subject, extensions=extensions, signer=identity.authority)

    def kubeconfig(self, path: Path, *, server: str, identity: str, cluster: str) -> None:
        """Write a kubeconfig with everything inside, so that it can be copied anywhere."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {"server": server, "certificate-authority-data": _inline(self.certificate("ca"))},
                }
            ],
            "users": [
                {
                    "name": identity,
                    "user": {
                        "client-certificate-data": _inline(self.certificate(identity)),
                        "client-key-data": _inline(self.key(identity)),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": identity}}],
            "current-context": cluster,
        }
        # Every JSON is YAML, and needs no rules of quoting.
        folders.write(path, json.dumps(config, indent=2), mode=0o600)

    def _issue(self, name: str, *, subject: str, extensions: str, signer: str | None) -> None:
        if self.certificate(name).exists():
            return
        settings = self.folder / f"{name}.cnf"
        authority = "authorityKeyIdentifier = keyid\n" if signer else ""
        settings.write_text(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n[name]\n"
            f"[extensions]\nsubjectKeyIdentifier = hash\n{authority}{extensions}\n"
        )
        signing = ["-CA", str(self.certificate(signer)), "-CAkey", str(self.key(signer))] if signer else []
        unfinished = self.certificate(name).with_suffix(".new")
        self._openssl(
            *("req", "-x509", "-config", str(settings), "-subj", subject, "-days", "3650"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(self.key(name)), "-out", str(unfinished), *signing),
        )
        unfinished.rename(self.certificate(name))

    def _openssl(self, *arguments: str) -> None:
        try:
            done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise ClusterError("openssl is missing: run 'python -m tests.cluster packages' as root.") from None
        if done.returncode:
            raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip().splitlines()[-1]}")


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
