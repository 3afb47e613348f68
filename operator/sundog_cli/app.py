"""The commands and their options. What they say comes from modules that know nothing of a command line."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer

from sundog_cli import bench as load
from sundog_cli import chat as talk
from sundog_cli import doctor as checks
from sundog_cli import explain as reasons
from sundog_cli import logs as lines
from sundog_cli import rendering, snapshot
from sundog_cli.cluster import Cluster, cluster, told
from sundog_cli.endpoint import reach
from sundog_cli.errors import Trouble
from sundog_cli.examination import OPERATOR, examine
from sundog_cli.figures import Answered, figures
from sundog_cli.manifests import as_yaml, make
from sundog_cli.manifests import load as load_file
from sundog_cli.options import URL, Component, Context, Engine, Everywhere, File, Form, Name, Namespace, Output, Tool
from sundog_cli.printing import print_differences, print_explanation, print_figures, print_findings
from sundog_cli.report import Report, report
from sundog_cli.terminal import console, show, tell, write
from sundog_cli.tree import trees
from sundog_operator.config import Config, ConfigError, from_environment
from sundog_operator.core.names import Manifest
from sundog_operator.kube.errors import KubeError
from sundog_operator.kube.resources import DEPLOYMENT

T = TypeVar("T")

NAME: Final = "kubectl sundog"
WRONG: Final = 1
"""Exit code where what was asked about is not as it should be."""
FAILED: Final = 2
"""Exit code where a command could not do what was asked for."""
INTERRUPTED: Final = 130

app = typer.Typer(
    name=NAME,
    help="Serve large language models on Kubernetes, see how they are, and why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        with told():
            return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def deploy(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="hf://org/name, or bare org/name, or pvc://claim/path.")
    ],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default after the model.")] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="GPUs of each replica: 1 by default, none for the fake engine."),
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=0, metavar="N", help="By default 1.")] = None,
    engine: Annotated[Engine, typer.Option(help="fake: no model, to try a cluster.")] = Engine.VLLM,
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An argument of the engine: max-model-len=8192. May be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the manifest, and apply nothing.")] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that someone else applied.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Show how it goes until it is ready.")] = False,
    timeout: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="With --wait.")] = 1800,
    output: Form = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Serve a model: write an LLMDeployment, and apply it.

    Exits with 1 where --wait ends before it is ready.
    """

    def manifest(where: str) -> Manifest:
        return make(
            model, name=name, namespace=where, engine=engine.value, gpus=gpus, replicas=replicas, arguments=arg or ()
        )

    async def work() -> bool:
        async with cluster(context=context, namespace=namespace) as found:
            wanted = manifest(found.namespace)
            made = await found.apply(wanted, force=force_conflicts)
            own = made["metadata"]["name"]
            if output:
                made["metadata"].pop("managedFields", None)
                write(made, output)
            else:
                console().print(f"llmdeployment.sundog.dev/{own} applied in namespace {found.namespace}")
            if wait:
                return await _wait(found, own, seconds=timeout)
            tell(f"Next: {NAME} status {own} --watch, then {NAME} chat {own}")
            return True

    if dry_run:
        made = manifest(namespace or "default")
        if namespace is None:
            del made["metadata"]["namespace"]  # the context's own, where it is applied
        write(made, output or Output.YAML)
    elif not _run(work()):
        raise typer.Exit(WRONG)


async def _wait(found: Cluster, name: str, *, seconds: float) -> bool:
    last: list[Manifest] = []

    async def read() -> list[Report]:
        last[:] = [await found.llm_deployment(name)]
        return [report(each, now=time.time()) for each in await snapshot.read(found, last)]

    def over(reports: list[Report]) -> bool:
        seen = last[0].get("status", {}).get("observedGeneration") == last[0]["metadata"]["generation"]
        return seen and (reports[0].ready == "True" or reports[0].stalled)

    (told,) = await show(read, console(beside=True), until=over, seconds=seconds)
    if told.ready == "True":
        tell(f"{name} is ready: {NAME} chat {name}")
        return True
    if not told.stalled:
        tell(f"{name} is not ready after {seconds:g} s, and goes on without being watched.")
    tell(f"{told.reason}: {told.message}\nWhat to do: {told.cure}")
    return False


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="By default all of the namespace.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date.")] = False,
    output: Form = None,
    context: Context = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
) -> None:
    """Show revisions, replicas, how far they are, why not ready, and the last decisions."""
    if name and everywhere:
        raise Trouble("A name and -A do not go together: a name is looked for in one namespace.")

    async def work() -> None:
        async with cluster(context=context, namespace=namespace) as found:

            async def read() -> list[Report]:
                listed = (
                    [await found.llm_deployment(name)] if name else await found.llm_deployments(everywhere=everywhere)
                )
                return [report(each, now=time.time()) for each in await snapshot.read(found, listed)]

            if watch:
                await show(read, console(), until=lambda _: False)
            reports = await read()
            if output:
                told = [each.as_json() for each in reports]
                write(told[0] if name else told, output)
            elif reports:
                console().print(trees(reports, now=time.time()))
            else:
                where = "" if everywhere else f" in namespace {found.namespace} (-A looks into all)"
                tell(f"There is no LLMDeployment{where}. To make one: {NAME} deploy Qwen/Qwen3-0.6B")

    if watch and output:
        raise Trouble("--watch and --output do not go together; for programs there is kubectl get llmdeploy --watch.")
    _run(work())


