"""The router's haproxy.cfg as a pure function of a few settings; it must never hold a secret or change with traffic.

Whatever replicas come and go, the configuration stays the same: HAProxy finds them by DNS and judges each by its own
health route, so no reload ever cuts a stream. Valid from HAProxy 2.6 (Debian 12) to 3.4; why a line is there stands
beside it in the file, for whoever opens the ConfigMap.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sundog_operator.core import names

SLOTS: Final = 320
"""Servers in the template: the 256 replicas that the CRD allows, and those that surge or drain meanwhile. A constant,
since a change of it would be a new configuration. An empty slot costs 12 KiB and no health check."""

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Largest announced body. Default: 64 MiB, an hour of compressed audio or a dozen photographs in base64."""

QUEUE_SECONDS: Final = 60
"""Longest wait for a place. Default: 60 s; clients and gateways in front often give up soon after."""

BUFFER_BYTES: Final = 64 * 1024
"""Requests up to this size, headers and all, are repeated on another replica when theirs ends unanswered; each request
without an answer holds one buffer of it. 64 KiB is a prompt of some 15,000 tokens."""

ROUTES: Final = {
    "GET": ("/v1/models", "/version"),
    "POST": (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/score",
        "/score",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/pooling",
        "/classify",
        "/tokenize",
        "/detokenize",
    ),
}
"""Routes of the engine that are for users. All others are for whoever runs it: they load adapters, put it to sleep,
reset its caches or call into its workers."""

ROUTE_PATTERNS: Final = {
    "GET": "^/v1/(models|responses)/[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
    "POST": "^/v1/responses/[A-Za-z0-9_][A-Za-z0-9_.:-]*/cancel$",
}
"""The same for routes that hold an identifier; without `%` and `/` in it, a path has one reading."""

_DNS_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"\*|(tcp@)?[0-9A-Fa-f.:\[\]]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """What the configuration of one router pod depends on. Counts of replicas are not in it."""

    replicas_host: str
    """Headless Service of all revisions' workers; in full, since HAProxy knows no search domains."""
    head_host: str
    """Headless Service of the head in charge; in full."""
    max_ongoing_per_replica: int
    """Requests that this router pod sends to one replica at a time."""
    max_queue: int
    """Requests that may wait in this router pod, or at zero replicas be held for it by the head."""
    request_timeout_seconds: int
    """Longest silence of a client or a replica, the wait for the first byte included. HAProxy knows no limit on the
    length of a whole stream: that one is the replica's to keep."""
    hard_stop_seconds: int
    """How long after SIGUSR1 the last streams are cut."""
    queue_timeout_seconds: int = QUEUE_SECONDS
    """Longest wait for a place; `request_timeout_seconds` where that is less."""
    suspended: bool = False
    """Refuse every request: none is to wait for a replica that is not to come."""
    replica_port: int = names.REPLICA_PORT
    head_port: int = names.HEAD_PROXY_PORT
    port: int = names.ROUTER_PORT
    metrics_port: int = names.ROUTER_METRICS_PORT
    listen_host: str = "*"
    """Address to listen on: `*` is every IPv4 address, `::` every IPv6 address."""
    nameservers: tuple[str, ...] = ()
    """DNS servers, `address:port` or `tcp@address:port`. Default: those of the pod's /etc/resolv.conf. TCP is for a
    cluster whose DNS cuts long UDP answers: one of 256 replicas has 4.2 KiB."""
    address_hold_seconds: int = 30
    """How long an address is kept that DNS no longer names. Default: 30 s, the usual cache of a cluster's DNS: its
    servers may contradict each other for so long, and a replica must not come and go with whom is asked."""
    max_replicas: int = SLOTS
    """Slots of the server template."""
    max_body_bytes: int = MAX_BODY_BYTES
    """Largest announced request body."""
    threads: int = 2
    """Threads of HAProxy. Default: 2; its own default is one for each CPU of the node."""

    def __post_init__(self) -> None:
        """Refuse what HAProxy would read as configuration.

        Raises:
            ValueError: a host is no DNS name, or an address no address.
        """
        for host in (self.replicas_host, self.head_host):
            if not _DNS_NAME.fullmatch(host):
                raise ValueError(f"{host!r} is no DNS name")
        for address in (self.listen_host, *self.nameservers):
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no address")

    @property
    def file_descriptors(self) -> int:
        """Upper bound, two for each connection: clients that are served, wait, are told to come back or are idle.

        It bounds memory where a container's limit is in the millions; where that limit is lower, HAProxy takes it.
        """
        connections = 16384 + 2 * self.max_queue + 32 * self.max_ongoing_per_replica
        return 2 * min(connections, 131072)


