"""What the templates must say, counted and read: numbers, limits of AWS, and settings that must not be lost."""

import collections
import importlib.machinery
import importlib.util
import ipaddress
import json
import pathlib
import re
import subprocess

import permissions
from template import INFRA, Stack, load

HERE = pathlib.Path(__file__).parent
STACKS = ("network", "slots", "identity", "controller", "golden")
DIGEST = "0" * 64
# How many of each subnet's addresses must be usable, and for what. AWS keeps five of each.
ADDRESSES = {
    "public": (100, "the load balancer under load, NAT"),
    "router": (100, "gateways"),
    "control": (100, "controllers, endpoints, the store, masking"),
    "app": (8000, "machines"),
    "db": (4000, "databases"),
}


# How long AWS lets names be.
LONGEST = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": ("Name", 32),
    "AWS::ElasticLoadBalancingV2::TargetGroup": ("Name", 32),
    "AWS::IAM::InstanceProfile": ("InstanceProfileName", 128),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", 128),
    "AWS::IAM::Role": ("RoleName", 64),
    "AWS::Lambda::Function": ("FunctionName", 64),
    "AWS::RDS::DBInstance": ("DBInstanceIdentifier", 63),
    "AWS::SQS::Queue": ("QueueName", 80),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", 80),
    "AWS::Events::Rule": ("Name", 64),
}


def stacks(install="demo", golden="main"):
    """All stacks as they are with every option on, each with what the ones before export."""
    parameters = {
        "network": {"NatGateways": "per-zone"},
        "slots": {},
        "identity": {"ReleaseBucket": "releases", "MachineProfile": "fetch-agent"},
        "controller": {
            "Domain": "preview.example.com",
            "ControllerHost": "kagero.example.com",
            "HostedZone": "Z1",
            "Certificate": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
            "Release": "kagero.tar.gz",
            "ReleaseDigest": DIGEST,
            "WebhookQueue": "on",
            "AlarmEmail": "ops@example.com",
        },
        "golden": {"SourcePrefix": "production-", "Databases": "shop", "MaskImage": f"masks@sha256:{DIGEST}", "Name": golden},
    }
    exports, made = {}, {}
    for name in STACKS:
        made[name] = Stack(name, {"Install": install, **parameters[name]}, dict(exports))
        exports.update(made[name].exports)
    return made


def check_numbers():
    made = stacks()
    network, slots = made["network"], made["slots"]

    def number(what, found, wanted):
        if len(found) != wanted:
            yield f"{what}: {len(found)}, and must be {wanted}"

    yield from number("network ACLs", network.of_type("AWS::EC2::NetworkAcl"), 5)
    yield from number("fixed groups", network.of_type("AWS::EC2::SecurityGroup"), 7)
    yield from number("subnets", network.of_type("AWS::EC2::Subnet"), 10)
    yield from number("slots of a series", slots.of_type("AWS::EC2::SecurityGroup"), 20)
    numbers = [_tags(it)["kagero:slot"] for it in slots.of_type("AWS::EC2::SecurityGroup").values()]
    if numbers != [f"0{number:02}" for number in range(1, 21)]:
        yield f"the slots are numbered {numbers}"

    entries = collections.Counter(
        (it["NetworkAclId"], it["Egress"]) for it in network.of_type("AWS::EC2::NetworkAclEntry").values()
    )
    for (acl, egress), count in entries.items():
        if count + 1 > 20:  # the last one, which AWS adds, denies
            yield f"{acl} has {count + 1} entries for {'egress' if egress else 'ingress'}, and AWS takes 20"

    rules = collections.Counter()
    for stack in made.values():
        for name, it in stack.of_type("AWS::EC2::SecurityGroup").items():
            for direction in ("Ingress", "Egress"):
                rules[f"{name}@{stack.name}", direction] += len(it.get(f"SecurityGroup{direction}", []))
        for direction in ("Ingress", "Egress"):
            for it in stack.of_type(f"AWS::EC2::SecurityGroup{direction}").values():
                rules[it["GroupId"], direction] += 1
    for (group, direction), count in rules.items():
        if count > 60:
            yield f"{group} has {count} rules for {direction}, and AWS takes 60"
        if direction == "Egress" and count == 0:
            yield f"{group} has no rule for egress, so AWS would add one that allows everything"

    whole = ipaddress.ip_network(network.outputs["NetworkCidr"])
    blocks = []
    for name, it in network.of_type("AWS::EC2::Subnet").items():
        role = _tags(it)["kagero:role"]
        block = ipaddress.ip_network(it["CidrBlock"])
        least, what = ADDRESSES[role]
        if block.num_addresses - 5 < least:
            yield f"{name} has {block.num_addresses - 5} addresses for {what}, and must have {least}"
        if not block.subnet_of(whole) or any(block.overlaps(other) for other in blocks):
            yield f"{name} overlaps with another subnet, or lies outside the network"
        if it["MapPublicIpOnLaunch"]:
            yield f"{name} gives public addresses away"
        blocks.append(block)


