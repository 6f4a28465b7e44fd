"""Every command, option, path, port, variable and extra that docker/ names exists in the project."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from compose_file import ROOT, document, interpolated, services

from flows.cli import main

DOCKER = ROOT / "docker"
IMAGE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
SECRETS = (DOCKER / "with_secrets.sh").read_text(encoding="utf-8")
COMPOSE = document()
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service["image"].startswith("captionmill:")
}
THEIRS = {"postgres": {5432}, "storage": {8333}}
FORMATTER = "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER"
BY_COMMAND: dict[str, list[list[str]]] = {}
for _service in services().values():
    if _service.name in OURS:
        BY_COMMAND.setdefault(_service.command[0], []).append(list(_service.command[1:]))


def instructions(name: str) -> list[str]:
    """What stands behind an instruction of the Dockerfile, continued lines joined."""
    joined = IMAGE.replace("\\\n", " ")
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(name + " ")
    ]


def options(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("-")]


def test_the_commands_are_the_program_prefect_and_mlflow() -> None:
    assert set(BY_COMMAND) == {"captionmill", "prefect", "mlflow"}


def test_captionmill_knows_its_commands_and_options() -> None:
    entry = json.loads(instructions("CMD")[-1])
    assert entry == ["captionmill", "--help"]
    for first, *rest in BY_COMMAND["captionmill"]:
        command = main.commands.get(first)
        assert command is not None, f"captionmill has no command {first}"
        known = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
        assert set(options(rest)) <= known


def test_prefect_and_mlflow_know_their_commands_and_options() -> None:
    asked = []
    for program in ("prefect", "mlflow"):
        for words in BY_COMMAND[program]:
            first = next(i for i, word in enumerate(words) if word.startswith("-"))
            asked.append((program, tuple(words[:first]), frozenset(options(words[first:]))))

    def help_of(subject: tuple[str, tuple[str, ...], frozenset[str]]) -> str:
        program, command, _ = subject
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *command, "--help"],
            env={**os.environ, "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    subjects = sorted(set(asked), key=str)
    with ThreadPoolExecutor() as pool:
        for (program, command, given), text in zip(
            subjects, pool.map(help_of, subjects), strict=True
        ):
            known = set(re.findall(r"--[a-z][a-z-]*", text))
            assert given <= known, f"{program} {' '.join(command)}: {given - known}"


def test_every_variable_of_prefect_and_mlflow_is_one_they_read() -> None:
    import mlflow.environment_variables
    from mlflow.cli import server
    from prefect.settings.legacy import _env_var_to_accessor

    mlflow_names = set(vars(mlflow.environment_variables))
    mlflow_names |= {str(p.envvar) for p in server.params if p.envvar}
    for name, service in services().items():
        for variable in service.environment:
            if variable.startswith("PREFECT_"):
                _env_var_to_accessor(variable.removesuffix("_FILE"))  # raises where there is none
            if variable.startswith("MLFLOW_"):
                assert variable.removesuffix("_FILE") in mlflow_names, f"{name}: {variable}"


def test_secrets_are_declared_and_come_from_the_environment() -> None:
    declared = COMPOSE["secrets"]
    for name, service in COMPOSE["services"].items():
        files = {
            key: value
            for key, value in service.get("environment", {}).items()
            if key.endswith("_FILE")
        }
        read = {value.removeprefix("/run/secrets/") for value in files.values()}
        assert read == set(service.get("secrets", [])) <= set(declared), name
        if name != "postgres":  # its image reads POSTGRES_PASSWORD_FILE itself
            for key in set(files) - options_variables():
                assert re.search(rf"^  {key.removesuffix('_FILE')}( \\)?$", SECRETS, re.M), key
    example = assignments()
    for source in declared.values():
        assert example[source["environment"]] == "", "a secret in env.example"
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY(_ID)?): ", text)
    assert not re.search(r"://[^/@\s]+:[^/@\s]+@", text), "a password in an address"


def options_variables() -> set[str]:
    """The variables that options of captionmill's commands are read from."""
    options = (option for command in main.commands.values() for option in command.params)
    return {str(option.envvar) for option in options if option.envvar}