def router_config(router: RouterSettings) -> str:
    """Render haproxy.cfg.

    Args:
        router: settings of one router pod.

    Returns:
        The whole file. HAProxy reads the replica token from its environment when it starts.
    """
    return "\n".join(
        (_process(router), _resolvers(router), _defaults(router), _api(router), _replicas(router), _metrics(router))
    )


def _process(router: RouterSettings) -> str:
    return f"""\
.if streq("${{{names.REPLICA_TOKEN_VARIABLE}}}","")
    .alert "the environment variable {names.REPLICA_TOKEN_VARIABLE} is empty: without it every replica answers 403"
.endif
.if version_atleast(3.2)
.if version_before(3.2.2)
    .alert "HAProxy 3.2.0 and 3.2.1 hang when they repeat a request (haproxy/haproxy issue 2990): take 3.2.2 or newer"
.endif
.endif

global
    log stdout format raw daemon info
    nbthread {router.threads}
    # No maxconn: with one above the container's limit of open files HAProxy refuses to start. From this bound and
    # that limit it finds the greatest that fits.
    fd-hard-limit {router.file_descriptors}
    # A request that fits one buffer is repeated when its replica ends unanswered.
    tune.bufsize {BUFFER_BYTES}
    hard-stop-after {router.hard_stop_seconds}s
    set-var proc.started date
    set-var proc.last_busy date
    # By this the words about a time-out are chosen.
    set-var proc.head str(head)
"""


def _resolvers(router: RouterSettings) -> str:
    servers = [f"nameserver dns{i} {each}" for i, each in enumerate(router.nameservers)] or ["parse-resolv-conf"]
    return f"""\
resolvers cluster
{_lines(servers)}
    # 256 A records make 4.2 KiB; without this, DNS sends 512 bytes of them.
    accepted_payload_size 8192
    timeout resolve 2s
    timeout retry 1s
    # Health checks take a replica out, not DNS: while DNS is away or fails, the addresses last known are kept.
    hold timeout 24h
    hold refused 24h
    hold other 24h
    # An address that DNS no longer names may some day be another pod's.
    hold nx {router.address_hold_seconds}s
    hold obsolete {router.address_hold_seconds}s
"""


def _defaults(router: RouterSettings) -> str:
    timeout = router.request_timeout_seconds
    return f"""\
defaults
    mode http
    option http-no-delay
    option disable-h2-upgrade
    # A connection for each request: one that a draining replica closes is never just being used, and a request of any
    # size whose connection fails goes to another replica. It costs 0.2 ms.
    option http-server-close
    # A client that goes away frees its place, in the queue and in the engine.
    option abortonclose
    # One that vanishes without a word is noticed after a minute, and so is a node.
    option clitcpka
    clitcpka-idle 30s
    clitcpka-intvl 10s
    clitcpka-cnt 3
    option srvtcpka
    srvtcpka-idle 10s
    srvtcpka-intvl 5s
    srvtcpka-cnt 3
    timeout connect 2s
    timeout check 5s
    timeout queue {min(router.queue_timeout_seconds, timeout)}s
    timeout client {timeout}s
    timeout server {timeout}s
    timeout http-request 30s
    # Longer than the usual 60 s of gateways: whoever closes first must not be the one who does not know.
    timeout http-keep-alive 75s
"""


