"""Rebuilds the schema of the real AWS provider from its generated CDK bindings.

The PyPI wheel `cdktn-provider-aws` carries, inside a jsii tarball, one JavaScript module per resource that was generated
from the provider's own schema. Every attribute is there with its type, whether it is a block, and whether it is computed,
optional or required. What is lost: validators, defaults, ForceNew, deprecation. `schema.json` is the output, committed:

    python -m tarn_localstack.provider.extract cdktn_provider_aws-25.8.1-py3-none-any.whl > schema.json
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import zipfile
from dataclasses import dataclass

RESOURCES = """
apigatewayv2_api apigatewayv2_api_mapping apigatewayv2_authorizer apigatewayv2_domain_name apigatewayv2_integration
apigatewayv2_route apigatewayv2_stage cloudwatch_dashboard cloudwatch_event_rule cloudwatch_event_target
cloudwatch_log_group cloudwatch_metric_alarm iam_role iam_role_policy kms_alias kms_key lambda_event_source_mapping
lambda_function lambda_function_event_invoke_config lambda_permission route53_record s3_bucket
s3_bucket_lifecycle_configuration s3_bucket_notification s3_bucket_ownership_controls s3_bucket_policy
s3_bucket_public_access_block s3_bucket_server_side_encryption_configuration s3_bucket_versioning sfn_state_machine
sqs_queue sqs_queue_policy
""".split()
DATA_SOURCES = "caller_identity partition region".split()

# What the generated code calls a type → Terraform's JSON encoding of it.
TYPES = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "stringList": ["list", "string"],
    "numberList": ["list", "number"],
    "stringMap": ["map", "string"],
    "numberMap": ["map", "number"],
    "booleanMap": ["map", "bool"],
}
GETTERS = {"String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"], "NumberList": ["list", "number"]}

PRESENCE = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n")
ENTRY = re.compile(r'(\w+): \{\s*value: [^\n]*\n\s*isBlock: (true|false),\s*type: "(\w+)",\s*storageClassType: "(\w+)"')


@dataclass
class Module:
    """One generated module: its code and its type declarations."""

    code: str
    declarations: str

    def braced(self, needle: str) -> str | None:
        """The text between the braces that follow `needle`."""
        found = self.code.find(needle)
        return None if found < 0 else braced(self.code, found)

    def is_many(self, interface: str, attribute: str) -> bool:
        """Whether the block may be repeated: its property is declared as an array."""
        start = re.search(rf"interface {interface}\b[^{{]*\{{", self.declarations)
        camel = re.sub(r"_(\w)", lambda m: m[1].upper(), attribute)
        if not start:
            return False
        declared = re.search(rf"readonly {camel}\??: ([^;]+);", braced(self.declarations, start.start()))
        return bool(declared and "[]" in declared[1])


def braced(text: str, start: int) -> str:
    depth, begin = 0, text.index("{", start)
    for match in re.finditer(r"[{}]", text[begin:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return text[begin + 1 : begin + match.start()]
    raise ValueError("unbalanced braces")


def presences(body: str) -> dict[str, tuple[str, str]]:
    """Attribute → (its presence, the code up to the next attribute)."""
    found = list(PRESENCE.finditer(body))
    ends = [match.start() for match in found[1:]] + [len(body)]
    out = {}
    for match, end in zip(found, ends):
        _, computed, optional, required = match.groups()
        words = [w for w, yes in (("required", required), ("optional", optional), ("computed", computed)) if yes == "true"]
        out[match[1]] = (" ".join(words), body[match.end() : end])
    return out


def computed_type(module: Module, accessor: str) -> object:
    """The type of an attribute that users cannot set: only its accessor tells."""
    if found := re.search(r"(tolist\()?this\.get(NumberList|List|String|Number|Boolean)Attribute\(", accessor):
        return ["set", "string"] if found[1] else GETTERS[found[2]]
    if found := re.search(r"new cdktn\.(String|Number|Boolean)Map\(", accessor):
        return ["map", GETTERS[found[1]]]
    if found := re.search(r"new (\w+?)List\(this, [\"']\w+[\"'], (true|false)", accessor):
        body = module.braced(f"class {found[1]}OutputReference ")
        fields = {name: computed_type(module, code) for name, (_, code) in presences(body or "").items()}
        return ["set" if found[2] == "true" else "list", ["object", fields]]
    return "string"


def block(module: Module, entries: str, body: str, interface: str) -> dict[str, object]:
    """A block's schema from the code that writes its attributes and the class that reads them."""
    settable = {name: rest for name, *rest in ENTRY.findall(entries)}
    attributes: dict[str, object] = {}
    blocks: dict[str, object] = {}
    seen = presences(body)
    for name in settable:
        seen.setdefault(name, ("optional", ""))
    for name, (presence, accessor) in seen.items():
        if name not in settable:
            attributes[name] = [computed_type(module, accessor), presence or "computed"]
            continue
        is_block, kind, storage = settable[name]
        if is_block == "false" and storage in TYPES:
            declared = TYPES[storage]
            attributes[name] = [["set", declared[1]] if kind == "set" else declared, presence]
            continue
        single = kind == "struct"
        item = storage if single else storage.removesuffix("List")
        writer = module.braced(f"function {item[0].lower()}{item[1:]}ToHclTerraform(")
        if writer is None:
            raise ValueError(f"no writer for {item}")
        inner = block(module, writer, module.braced(f"class {item}OutputReference ") or "", item)
        many = not single and module.is_many(interface, name)
        nesting = "single" if single else kind
        blocks[name] = {"nesting": nesting, "min": int("required" in presence), "max": 0 if many or single else 1, **inner}
    return {"attributes": attributes, **({"blocks": blocks} if blocks else {})}


