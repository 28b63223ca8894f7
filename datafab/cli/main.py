"""The command line: ``datafab VERB`` or ``datafab NOUN VERB``.

Exit codes: 0 done, 1 not done, 2 usage, 3 done with failed items.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import redis

from datafab import api, log
from datafab.cli import analyse as cli_analyse
from datafab.cli import archive as cli_archive
from datafab.cli import catalogue as cli_catalogue
from datafab.cli import check_url as cli_check_url
from datafab.cli import collection as cli_collection
from datafab.cli import doctor as cli_doctor
from datafab.cli import flows as cli_flows
from datafab.cli import index as cli_index
from datafab.cli import output
from datafab.cli import publish as cli_publish
from datafab.cli import push as cli_push
from datafab.cli import sandbox as cli_sandbox
from datafab.cli import search as cli_search
from datafab.cli import store as cli_store
from datafab.cli import token as cli_token
from datafab.cli.run_job import SOME_FAILED, as_json_option, inline_option, run
from datafab.core.job import JobStatus
from datafab.core.redis_refusals import RedisRefuses, explain
from datafab.embedded import ALL, Cluster, flower_login
from datafab.errors import DatafabError
from datafab.flows.registry import flows
from datafab.settings import load
from datafab.version import __version__
from workers import app

NOT_DONE = 1


class Group(click.Group):
    """Turns errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DatafabError as error:
            output.print_error(error.message)
        except RedisRefuses as error:
            output.print_error(f"{error}; see `datafab doctor`")
        except redis.exceptions.RedisError as error:
            output.print_error(
                f"Redis does not answer: {explain(error, app.settings())}; is the cluster of DATAFAB_REDIS_URL running?"
            )
        return ctx.exit(NOT_DONE)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Collect, analyse and index open data on one Celery cluster."""
    log.configure("WARNING")


@main.command("demo")
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
def demo_command(keep: bool) -> None:
    """Run the main job on sample files, on a separate cluster."""
    from datafab.cli import demo  # noqa: PLC0415 - it takes a quarter of a second, which other commands save

    demo.run(keep=keep)


@main.command()
@click.option("--bind", metavar="HOST:PORT", help="Address of the webhook, instead of DATAFAB_BIND.")
def up(bind: str | None) -> None:
    """Run a cluster on this host: Redis, MQTT broker, workers, beat, webhook and Flower.

    Other hosts can connect if the webhook's address is not a loopback one. Create a token for them first: `datafab
    token create`.
    """
    flows()  # report errors in datafab.toml here instead of in a worker's log
    settings = load() if bind is None else load(bind=bind)
    cli_token.check_bind(settings)
    with output.follow_start() as on_state:
        here = Cluster(settings, ALL, on_state=on_state)
        here.start()
    settings = here.settings
    lines = {"webhook": f"http://{settings.bind}/ready", "flower": f"http://{settings.flower_bind}"}
    if "broker" in here.pids:
        lines["mqtt"] = str(settings.mqtt_url)
    lines |= {"home": str(settings.home), "login": f"{flower_login(settings.home)} (user:password of Flower)"}
    for name, where in lines.items():
        output.stdout.print(f"{name:<9}{where}", highlight=False, soft_wrap=True, markup=False)
    output.stdout.print("Ctrl-C stops it")
    here.serve_forever()


#: boolean parameters of the flow `collect`
FLAGS = ("refill_todays_logs", "retry_failed", "conditional", "adaptive", "as_served", "log_facts", "save_csv")


@main.command(cls=cli_collection.Collect)
@click.argument("endpoints", default="collection/endpoint.csv")
@click.option("--collection-dir", help="Folder or URL for resource/ and log/; default: the folder of ENDPOINTS.")
@click.option(
    cli_collection.REFILL,
    type=bool,
    default=False,
    metavar="[=true|false]",
    help="Fetch endpoints again that have a log of today.",
)
@click.option("--retry-failed", is_flag=True, help="Fetch endpoints again that failed today.")
@click.option("--conditional", is_flag=True, help="Send conditional requests: servers return only what has changed.")
@click.option("--adaptive", is_flag=True, help="Check endpoints less often that seldom change.")
@click.option("--as-served", is_flag=True, help="Keep errors and parts that services send with status 200, too.")
@click.option("--log-facts", is_flag=True, help="Log bytes, reason and message too, unlike the original.")
@click.option("--save-csv", is_flag=True, help="Update the collection's log.csv and resource.csv afterwards.")
@click.option("--then", default=None, help="Stages after the fetch, e.g. analyse,index (default) or none.")
@inline_option
@click.option("--exit-zero", is_flag=True, help="Exit with 0 even if endpoints failed.")
@as_json_option
def collect(endpoints: str, collection_dir: str | None, then: str | None, inline: bool, **options: bool) -> None:
    """Fetch every endpoint of ENDPOINTS (an endpoint.csv), then analyse and index the files."""
    params: dict[str, Any] = {"endpoints": endpoints, "collection": collection_dir or str(Path(endpoints).parent)}
    params |= {name: True for name in FLAGS if options[name]}
    if then is not None:
        params["then"] = _stages(then)
    ended = run(
        "collect", params, inline=inline, follow_up_seconds=cli_collection.SAVE_SECONDS if options["save_csv"] else 0
    )
    ended.report(as_json=options["as_json"])
    if options["save_csv"] and not load().url:
        cli_collection.check_saved(params["collection"], ended, inline=inline)
    if not options["exit_zero"]:
        ended.exit()


@main.command()
@click.argument("flow", callback=lambda _ctx, _param, name: _flow(name))
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter, as JSON or plain text."
)
@click.option("--then", help="Last stages, instead of the flow's own, e.g. index,push or none.")
@click.option("--key", help="If a job with this key exists, return it instead of a new one.")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
def enqueue(flow: str, params: tuple[str, ...], then: str | None, key: str | None, wait: bool) -> None:
    """Enqueue a job of FLOW on the cluster and print it."""
    given = dict(_param(text) for text in params) | ({} if then is None else {"then": _stages(then)})
    handle = api.enqueue(flow, key=key, **given)
    job = handle.wait_for_end() if wait else handle.job
    output.print_json_lines([job])
    if wait and job.counts and job.counts.failed:
        click.get_current_context().exit(SOME_FAILED)


@main.group()
def jobs() -> None:
    """Show, retry and cancel jobs."""


@jobs.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]))
@click.option("--flow")
@click.option("--caller", help="Name of the token by which they were enqueued.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json_option
def jobs_list(status: str | None, flow: str | None, caller: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    wanted = JobStatus(status) if status else None
    found = api.cluster().newest(status=wanted, flow=flow, caller=caller, limit=limit)
    if as_json:
        output.print_json_lines(found)
    else:
        output.print_jobs(found)


@jobs.command("show")
@click.argument("job")
@as_json_option
def jobs_show(job: str, as_json: bool) -> None:
    """Show a job with its stages, failures and log."""
    handle = api.JobHandle(job)
    if as_json:
        failures = {source: error.dump() for source, error in handle.failures.items()}
        output.print_json_lines([handle.job.dump() | {"failures": failures, "log": handle.logs}])
    else:
        output.print_job(handle.job, handle.failures, handle.logs)


@jobs.command("retry")
@click.argument("job")
def jobs_retry(job: str) -> None:
    """Run an ended job again: a parked one from where it stopped, any other as a new job."""
    output.print_json_lines([api.JobHandle(job).retry().job])


@jobs.command("cancel")
@click.argument("job")
def jobs_cancel(job: str) -> None:
    """Cancel a job: running tasks end within seconds, waiting ones are dropped, and stored results are kept.

    Jobs that follow it run, such as the one that gives a CKAN resource its former table back.
    """
    handle = api.JobHandle(job)
    done = handle.cancel()
    output.print_json_lines([handle.job])
    if not done:
        output.print_error(f"job {job} had ended already ({handle.job.status.value}): nothing was cancelled")
        click.get_current_context().exit(NOT_DONE)


@jobs.command("prune")
def jobs_prune() -> None:
    """Delete jobs that are older than DATAFAB_RETENTION_DAYS."""
    api.connect()
    output.stdout.print(f"{app.jobs().prune()} deleted")


main.add_command(cli_push.push)
main.add_command(cli_archive.archive)
main.add_command(cli_catalogue.catalogue)
main.add_command(cli_analyse.analyse)
main.add_command(cli_check_url.check_url)
main.add_command(cli_collection.collection)
main.add_command(cli_doctor.doctor)
main.add_command(cli_flows.flows)
main.add_command(cli_index.index)
main.add_command(cli_sandbox.sandbox)
main.add_command(cli_search.search)
main.add_command(cli_store.store)
main.add_command(cli_token.token)
main.add_command(cli_publish.publish)
main.add_command(cli_publish.wis2)


def _flow(name: str) -> str:
    if not load().url and name not in flows():  # over HTTP, the cluster may have flows of its own
        raise click.BadParameter(f"{name!r} is not one of {', '.join(sorted(flows()))}")
    return name


def _stages(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def _param(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