def _api(router: RouterSettings) -> str:
    limit = router.max_body_bytes
    not_found = _error(404, "unknown_route", "no such route; the routes for users are those of OpenAI below /v1")
    too_large = _error(413, "body_too_large", f"the body has more than {limit} bytes")
    none_up = _error(
        503,
        "no_replica",
        "no replica is up, and the head that would hold the request is not up either; try again later",
        retry_after="5",
    )
    queue_full = _error(
        429,
        "queue_full",
        f"all replicas are busy and {router.max_queue} requests wait already; try again later",
        retry_after=_SOON,
    )
    refused = _error(503, "suspended", "this model is suspended (spec.suspend of its LLMDeployment)", retry_after="60")
    # With a condition: what follows an unconditional end is a warning of HAProxy 2.6.
    all_refused = f"\n    http-request return {refused} if TRUE\n" if router.suspended else ""
    return f"""\
frontend api
    bind {router.listen_host}:{router.port}
    # One line for each 5xx, repeated request and broken connection; /metrics counts the rest. Neither a prompt nor a
    # header nor a query is in it.
    log global
    option dontlognull
    option dontlog-normal
    log-format '{_LOG}'
    # After SIGUSR1 a client on a kept connection still gets its next answer, with "Connection: close".
    option idle-close-on-response

    # Here and not in `defaults`, where HAProxy 3.0.0 frees the formats of headers twice.
{_lines(f"http-error {each}" for each in _own_errors(router.request_timeout_seconds))}

    http-request set-var(txn.path) path
    acl good_id req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._:-]{{1,128}}$
    http-request set-var(txn.id) req.fhdr(x-request-id) if good_id
    http-request set-var(txn.id) uuid() unless {{ var(txn.id) -m found }}
    http-after-response set-header x-request-id %[var(txn.id)]
{all_refused}
    # Asking for health must neither wait behind requests nor wake a model: the router answers.
    # A router that ends counts none of its servers, yet uses them.
    acl none_up nbsrv(replicas) eq 0
    acl ends stopping
    acl health path /health /ping
    http-request return status 200 if health !none_up or health ends
    http-request return {none_up} if health

    # The path as it came: whatever another reading of it could make of //, %2e or .. is not in the list.
{_lines(_route_rules())}
    http-request return {not_found} unless user_route
    http-request set-var(proc.last_busy) date
    http-request return {too_large} if {{ req.hdr_val(content-length) gt {limit} }}
    http-request return {none_up} if none_up !ends

    # A request that has arrived in whole, or fills a buffer, takes a place; a slow sender takes none.
    http-request wait-for-body time 30s
    acl no_place be_conn_free(replicas) le 0
    http-request return {queue_full} if {{ queue(replicas) ge {router.max_queue} }} no_place
    http-request return {queue_full} if {{ srv_conn(replicas/head) ge {max(1, router.max_queue)} }} no_place

    http-request set-header x-request-id %[var(txn.id)]
    http-request set-header {names.REPLICA_TOKEN_HEADER} "${{{names.REPLICA_TOKEN_VARIABLE}}}"
    # Ray Serve's and vLLM's own controls: a client could switch time-outs or the abort of what nobody reads off.
    http-request del-header x-request-timeout-seconds
    http-request del-header x-request-disconnect-disabled
    http-request del-header x-data-parallel-rank
    http-request del-header x-serve-router- -m beg
    http-request del-header serve_multiplexed_model_id
    http-request del-header serve-multiplexed-model-id
    # No WebSocket, and no HTTP/2 that Java's client offers by default.
    http-request del-header connection
    http-request del-header upgrade
    http-request del-header http2-settings
    default_backend replicas
"""