@app.command()
def explain(name: Name, *, output: Form = None, context: Context = None, namespace: Namespace = None) -> None:
    """Say why there are this many replicas, why this revision, and why it is not ready."""

    async def work() -> reasons.Explanation:
        async with cluster(context=context, namespace=namespace) as found:
            (seen,) = await snapshot.read(found, [await found.llm_deployment(name)])
            return reasons.explain(await snapshot.with_events(found, seen), now=time.time())

    told = _run(work())
    if output:
        write(told.as_json(), output)
    else:
        print_explanation(told)


@app.command()
def doctor(
    *,
    output: Form = None,
    context: Context = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAMESPACE", help="Whose LLMDeployments are looked at: by default all."
        ),
    ] = None,
) -> None:
    """Check the cluster, the operator and all LLMDeployments; each finding has its cure.

    Exits with 1 where something is wrong.
    """

    async def work() -> list[checks.Finding]:
        async with cluster(context=context, namespace=namespace) as found:
            return checks.findings(await examine(found, everywhere=namespace is None))

    found = _run(work())
    if output:
        write([finding.as_json() for finding in found], output)
    else:
        print_findings(found)
    if checks.something_is_wrong(found):
        raise typer.Exit(WRONG)


@app.command()
def chat(
    name: Name,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="One question; without it a conversation.")
    ] = None,
    *,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told first.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of each answer.")] = None,
    output: Form = None,
    url: URL = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Ask the model; the answer is written as it comes.

    With --output it is written when it is whole, with its tokens and its latencies in seconds.
    """
    wanted = talk.Conversation(name, prompt=prompt, system=system, max_tokens=max_tokens, url=url)
    if output:
        if prompt is None:
            raise Trouble("--output needs a PROMPT: it writes one answer. For a conversation leave it out.")
        write(_run(talk.ask(wanted, context=context, namespace=namespace)).as_json(), output)
        return
    try:
        with told():
            talk.converse(wanted, context=context, namespace=namespace)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def logs(
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, from new replicas too.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of containers before their last restart.")
    ] = False,
    tail: Annotated[int, typer.Option(min=0, metavar="LINES", help="Of each pod, at first.")] = 100,
    component: Annotated[Component, typer.Option(help="Whose log.")] = Component.WORKER,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="json: one object a line.")] = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show what the engines of all replicas write, in one stream."""
    if follow and previous:
        raise Trouble("--follow and --previous do not go together: what has ended writes no more.")
    out = sys.stdout

    def line(pod: str, text: str) -> None:
        if output:
            out.write(lines.as_json_line(pod, text))
        else:
            out.write(f"{pod} | {text}\n")
        if follow:
            out.flush()

    async def work() -> None:
        async with cluster(context=context, namespace=namespace) as found:
            await found.llm_deployment(name)
            wanted = lines.Wanted(component=component, follow=follow, previous=previous, lines=tail)
            await lines.write_logs(found, name, wanted, write=line, tell=tell)

    _run(work())


@app.command()
def render(file: File, *, output: Form = None, namespace: Namespace = None) -> None:
    """Show what the operator would create for a file, without a cluster.

    The operator's settings (SUNDOG_SERVING_IMAGE and others) are taken from the environment, as the operator
    does. Tokens, and the hashes in names that depend on them, are others in a cluster.
    """
    config = _config(dict(os.environ))
    made = [rendering.render(each, config, namespace=namespace or "default") for each in load_file(file)]
    manifests = [manifest for each in made for manifest in each.manifests]
    if output is Output.JSON:
        write({"apiVersion": "v1", "kind": "List", "items": manifests}, output)
    else:
        sys.stdout.write(as_yaml(*manifests))