def check_limits():
    for name in STACKS:
        size = len((INFRA / f"{name}.yaml").read_bytes())
        if size > 51200:
            yield f"{name}.yaml has {size} bytes; CloudFormation takes 51200 without a bucket"
    for stack in stacks(install="x" * 20, golden="y" * 12).values():
        for name, it in stack.resources.items():
            key, longest = LONGEST.get(it["Type"], ("", 0))
            if len(it["Properties"].get(key, "")) > longest:
                yield f"{stack.name}: {name}: AWS takes {longest} characters: {it['Properties'][key]}"
            for text in _descriptions(it["Properties"]):
                if it["Type"].startswith("AWS::EC2::SecurityGroup") and not re.fullmatch(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}", text):
                    yield f"{stack.name}: {name}: EC2 takes no such description: {text}"
            tags = it["Properties"].get("Tags", [])
            keys = {tag["Key"] for tag in tags} if isinstance(tags, list) else set(tags)
            if "kagero:managed" in keys:
                yield f"{stack.name}: {name} carries kagero:managed, so Kagero could delete it"
            if keys and not {"kagero:infra", "kagero:install"} <= keys:
                yield f"{stack.name}: {name} has tags without kagero:infra and kagero:install"
    yield from permissions.check_lengths()


def _descriptions(properties):
    for key, value in properties.items():
        if key in ("Description", "GroupDescription"):
            yield value
        elif isinstance(value, list):
            for it in value:
                if isinstance(it, dict):
                    yield from _descriptions(it)


def _tags(it):
    return {tag["Key"]: tag["Value"] for tag in it["Tags"]}