def _replicas(router: RouterSettings) -> str:
    replicas = f"{router.replicas_host}:{router.replica_port}"
    in_vain = "{ status 503 } !{ var(txn.answered) -m found } !{ srv_id -m found } !{ nbsrv(replicas) eq 0 }"
    held_in_vain = "{ status 504 } !{ var(txn.answered) -m found } { srv_name head }"
    starting = _error(
        503,
        "head_starting",
        "no replica is up, and the head does not hold requests yet; try again later",
        retry_after="5",
    )
    refused = _error(
        503, "replica_refused", "the replica does not know the token of this router; try again later", retry_after="1"
    )
    died = _error(503, "engine_died", "the engine died before it answered; try again later", retry_after="1")
    busy = _error(429, "queue_full", "all replicas are busy; try again later", retry_after=_SOON)
    return f"""\
backend replicas
    balance leastconn
    # A request of which nothing was answered goes to another replica: when its connection fails, when that ends
    # without one byte, when the address has become another deployment's, whose replicas answer 403 to this token, or
    # when its engine died, which is told with {names.GIVEN_BACK}. Not on a time-out, it would run twice; nor on 5xx,
    # that is an answer.
    retry-on conn-failure empty-response 403 {names.GIVEN_BACK}
    # A node may take 8 replicas with it, and each may cost one attempt.
    retries 8
    option redispatch 1

    # 200 while the replica serves, 503 as soon as it drains: Serve's own route, the same on replicas and head.
    option httpchk GET /-/healthz
    http-check expect status 200
    # Not quicker where a server is down: a pod that has gone leaves its address behind for a while, and to connect
    # where the kernel hears "unreachable" keeps a thread busy (Linux 6.18: EPOLLERR until the SYN is repeated).
    default-server check inter 1s fastinter 250ms downinter 2s fall 2 rise 1
    # Of replicas that die together, each costs one attempt, not all of a request's.
    default-server observe layer4 error-limit 1 on-error mark-down
    default-server resolvers cluster init-addr none resolve-prefer ipv4
.if version_atleast(3.1)
    # A new address takes requests after its first good check; older versions try it, and then another replica.
    default-server init-state down
.endif
    server-template replica 1-{router.max_replicas} {replicas} maxconn {router.max_ongoing_per_replica}
    # While no replica is up: the head's proxy holds requests until one is.
    server head {router.head_host}:{router.head_port} backup maxconn {max(1, router.max_queue)}

    # A wait in vain for a place is no fault of the server.
    http-response set-var(txn.answered) bool(true)
    http-after-response set-status 429 if {in_vain}
    # Nor is one at the head, which has no replica to send it to.
    http-after-response set-status 429 if {held_in_vain}
    # Serve's own refusals are plain text; the head says 404 or 500 before it knows the application.
    acl json res.hdr(content-type) -m beg application/json text/event-stream
    acl head srv_name head
    http-response return {refused} if {{ status 403 }}
    http-response return {died} if {{ status {names.GIVEN_BACK} }}
    http-response return {busy} if {{ status 429 }} !json
    http-response return {starting} if head !json {{ status 404 500 502 503 504 }}
"""


def _metrics(router: RouterSettings) -> str:
    return f"""\
frontend metrics
    bind {router.listen_host}:{router.metrics_port}
    # Ready as soon as there is a server to send to; after 10 s in any case, since a 503 that says why is better than
    # a refused connection.
    acl path_healthz path /healthz
    http-request return status 200 if path_healthz {{ nbsrv(replicas) gt 0 }}
    http-request return status 200 if path_healthz {{ date,sub(proc.started) ge 10 }}
    http-request return status 503 if path_healthz
    # What autoscaling counts: requests without their whole answer, and those of them that wait for a replica. A
    # request that the head holds waits. Scaling to zero asks how long there was none: since the last one came, or
    # since someone asked here while there was one.
    acl path_load path {names.LOAD_ROUTE}
    http-request set-var(proc.last_busy) date if path_load {{ be_conn(replicas) gt 0 }}
    http-request return status 200 content-type application/json lf-string '{_LOAD}' if path_load
    # Without the slots that are empty: they would make 17,000 series.
    acl path_metrics path /metrics
    http-request set-pathq {_SERIES} if path_metrics
    http-request use-service prometheus-exporter if path_metrics
    http-request return status 404
"""


