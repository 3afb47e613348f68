"""Command lines of the control plane: values in, values out."""

from .certificates import Certificates, Identity
from .plan import Level, Plan

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def identities(plan: Plan) -> list[Identity]:
    """List whom the cluster needs certificates for."""
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ]
    addresses = ["127.0.0.1", plan.api_address]
    if plan.network:
        addresses.append(plan.network.kubernetes_service)
    server = tuple([f"DNS:{name}" for name in names] + [f"IP:{address}" for address in dict.fromkeys(addresses)])
    made = [
        Identity("apiserver", user="kube-apiserver", names=server),
        Identity("admin", user="kubernetes-admin", groups=("system:masters",)),
        Identity("apiserver-kubelet-client", user="kube-apiserver-kubelet-client", groups=("system:masters",)),
        Identity("kube-controller-manager", user="system:kube-controller-manager"),
        Identity("kube-scheduler", user="system:kube-scheduler"),
        Identity("front-proxy-client", user="front-proxy-client", authority="front-proxy-ca"),
    ]
    if plan.network:
        node = (f"DNS:{plan.node_name}", f"IP:{plan.network.node}")
        made += [
            Identity("kubelet", user=f"system:node:{plan.node_name}", groups=("system:nodes",), names=node),
            Identity("kube-proxy", user="system:kube-proxy"),
        ]
    return made


def etcd(plan: Plan) -> list[str]:
    """Flags of etcd. It forgets nothing at a crash of the process, only at one of the machine: no fsync."""
    client = f"http://127.0.0.1:{plan.etcd_port}"
    peer = f"http://127.0.0.1:{plan.etcd_peer_port}"
    return [
        f"--data-dir={plan.folder}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def kube_apiserver(plan: Plan, certificates: Certificates) -> list[str]:
    """Flags of the API server, those of the aggregation layer included."""
    crt, key = certificates.certificate, certificates.key
    if plan.level is Level.NODE:
        # Pods are reachable, so an APIService may name a Service of pods.
        reach = [f"--advertise-address={plan.api_address}", "--enable-aggregator-routing=true"]
    else:
        # Endpoints may not be loopback addresses, but a Service of type ExternalName may
        # say "localhost", and that is followed only without aggregator routing.
        reach = ["--endpoint-reconciler-type=none", "--enable-aggregator-routing=false"]
    return [
        f"--etcd-servers=http://127.0.0.1:{plan.etcd_port}",
        f"--bind-address={plan.api_address}",
        f"--secure-port={plan.api_port}",
        *reach,
        f"--service-cluster-ip-range={plan.network.services if plan.network else '10.96.0.0/16'}",
        f"--tls-cert-file={crt('apiserver')}",
        f"--tls-private-key-file={key('apiserver')}",
        f"--client-ca-file={crt('ca')}",
        f"--service-account-key-file={certificates.public_key}",
        f"--service-account-signing-key-file={key('service-account')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={crt('apiserver-kubelet-client')}",
        f"--kubelet-client-key={key('apiserver-kubelet-client')}",
        f"--kubelet-certificate-authority={crt('ca')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={crt('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={crt('front-proxy-client')}",
        f"--proxy-client-key-file={key('front-proxy-client')}",
    ]


def kube_controller_manager(plan: Plan, certificates: Certificates) -> list[str]:
    """Flags of the controller manager."""
    config = f"{plan.folder}/kubeconfigs/kube-controller-manager"
    return [
        f"--kubeconfig={config}",
        "--secure-port=0",  # nobody asks it, and two clusters would want the same port
        f"--service-account-private-key-file={certificates.key('service-account')}",
        f"--root-ca-file={certificates.certificate('ca')}",
        f"--cluster-signing-cert-file={certificates.certificate('ca')}",
        f"--cluster-signing-key-file={certificates.key('ca')}",
        "--use-service-account-credentials=true",
        # The default of 15 s makes every test of scaling three times as long.
        "--horizontal-pod-autoscaler-sync-period=5s",
        # The defaults (20, 30) throttle what a test with hundreds of pods does.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--leader-elect=false",
    ]


def kube_scheduler(plan: Plan) -> list[str]:
    """Flags of the scheduler."""
    config = f"{plan.folder}/kubeconfigs/kube-scheduler"
    return [
        f"--kubeconfig={config}",
        "--secure-port=0",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--leader-elect=false",
    ]


def kwok(plan: Plan) -> list[str]:
    """Flags of KWOK: it plays the kubelet of annotated nodes only, never of a real one."""
    return [
        f"--kubeconfig={plan.kubeconfig}",
        f"--config={plan.folder}/kwok-stages.yaml",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        "--cidr=10.64.0.0/10",  # addresses nobody reaches
        "--node-ip=10.0.0.1",
    ]