@app.command()
def diff(file: File, *, output: Form = None, context: Context = None, namespace: Namespace = None) -> None:
    """Show what would change in the cluster if a file was applied, object by object.

    Exits with 1 where something would change.
    """

    async def work() -> list[tuple[str, list[rendering.Difference]]]:
        async with cluster(context=context, namespace=namespace) as found:
            config = await _operator_config(found)
            result = []
            for manifest in load_file(file):
                own = Cluster(
                    found.connection, found.client, namespace or manifest["metadata"].get("namespace", found.namespace)
                )
                result.append(await _compare(own, manifest, config))
            return result

    compared = _run(work())
    if output:
        told = [
            {"summary": summary, "objects": [{"kind": d.kind, "name": d.name, "change": d.change} for d in found]}
            for summary, found in compared
        ]
        write(told, output)
    else:
        for summary, found in compared:
            print_differences(summary, found)
    if any(found for _, found in compared):
        raise typer.Exit(WRONG)


async def _compare(found: Cluster, manifest: Manifest, config: Config) -> tuple[str, list[rendering.Difference]]:
    listed = {each["metadata"]["name"]: each for each in await found.llm_deployments(everywhere=False)}
    live = listed.get(manifest["metadata"]["name"])
    after = rendering.render(rendering.as_in_cluster(manifest, live), config, namespace=found.namespace)
    before = None if live is None else rendering.render(live, config, namespace=found.namespace)
    revisions = [] if live is None else live.get("status", {}).get("revisions", [])
    revision = next((str(each["hash"]) for each in revisions if each.get("current")), "")
    differences = rendering.compare(before, after, revision=revision)
    return rendering.headline(before, after, differences), differences


def _config(environment: dict[str, str]) -> Config:
    try:
        return from_environment(environment)
    except ConfigError as error:
        raise Trouble(f"{error}.") from None


async def _operator_config(found: Cluster) -> Config:
    try:
        operators = await found.items(DEPLOYMENT, namespace=None, labels=OPERATOR)
    except KubeError as error:
        if not error.forbidden:
            raise
        operators = []
    if not operators:
        tell("The operator's settings could not be read: images are shown as the chart has them by default.")
        return Config()
    return _config(rendering.operator_environment(operators[0]))


@app.command()
def bench(
    name: Name,
    *,
    rate: Annotated[float, typer.Option(min=0.01, metavar="N", help="Requests per second, at random moments.")] = 2.0,
    requests: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 60,
    prompt_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Of each prompt, about.")] = 256,
    output_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Of each answer, at most.")] = 128,
    tool: Annotated[
        Tool, typer.Option("--with", help="auto: guidellm or vllm where one is installed, else builtin.")
    ] = Tool.AUTO,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For guidellm and vllm: by default the model of the hub.")
    ] = None,
    output: Form = None,
    url: URL = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Send requests, and show latencies and a plot.

    Exits with 1 where a request was not answered.
    """
    wanted = load.Load(rate, requests, prompt_tokens, output_tokens)
    # Of a tool's own report no form can be promised.
    chosen = "builtin" if output and tool is Tool.AUTO else tool
    driven = load.installed() if chosen == Tool.AUTO else None if chosen == Tool.BUILTIN else str(chosen)

    async def work() -> int:
        async with cluster(context=context, namespace=namespace) as found:
            resource = await found.llm_deployment(name)
            async with reach(found, resource, url=url) as endpoint:
                tell(f"Reaching {name} {endpoint.via}.")
                if driven:
                    from_hub = resource["spec"]["model"]["uri"].removeprefix("hf://")
                    async with load.for_a_tool(endpoint) as address:
                        command = load.command(
                            driven, url=address, model=endpoint.model, tokenizer=tokenizer or from_hub, load=wanted
                        )
                        tell(f"Running: {' '.join(command)}")
                        return await load.drive(command)
                done: list[Answered] = []
                answered = await load.send(endpoint, wanted, on_answer=done.append)
        told = figures(answered)
        if output:
            write(told.as_json(), output)
        else:
            print_figures(told, answered)
        return WRONG if told.faults else 0

    if output and driven:
        raise Trouble(f"{driven} writes a report of its own: leave --output out, or use --with builtin.")
    if code := _run(work()):
        raise typer.Exit(code)