def top_level(module: Module, kind: str) -> dict[str, object]:
    found = re.search(rf"\nclass (\w+) extends cdktn\.{kind} ", module.code)
    if not found:
        raise ValueError(f"no {kind} in the module")
    body = braced(module.code, found.end())
    readers, writers = body.split("synthesizeHclAttributes()")
    return block(module, writers, readers, found[1] + "Config")


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inner = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        wanted = {f"package/lib/{n.replace('_', '-')}/" for n in RESOURCES} | {"package/lib/provider/"}
        wanted |= {f"package/lib/data-aws-{n.replace('_', '-')}/" for n in DATA_SOURCES}
        texts: dict[str, str] = {}
        with tarfile.open(fileobj=io.BytesIO(archive.read(inner)), mode="r|gz") as tar:
            for member in tar:
                if member.name.endswith(("/index.js", "/index.d.ts")) and member.name.rsplit("/", 1)[0] + "/" in wanted:
                    texts[member.name] = tar.extractfile(member).read().decode()  # type: ignore[union-attr]

    def module(folder: str) -> Module:
        return Module(texts[f"package/lib/{folder}/index.js"], texts[f"package/lib/{folder}/index.d.ts"])

    version = re.search(r"providerVersion: '([^']+)'", module("sqs-queue").code)
    provider = top_level(module("provider"), "TerraformProvider")
    provider["attributes"].pop("alias", None)  # type: ignore[attr-defined]
    schema = {
        "provider_version": version[1] if version else "",
        "provider": provider,
        "resources": {f"aws_{n}": top_level(module(n.replace("_", "-")), "TerraformResource") for n in RESOURCES},
        "data_sources": {
            f"aws_{n}": top_level(module("data-aws-" + n.replace("_", "-")), "TerraformDataSource") for n in DATA_SOURCES
        },
    }
    print(render(schema, 0))


def render(value: object, depth: int) -> str:
    """JSON with one attribute per line, so that a new provider version gives a readable diff."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    pad = " " * (depth + 1)
    lines = [f"{pad}{json.dumps(key)}: {render(value[key], depth + 1)}" for key in sorted(value)]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    main(sys.argv[1])