def check_slots_are_current():
    loader = importlib.machinery.SourceFileLoader("slots", str(INFRA / "slots"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("slots", loader))
    loader.exec_module(module)
    if module.text() != (INFRA / "slots.yaml").read_text():
        yield "slots.yaml is not what infra/slots prints. Run: infra/slots > infra/slots.yaml"


def check_same_install_everywhere():
    patterns = {load(name)["Parameters"]["Install"]["AllowedPattern"] for name in STACKS}
    if len(patterns) != 1:
        yield f"the templates do not agree about the installation's name: {patterns}"
    (pattern, *_) = patterns
    for name, fits in {"kagero": True, "a-1": True, "a--b": False, "golden": False, "golden-1": False, "goldens": True, "Big": False, "x" * 21: False, "a-": False}.items():
        if bool(re.fullmatch(pattern, name)) != fits:
            yield f"the name {name!r} {'must' if fits else 'must not'} be one of an installation"


def check_settings():
    made = stacks()
    wanted = {
        ("controller", "Store"): {
            "DeletionProtection": True,
            "StorageEncrypted": True,
            "PubliclyAccessible": False,
            "ManageMasterUserPassword": True,
            "CopyTagsToSnapshot": True,
            "DBInstanceIdentifier": "kagero-store-demo",
        },
    }
    for (stack, name), settings in wanted.items():
        for key, value in settings.items():
            found = made[stack].resources[name]["Properties"].get(key)
            if found != value:
                yield f"{stack}: {name}: {key} is {found}, and must be {value}"
    data = made["controller"].resources["Template"]["Properties"]["LaunchTemplateData"]
    if data["MetadataOptions"] != {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}:
        yield f"controllers' metadata is open: {data['MetadataOptions']}"
    if any(it["AssociatePublicIpAddress"] for it in data["NetworkInterfaces"]):
        yield "controllers have public addresses"
    if not all(it["Ebs"]["Encrypted"] for it in data["BlockDeviceMappings"]):
        yield "a controller's volume is not encrypted"
    for name, keep in {"Store": "Snapshot", "InstallSecret": "Retain"}.items():
        if load("controller")["Resources"][name]["DeletionPolicy"] != keep:
            yield f"controller: {name} would be lost with its stack"
    for version in ("15", "16", "17", "18"):
        if made["network"].resources[f"Postgres{version}"]["Properties"]["Parameters"] != {"rds.force_ssl": "1"}:
            yield f"PostgreSQL {version} would talk without TLS"


def check_golden():
    """The pipeline's order and what it sends; its expressions are evaluated by golden.mjs."""
    definition = stacks()["golden"].resources["Pipeline"]["Properties"]["Definition"]
    states = definition["States"]
    restore = states["Restore"]["Arguments"]
    for key, value in {
        "PubliclyAccessible": False,
        "DeletionProtection": False,
        "AutoMinorVersionUpgrade": False,
        "CopyTagsToSnapshot": False,
        "BackupRetentionPeriod": 0,
        "ManageMasterUserPassword": True,
        "DbSubnetGroupName": "kagero-quarantine-demo-main",
        "DbParameterGroupName": "kagero-demo-postgres17",
        "VpcSecurityGroupIds": ["QuarantineGroup.GroupId@golden"],
        "Tags": [{"Key": "kagero:infra", "Value": "golden"}, {"Key": "kagero:install", "Value": "demo"}],
    }.items():
        if restore.get(key) != value:
            yield f"the restore's {key} is {restore.get(key)}, and must be {value}"
    for name, state in states.items():
        if "sanitized" in json.dumps(state) and name != "Snapshot":
            yield f"{name} speaks of kagero:sanitized, and only Snapshot may"
        if re.search(r"delete\w*Snapshot", json.dumps(state), re.IGNORECASE):
            yield f"{name} deletes a snapshot"
        if state.get("Resource", "").endswith("deleteDBInstance") and state["Arguments"] != {
            "DbInstanceIdentifier": "{% $quarantine %}",
            "SkipFinalSnapshot": True,
            "DeleteAutomatedBackups": True,
        }:
            yield f"{name} does not delete as it must"

    def next_of(state):
        yield from filter(None, [state.get("Next"), state.get("Default")])
        yield from (it["Next"] for it in state.get("Choices", []) + state.get("Catch", []))

    def reached(without):
        seen, todo = set(), [definition["StartAt"]]
        while todo:
            name = todo.pop()
            if name not in seen and name not in without:
                seen.add(name)
                todo += next_of(states[name])
        return seen

    if reached(set()) != set(states):
        yield f"states that nothing leads to: {sorted(set(states) - reached(set()))}"
    for gate in ("Restore", "Mask", "Verify"):
        if "Snapshot" in reached({gate}):
            yield f"a snapshot can be taken without {gate}"
    # Once the copy of production is there, every way ends with its removal.
    after = {name for name in states if name in reached(set()) and name not in reached({"Restore"})}
    for end in ("Done", "Failed"):
        if end in reached({"Remove", "RemoveAfterFailure"}):
            yield f"{end} can be reached with the copy of production still there"
    for name in after - {"Restore", "Remove", "RemoveAfterFailure"}:
        if states[name]["Type"] == "Task" and {it["Next"] for it in states[name].get("Catch", [])} != {"RemoveAfterFailure"}:
            yield f"{name} can fail without the copy of production being removed"

    done = subprocess.run(["node", HERE / "golden.mjs"], input=json.dumps(states), text=True, capture_output=True, cwd=HERE)
    if done.returncode:
        yield f"golden.mjs: {done.stdout}{done.stderr[-1500:]}"