_SOON = "%[rand(3),add(1)]"
"""1 to 3 s: clients that were refused together do not come back together."""

_LOAD = (
    '{"ongoing": %[be_conn(replicas)], "queued": %[queue(replicas)], "held": %[srv_conn(replicas/head)], '
    '"idle_seconds": %[date,sub(proc.last_busy)], "servers": %[nbsrv(replicas)]}'
)
_SERIES = "/metrics?no-maint&scope=global&scope=frontend&scope=backend&scope=server"
_LOG = (
    '{"time": "%[date,utime(%Y-%m-%dT%H:%M:%SZ)]", "client": "%ci", "id": "%[var(txn.id)]", "method": "%HM", '
    '"path": "%[var(txn.path),bytes(0,128),json(utf8s)]", "status": %ST, "ended": "%ts", "server": "%s", '
    '"retries": "%rc", "queue_ms": %Tw, "first_byte_ms": %Tr, "total_ms": %Ta, "bytes": %B}'
)


def _own_errors(timeout: int) -> tuple[str, ...]:
    """What HAProxy says when it is its own turn; `timeout` in seconds."""
    return (
        _error(400, "bad_request", "this is no valid HTTP request"),
        _error(408, "request_timeout", "the request did not arrive in whole within 30 s"),
        _error(500, "internal_error", "the router failed; send the request again", retry_after="1"),
        _error(
            502,
            "replica_failed",
            "the replica ended before it answered, and the request could not be repeated; send it again",
            retry_after="1",
        ),
        _error(
            503,
            "no_replica_available",
            "no replica took the request in time: all are busy or cannot be reached; try again later",
            retry_after=_SOON,
        ),
        # What is said of the head goes out as 429: the backend sets that, for HAProxy's own status is always 504.
        _error(
            504,
            _silent("timeout", held="no_replica_available"),
            _silent(
                f"no replica sent anything for {timeout} s; ask for less or stream",
                held=f"no replica came up and answered within {timeout} s; try again later",
            ),
            retry_after=_SOON,
        ),
    )


def _silent(replica: str, *, held: str) -> str:
    """Words about the silence of a replica, or of the head that holds a request; HAProxy picks by the server's name.

    Without a comma: it would end them.
    """
    return f"%[srv_name,strcmp(proc.head),bool,iif({replica},{held})]"


def _route_rules() -> list[str]:
    """ACL lines, a few paths each: HAProxy takes at most 64 words in a line."""
    lines = []
    for method, routes in ROUTES.items():
        acl = f"acl {method.lower()}_path"
        lines += [f"{acl} path {' '.join(routes[at : at + 6])}" for at in range(0, len(routes), 6)]
        lines.append(f"{acl} path_reg {ROUTE_PATTERNS[method]}")
    lines += [f"http-request set-var(txn.user_route) bool(true) if {{ method {m} }} {m.lower()}_path" for m in ROUTES]
    return [*lines, "acl user_route var(txn.user_route) -m bool"]


def _error(status: int, code: str, message: str, *, retry_after: str | None = None) -> str:
    """Arguments of `http-request return` and `http-error`: an error as OpenAI and Anthropic clients read it."""
    kind = {404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "api_error"
    )
    body = {"type": "error", "error": {"message": message, "type": kind, "param": None, "code": code}}
    header = "" if retry_after is None else f" hdr retry-after {retry_after}"
    form = "lf-string" if "%[" in message else "string"
    return f"status {status} content-type application/json {form} '{json.dumps(body)}'{header}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