def assignments() -> dict[str, str]:
    lines = (DOCKER / "env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_env_example_names_all_variables_and_their_defaults() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert len(re.findall(r"\$\{", text)) == len(re.findall(r"\$\{\w+:-", text))
    secrets = {source["environment"] for source in COMPOSE["secrets"].values()}
    assert assignments() == {**used, **dict.fromkeys(secrets, "")}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/.env" in ignored
    assert "docker/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def listens(name: str) -> set[int]:
    """The ports that a service's process listens on, by its command and its health check."""
    if name in THEIRS:
        return THEIRS[name]
    service = services()[name]
    words = " ".join(service.command)
    ports = {int(port) for port in re.findall(r"--port[= ](\d+)", words)}
    if "--with-healthcheck" in words:
        ports.add(int(service.environment["PREFECT_WORKER_WEBSERVER_PORT"]))
    return ports


def test_ports_are_those_that_something_listens_on() -> None:
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", []):
            host, ours, inside = interpolated(port, {}).rsplit(":", 2)
            assert host == "127.0.0.1", f"{name} is published beyond loopback"
            assert int(inside) in listens(name)
            assert int(ours) == int(inside), "the same number on both sides by default"
        for key, value in services()[name].environment.items():
            for host, number in re.findall(r"(?:@|//)([\w.-]+):(\d+)", value):
                there = name if host == "127.0.0.1" else host
                if host == "localhost":  # the browser's
                    assert key == "PREFECT_UI_API_URL"
                    there = "prefect"
                assert int(number) in listens(there), f"{name}: {key}={value}"
                if there != name and key != "PREFECT_UI_API_URL":
                    assert there in needed(name), f"{name} calls {there}, and does not wait for it"


def needed(name: str) -> set[str]:
    """What is started before a service."""
    found: set[str] = set()
    for other in services()[name].needs:
        found |= {other} | needed(other)
    return found


def test_what_is_waited_for_has_a_health_check() -> None:
    checked = {"healthcheck" in service for service in COMPOSE["services"].values()}
    assert checked == {True, False}
    for name in COMPOSE["services"]:
        for other, condition in services()[name].needs.items():
            service = COMPOSE["services"][other]
            if condition == "service_healthy":
                assert "healthcheck" in service or "HEALTH_URL" in service["environment"]
            else:
                assert condition == "service_completed_successfully"
                assert service["restart"] == "no"


def test_mlflow_takes_requests_by_the_name_that_workers_use() -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    words = services()["mlflow"].command
    (allowed,) = (w.partition("=")[2].split(",") for w in words if w.startswith("--allowed-hosts="))
    tracking = services()["worker-cpu"].environment["MLFLOW_TRACKING_URI"]
    assert is_allowed_host_header(allowed, urlsplit(tracking).netloc)
    assert is_allowed_host_header(allowed, "localhost:5001")
    assert not is_allowed_host_header(allowed, "elsewhere.example.org")
    more = services({"MLFLOW_ALLOWED_HOSTS": ",mlflow.example.org"})["mlflow"].command
    assert any(word.endswith(",mlflow.example.org") for word in more)


def test_buckets_volumes_and_mounted_files_exist() -> None:
    buckets = COMPOSE["services"]["storage"]["environment"]["S3_BUCKET"].split(",")
    words = " ".join(services()["mlflow"].command)
    assert set(re.findall(r"s3://(\w+)", words)) <= set(buckets)
    volumes = set()
    for service in COMPOSE["services"].values():
        for mount in service.get("volumes", []):
            source, target = interpolated(mount, {}).split(":")[:2]
            assert target.startswith("/")
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
            else:
                volumes.add(source)
    assert volumes == set(COMPOSE["volumes"])


def test_the_dockerfile_copies_what_is_there_and_installs_extras_that_exist() -> None:
    for copied in instructions("COPY"):
        words = [word for word in shlex.split(copied) if not word.startswith("--")]
        if "--from=" in copied:
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", IMAGE)
    declared = project["optional-dependencies"]
    assert set(extras.split(",")) <= set(declared)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for extra in extras.split(","):
        for requirement in declared[extra]:
            package = re.match(r"[\w.-]+", requirement)
            assert package is not None
            assert re.search(rf"^{package[0]}==", lock, re.M), f"{package[0]} is not in the lock"
    assert "--constraint requirements.lock" in " ".join(instructions("RUN"))


def test_targets_user_and_paths_of_the_image() -> None:
    stages = [line.split()[-1] for line in instructions("FROM")]
    assert stages == ["build", "cpu", "gpu"]
    for service in OURS.values():
        assert service["build"]["target"] in stages
        assert service["image"] == f"captionmill:{service['build']['target']}"
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert instructions("USER") == ["captionmill"]
    (base,) = instructions("ARG")
    assert re.fullmatch(r"PYTHON=\d+\.\d+\.\d+-slim-\w+", base), "pinned to a patch release"
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    check = json.loads(instructions("HEALTHCHECK")[0].split("CMD", 1)[1])
    for path in (entry[-1], check[-1]):
        assert Path(path).parent == Path("/opt/captionmill/docker")
        assert f"docker/{Path(path).name} " in " ".join(instructions("COPY")) + " "
    (volumes,) = map(json.loads, instructions("VOLUME"))
    assert instructions("WORKDIR")[-1] in volumes
    environment = " ".join(instructions("ENV"))
    for cache in ("TORCH_HOME", "HF_HOME"):
        assert re.search(rf"{cache}=/weights/", environment)
    assert {"/srv/captionmill", "/weights"} == set(volumes)


def test_images_of_others_are_pinned() -> None:
    for name, service in COMPOSE["services"].items():
        if name not in OURS:
            assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"]), service["image"]


def test_secrets_reach_the_command_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("captionmill:a secret $HOME `x`\n")
    done = subprocess.run(
        ["/bin/sh", str(DOCKER / "with_secrets.sh"), "env"],
        env={
            "PATH": os.environ["PATH"],
            "PREFECT_API_AUTH_STRING_FILE": str(tmp_path / "auth"),
            "SSL_CERT_FILE": "kept",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert "PREFECT_API_AUTH_STRING=captionmill:a secret $HOME `x`" in lines
    assert "SSL_CERT_FILE=kept" in lines
    assert not any(line.startswith("PREFECT_API_AUTH_STRING_FILE") for line in lines)


@pytest.mark.parametrize("name", ["PGPASSWORD", "PREFECT_SERVER_API_AUTH_STRING"])
@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_that_is_missing_or_empty_stops_the_container(
    tmp_path: Path, name: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    done = subprocess.run(
        ["/bin/sh", str(DOCKER / "with_secrets.sh"), "echo", "started"],
        env={"PATH": os.environ["PATH"], f"{name}_FILE": str(tmp_path / "secret")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{name}: {tmp_path / 'secret'} is empty or not there" in done.stderr
    assert "started" not in done.stdout


@pytest.mark.parametrize(("content", "kept"), [(None, False), ("", False), ("http://x", True)])
def test_a_webhook_may_be_left_empty(tmp_path: Path, content: str | None, kept: bool) -> None:
    """Compose makes no file of an empty secret; `deploy` reads the file that it is told of."""
    if content is not None:
        (tmp_path / "url").write_text(content)
    done = subprocess.run(
        ["/bin/sh", str(DOCKER / "with_secrets.sh"), "env"],
        env={"PATH": os.environ["PATH"], "CAPTIONMILL_WEBHOOK_URL_FILE": str(tmp_path / "url")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("CAPTIONMILL_WEBHOOK_URL_FILE=" in done.stdout) is kept


def test_who_reads_settings_sees_the_checkouts_and_speaks_as_it_was_asked_to() -> None:
    readers = 0
    for name, service in OURS.items():
        words = services()[name].command
        speaks = words[0] == "captionmill" or words[:2] == ("prefect", "worker")
        assert ("CAPTIONMILL_LOG" in service.get("environment", {})) is speaks, name
        assert (FORMATTER in service.get("environment", {})) is speaks, name
        if speaks and words[1] != "watch":
            readers += 1
            assert "../configs:/srv/captionmill/configs:ro" in service["volumes"], name
    assert readers == 4


def test_prefects_own_lines_can_be_json() -> None:
    imports = "import prefect.main; from prefect.logging import get_logger"
    say = f"{imports}; get_logger('worker').info('begun')"
    done = subprocess.run(
        [sys.executable, "-c", say],
        env={**os.environ, FORMATTER: "json"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr)["msg"] == "begun"


def test_a_command_that_is_no_first_process_ends_by_sigterm() -> None:
    assert all(service["init"] is True for service in OURS.values())


def test_the_pages_enter_no_container_past_its_secrets() -> None:
    """`exec` skips the entry point, so that a command of ours would have no login."""
    entered = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        entered |= set(re.findall(r"(?:stack|compose[^`\n]*?) exec (?:-\S+ )*([\w-]+)", text))
    assert entered == {"postgres"}


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://127.0.0.1:1/"])
def test_a_container_that_does_not_answer_is_unhealthy(url: str) -> None:
    check = [sys.executable, str(DOCKER / "healthy.py")]
    done = subprocess.run(
        check, env={**os.environ, "HEALTH_URL": url}, capture_output=True, check=False
    )
    assert done.returncode == 1
