"""Settings of what runs on the node beside the control plane: values in, files out."""

import io
import json
import platform
import tarfile
from hashlib import sha256
from pathlib import Path

from . import cgroups, folders
from .certificates import Certificates
from .errors import ClusterError
from .plan import Network, Plan

COMPONENTS = ("containerd", "kubelet", "kube-proxy", "coredns")
PAUSE_IMAGE = "localhost/sundog-pause:1"
# Inside the node's mount namespace /run is its own: short paths, since that of a
# Unix socket may have 107 characters.
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

CONTAINERD = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# It would make /opt/containerd on the host.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
  # Machines without CAP_SYS_RESOURCE fail each sandbox with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{shim}"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
        SystemdCgroup = false
"""

COREFILE = """\
.:53 {{
  bind {node}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
    ttl 5
  }}
  cache 5
}}
"""


def write(plan: Plan, network: Network, certificates: Certificates, *, shim: Path) -> None:
    """Write the settings of containerd, kubelet, kube-proxy, CoreDNS and the pod network."""
    folder = plan.folder
    (folder / "cni").mkdir(exist_ok=True)
    settings = {
        "cni/10-sundog.conflist": json.dumps(_pod_network(network), indent=2),
        "containerd.toml": CONTAINERD.format(socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE, folder=folder, shim=shim),
        "Corefile": COREFILE.format(node=network.node, kubeconfig=plan.kubeconfig),
        "kubelet.yaml": json.dumps(_kubelet(plan, network, certificates), indent=2),
        "kube-proxy.yaml": json.dumps(_kube_proxy(plan, network), indent=2),
        # What a pod with dnsPolicy Default gets: the cluster has no way out, so no server.
        "resolv.conf": "# There is nothing to resolve outside of the cluster.\n",
    }
    for name, text in settings.items():
        folders.write(folder / name, text)


def containerd(plan: Plan) -> list[str]:
    """Flags of containerd."""
    return [f"--config={plan.folder}/containerd.toml"]


def kubelet(plan: Plan, network: Network) -> list[str]:
    """Flags of kubelet."""
    return [
        f"--config={plan.folder}/kubelet.yaml",
        f"--kubeconfig={plan.folder}/kubeconfigs/kubelet",
        f"--hostname-override={plan.node_name}",
        f"--node-ip={network.node}",
    ]


def kube_proxy(plan: Plan) -> list[str]:
    """Flags of kube-proxy."""
    return [f"--config={plan.folder}/kube-proxy.yaml"]


def coredns(plan: Plan) -> list[str]:
    """Flags of CoreDNS."""
    return [f"-conf={plan.folder}/Corefile"]


def _pod_network(network: Network) -> dict[str, object]:
    """Give each pod a veth pair and a route, without a bridge.

    On a bridge, a reply between two pods passes by the node's address
    translation unless the kernel has br_netfilter: ClusterIPs would break.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": network.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "sundog",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(plan: Plan, network: Network, certificates: Certificates) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "address": network.node,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.group(plan.name),
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [network.node],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{plan.folder}/resolv.conf",
        "tlsCertFile": str(certificates.certificate("kubelet")),
        "tlsPrivateKeyFile": str(certificates.key("kubelet")),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "maxPods": 200,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        # Images come from archives and cannot be pulled again: never collect them.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "memory.available": "200Mi",
        },
    }


def _kube_proxy(plan: Plan, network: Network) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{plan.folder}/kubeconfigs/kube-proxy"},
        "hostnameOverride": plan.node_name,
        # Traffic from the host counts as foreign, so its replies come back through the node.
        "clusterCIDR": network.pods,
        "detectLocalMode": "ClusterCIDR",
        "bindAddress": network.node,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # Zero leaves the kernel's settings, which are the host's, alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def program_archive(program: Path, archive: Path, *, image: str) -> None:
    """Write an image that holds nothing but one static program, in the format of ``docker save``."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, mode="w") as tar:
        for name, written in (("config.json", config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(written)
            tar.addfile(entry, io.BytesIO(written))


def archive_identity(archive: Path) -> tuple[str, list[str]]:
    """Read an image archive's identity and the names of its images.

    Returns:
        A hash of the index, which names every blob by its digest, and the
        image names found in it (empty when the archive names none).
    """
    if not archive.is_file():
        raise ClusterError(f"There is no image archive {archive}.")
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                name = entry.name.removeprefix("./")
                if name in {"index.json", "manifest.json"} and (file := tar.extractfile(entry)):
                    found[name] = file.read()
    except tarfile.TarError as error:
        raise ClusterError(f"{archive} is no image archive: {error}.") from None
    names: list[str] = []
    if manifest := found.get("manifest.json"):
        names = [name for image in json.loads(manifest) for name in image.get("RepoTags") or ()]
    elif index := found.get("index.json"):
        for entry_ in json.loads(index).get("manifests", ()):
            annotations = entry_.get("annotations", {})
            name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
            names += [name] if name else []
    else:
        raise ClusterError(f"{archive} is no image archive: it holds neither index.json nor manifest.json.")
    return sha256(b"".join(found[name] for name in sorted(found))).hexdigest(), names
