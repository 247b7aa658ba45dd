"""What Kubernetes accepts: its own schemas from kubernetes-validate, and those of custom resources from their projects.

Strict: a field that nothing knows is an error.
"""

import copy
import json
from functools import lru_cache

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

from .chart import LOADER, TOOLS

# It reads the definitions of everything again for each object.
kubernetes_validate.utils.schema_contents = lru_cache(maxsize=None)(kubernetes_validate.utils.schema_contents)


@lru_cache(maxsize=None)
def custom(kind: str, version: str) -> jsonschema.Validator | None:
    """The validator of a custom resource, if it is one that is known."""
    for file in (TOOLS / "crds").glob(f"{kind}-*.yaml"):
        definition = yaml.load(file.read_text(), LOADER)
        for served in definition["spec"]["versions"]:
            if served["name"] == version:
                schema = strict(copy.deepcopy(served["schema"]["openAPIV3Schema"]))
                # Of these a definition says only that there are any.
                schema["properties"] |= {"metadata": {"type": "object"}}
                return jsonschema.Draft202012Validator(schema)
    return None


def strict(schema: object) -> object:
    """Closes every object that has properties, and lets a number or a text be where Kubernetes takes both."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and isinstance(schema["properties"], dict) and schema.get("type") == "object" and not is_open:
        schema["additionalProperties"] = False
    return {key: strict(value) for key, value in schema.items()}


@lru_cache(maxsize=None)
def problem_of(text: str, kubernetes: str) -> str:
    """What is wrong with an object, given as JSON; empty if nothing is."""
    document = json.loads(text)
    version = document["apiVersion"].rsplit("/", 1)[-1]
    validator = custom(document["kind"], version)
    try:
        if validator:
            return "\n".join(f"{document['kind']} at {error.json_path}: {error.message}" for error in validator.iter_errors(document))
        kubernetes_validate.validate(document, kubernetes, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        where = "/".join(str(key) for key in getattr(error, "path", ()))
        return f"{document['kind']} {document['metadata']['name']} at /{where}: {error.message}"
    return ""
