"""Hands the policies of identity.yaml, resolved, to permissions.mjs, which asks an IAM simulator about single calls."""

import json
import pathlib
import subprocess

from template import ACCOUNT, REGION, Stack

HERE = pathlib.Path(__file__).parent
LONGEST_REGION = "ap-southeast-99"


def identity_stack(roles="separate", profile="fetch-agent", install="demo"):
    network = Stack("network", {"Install": install})
    parameters = {"Install": install, "Roles": roles, "MachineProfile": profile, "ReleaseBucket": "releases"}
    return Stack("identity", parameters, network.exports)


def golden_stack():
    network = Stack("network", {"Install": "demo"})
    exports = {**network.exports, **identity_stack().exports, "kagero-demo-AlarmTopicArn": "topic"}
    given = {"Install": "demo", "SourcePrefix": "production-", "Databases": "shop", "MaskImage": f"masks@sha256:{'0' * 64}"}
    return Stack("golden", given, exports)


def principals(identity):
    managed = {
        identity._arn(key): (it["ManagedPolicyName"], it["PolicyDocument"])
        for key, it in identity.of_type("AWS::IAM::ManagedPolicy").items()
    }
    found = {}
    for role in identity.of_type("AWS::IAM::Role").values():
        policies = [managed[arn] for arn in role.get("ManagedPolicyArns", [])]
        policies += [(it["PolicyName"], it["PolicyDocument"]) for it in role.get("Policies", [])]
        found[role["RoleName"].removeprefix(f"kagero-{identity.parameters['Install']}-")] = {
            "arn": f"arn:aws:iam::{ACCOUNT}:role/{role['RoleName']}",
            "policies": [{"name": name, "policy": policy} for name, policy in policies],
            "boundary": [{"name": "boundary", "policy": managed[it][1]} for it in [role.get("PermissionsBoundary")] if it],
        }
    return found


def check():
    separate = identity_stack()
    world = {
        "account": ACCOUNT,
        "region": REGION,
        "keyPolicy": separate.of_type("AWS::KMS::Key")["Key"]["KeyPolicy"],
        "separate": principals(separate),
        "golden": principals(golden_stack()),
        "together": principals(identity_stack(roles="together", profile="none")),
    }
    done = subprocess.run(
        ["node", HERE / "permissions.mjs"], input=json.dumps(world), text=True, capture_output=True, cwd=HERE
    )
    if done.returncode not in (0, 1) or (done.returncode == 1 and not done.stdout.strip()):
        yield f"permissions.mjs ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
    yield from done.stdout.splitlines()


def check_lengths():
    """A managed policy may have 6,144 characters without spaces, a role's inline policies 10,240 in all."""
    for role, it in principals(identity_stack(install="x" * 20)).items():
        for policy in it["policies"] + it["boundary"]:
            length = len(json.dumps(policy["policy"], separators=(",", ":")).replace(REGION, LONGEST_REGION))
            if length > 6144:
                yield f"{role}: the policy {policy['name']} has {length} characters, and AWS takes 6144"
        if len(it["policies"]) > 10:
            yield f"{role} has more than 10 policies"
