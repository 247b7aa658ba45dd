"""What is said in two places is the same: settings, schema, tables, versions."""

import json
import re
import shlex
from collections.abc import Iterator

import jsonschema
import yaml

from .chart import CHART, HELM, HELMS, KUBERNETES, LOADER, REPOSITORY, config_of, of_kind, rendered, template
from .generator import entries, generate

# Settings that the schema takes before deploy/clarion.yaml has them: their names are fixed, and versions of the gateway
# with them are on their way. It may have them already.
AHEAD = re.compile(r"broker\.redis\.(sentinel|cluster|cluster_partitions)")

SETTINGS = REPOSITORY / "deploy" / "clarion.yaml"


def checks() -> Iterator[tuple[str, str]]:
    for file, text in generate.generated().items():
        yield f"{file.name} is as helm/generate.py writes it", "" if file.read_text() == text else "run helm/generate.py"
    yield from settings()
    yield from whole_file()
    yield from values()
    yield from metadata()
    yield from readme()


def keys(schema: dict, root: dict, at: str = "") -> Iterator[str]:
    """The paths of all settings in a schema; of lists without those of their entries."""
    if "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rsplit("/", 1)[-1]]
    for key, below in schema.get("properties", {}).items():
        path = f"{at}.{key}" if at else key
        yield path
        yield from keys(below, root, path)


def settings() -> Iterator[tuple[str, str]]:
    """The settings of the gateway and those of the schema."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = set(keys(schema["properties"]["config"], schema))
    there = {".".join(entry.path) for entry in entries(SETTINGS.read_text())}
    for path in sorted(there):
        yield f"config.{path} is in values.schema.json", "" if path in known else "add it"
    gone = [path for path in sorted(known - there) if not AHEAD.match(path)]
    yield "values.schema.json has no setting that there is not", ", ".join(gone)
    options, namespace = schema["definitions"]["channelOptions"], schema["definitions"]["namespace"]
    differing = set(namespace["properties"]) ^ set(options["properties"]) ^ {"name"}
    yield "namespaces have the options of channels without one", ", ".join(differing)


def without_nulls(tree: object) -> object:
    if not isinstance(tree, dict):
        return tree
    return {key: without_nulls(value) for key, value in tree.items() if value is not None}


def whole_file() -> Iterator[tuple[str, str]]:
    """deploy/clarion.yaml, given as `config`, is what nodes read, but for what the chart says itself."""
    given = yaml.load(SETTINGS.read_text(), LOADER)
    del given["internal"]["address"], given["node"]
    docs = rendered({"config": given, "secrets": {"generate": False}})
    expected = without_nulls(given)
    expected["internal"]["address"] = "0.0.0.0"
    got = config_of(docs)
    for section in ("client", "channel", "broker", "drain", "internal", "public", "api"):
        if section == "client":
            for token in ("token", "subscription_token"):
                # An empty list of secrets is none.
                expected[section][token].pop("hmac_previous_secret_keys")
        yield f"{section} arrives as it was given", "" if got[section] == expected[section] else f"{got[section]} is not {expected[section]}"
    drain = given["drain"]
    seconds = sum(int(re.fullmatch(r"(\d+)s", drain[key])[1]) for key in ("delay", "window")) + 10
    grace = of_kind(rendered({}), "Deployment")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    yield "the grace without values is that of the gateway's defaults", "" if grace == seconds else f"{grace} is not {seconds}"


def values() -> Iterator[tuple[str, str]]:
    """values.yaml and its schema."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    text = (CHART / "values.yaml").read_text()
    given = yaml.load(text, LOADER)
    yield "the schema is of draft 7", "" if schema["$schema"] == "http://json-schema.org/draft-07/schema#" else schema["$schema"]
    jsonschema.Draft7Validator.check_schema(schema)
    missing = set(schema["properties"]) ^ set(given)
    yield "values.yaml and the schema have the same keys", ", ".join(sorted(missing))
    opened = [key for key, value in schema["properties"].items() if value.get("type") == "object" and "properties" in value and value.get("additionalProperties") is not False]
    yield "every level of the schema is closed", ", ".join(opened) if schema["additionalProperties"] is False else "the top is not"


def metadata() -> Iterator[tuple[str, str]]:
    """What Chart.yaml has to say."""
    chart = yaml.load((CHART / "Chart.yaml").read_text(), LOADER)
    workspace = (REPOSITORY / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"$', workspace, re.MULTILINE)[1]
    yield "appVersion is that of the gateway", "" if chart["appVersion"] == version else f"{chart['appVersion']} is not {version}"
    yield "it says which Kubernetes it wants", "" if chart["kubeVersion"] == ">=1.27.0-0" else chart["kubeVersion"]
    for key in ("icon", "sources", "home", "keywords", "description"):
        yield f"Chart.yaml has {key}", "" if chart.get(key) else "it has not"
    for key in ("changes", "images", "license", "links", "containsSecurityUpdates"):
        text = chart["annotations"].get(f"artifacthub.io/{key}")
        yield f"Chart.yaml has artifacthub.io/{key}", "" if isinstance(text, str) and yaml.safe_load(text) not in (None, "") else "it has not"
    image = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])[0]["image"]
    yield "its image is that of the version", "" if image == f"clarion:{version}" else image
    install = (HELM / "install.sh").read_text()
    pinned = re.findall(r"^(helm3|helm4|gateway_api|keda|prometheus_operator)=(v[\d.]+)$", install, re.MULTILINE)
    yield "every tool is of an exact version", "" if len(pinned) == 5 else str(pinned)


def readme() -> Iterator[tuple[str, str]]:
    """What the README tells people to write."""
    text = (CHART / "README.md").read_text()
    examples = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "replicas:" in block]
    for example in examples:
        done = template(HELMS[-1], KUBERNETES[-1], values=yaml.load(example, LOADER))
        yield "the values in the README can be rendered", done.stderr if done.returncode else ""
    commands = re.findall(r"^helm install live helm/clarion(.*?)(?:#.*)?$", text, re.MULTILINE)
    for command in commands:
        words = [word for word in shlex.split(command) if word not in ("--values", "production.yaml")]
        done = template(HELMS[-1], KUBERNETES[-1], *words)
        yield f"helm install{command.rstrip()}", done.stderr if done.returncode else ""
    yield "there are examples in the README", "" if examples and len(commands) == 3 else "they were not found"
