"""Deploys all stacks on a moto server, from nothing; lists what is there; removes all of it again.

The network is deployed with infra/deploy and the real aws program. That goes by change sets, after which moto knows no exports;
so the stacks that belong together are made by CreateStack, with what infra/deploy --print says.

moto leaves out what it does not know, under CREATE_COMPLETE: what it makes is counted here, and what it does not make is named
in UNKNOWN, so that neither changes unseen. Network ACLs are among it; reachability.py reads them from the template.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config

from template import INFRA, REGION, Stack

HERE = pathlib.Path(__file__).parent
TOOLS = HERE / ".venv" / "bin"
DIGEST = "0" * 64
UNKNOWN = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::NetworkAcl",
    "AWS::EC2::NetworkAclEntry",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::Logs::MetricFilter",
    "AWS::RDS::DBClusterParameterGroup",
    "AWS::SNS::Subscription",
    "AWS::SecretsManager::Secret",
}
# What moto does not remove with its stack, and what is kept on purpose (DeletionPolicy is Retain or Snapshot).
UNREMOVED = ("address/", "endpoint/", "nat/", "policy/", "target-group/", "parameter-group/default.")
KEPT = ("key/", "db-snapshot/")
# What moto cannot answer, and an answer.
UNANSWERED = {
    '{"Fn::GetAtt": [Store, MasterUserSecret.SecretArn]}': f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rds!db-1",
    '{"Fn::ImportValue": !Sub "kagero-${Install}-parameters-postgres${StoreEngine}"}': "default.postgres17",
}


@contextlib.contextmanager
def moto():
    """A moto server of our own on a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [TOOLS / "moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"moto does not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.1)
            try:
                yield address
            except Exception as why:
                # The answer to a client is a page that says 500; the log says why.
                log.seek(0)
                raise RuntimeError(f"{why}\nmoto: {log.read().decode(errors='replace')[-1500:]}") from why
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


class Cloud:
    """Clients, and infra/deploy, that see the server and nothing of the machine's own configuration."""

    def __init__(self, address):
        self.environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": address,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }
        self.address = address

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.address,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def deploy(self, stack, *parameters):
        done = subprocess.run([INFRA / "deploy", stack, *parameters], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"infra/deploy {stack} failed: {done.stdout}{done.stderr}")

    def create(self, stack, *parameters):
        """Does what infra/deploy would do."""
        printed = subprocess.run([INFRA / "deploy", "--print", stack, *parameters], check=True, capture_output=True, text=True)
        for command in map(shlex.split, printed.stdout.splitlines()):
            options, pairs = {}, []
            for word in command[3:]:
                if word.startswith("--"):
                    pairs = options.setdefault(word, [])
                else:
                    pairs.append(word)
            body = pathlib.Path(options["--template-file"][0]).read_text()
            for question, answer in UNANSWERED.items():
                body = body.replace(question, answer)
            split = lambda words: [word.split("=", 1) for word in words]  # noqa: E731
            self.client("cloudformation").create_stack(
                StackName=options["--stack-name"][0],
                TemplateBody=body,
                Capabilities=options["--capabilities"],
                Tags=[{"Key": key, "Value": value} for key, value in split(options["--tags"])],
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in split(options["--parameter-overrides"])],
            )


def check(install="demo"):
    with moto() as address:
        cloud = Cloud(address)
        ec2, rds, iam, elb = (cloud.client(it) for it in ("ec2", "rds", "iam", "elbv2"))
        formation = cloud.client("cloudformation")

        cloud.deploy("network", f"Install={install}")
        if not ec2.describe_vpcs(Filters=[{"Name": "tag:kagero:install", "Values": [install]}])["Vpcs"]:
            yield "infra/deploy network has made no network"
        urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()

        zone = cloud.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"]
        certificate = cloud.client("acm").request_certificate(
            DomainName="*.preview.example.com", SubjectAlternativeNames=["kagero.example.com"]
        )["CertificateArn"]
        before = _everything(cloud)

        given = {
            "network": [],
            "slots": ["Slots=40"],
            "identity": ["ReleaseBucket=releases", "MachineProfile=fetch-agent"],
            "controller": [
                "Domain=preview.example.com",
                "ControllerHost=kagero.example.com",
                f"HostedZone={zone.removeprefix('/hostedzone/')}",
                f"Certificate={certificate}",
                "Release=kagero.tar.gz",
                f"ReleaseDigest={DIGEST}",
                "WebhookQueue=on",
                "AlarmEmail=ops@example.com",
                "Machines=2",
            ],
            "golden": ["SourcePrefix=production-", "Databases=shop", f"MaskImage=masks@sha256:{DIGEST}"],
        }
        for stack, parameters in given.items():
            cloud.create(stack, f"Install={install}", *parameters)

        yield from _what_is_there(cloud, install)

        declared, made = set(), set()
        for name in _stacks(formation):
            resources = formation.list_stack_resources(StackName=name)["StackResourceSummaries"]
            made |= {it["ResourceType"] for it in resources}
        for stack in given:
            declared |= {it["Type"] for it in Stack.types(stack)}
        if declared - made != UNKNOWN:
            yield f"moto leaves out {sorted(declared - made)}, and UNKNOWN says {sorted(UNKNOWN)}"

        for name in reversed(_stacks(formation)):
            if name.endswith("-network"):
                _remove_route_tables(ec2, install)
            formation.delete_stack(StackName=name)
            if name in _stacks(formation):
                yield f"{name} was not removed"
        left = {it for it in _everything(cloud) - before if not it.startswith(UNREMOVED + KEPT)}
        if left:
            yield f"left after removing all stacks: {sorted(left)}"


def _remove_route_tables(ec2, install):
    """moto leaves them when their stack goes, and refuses to remove the network because of them."""
    for table in ec2.describe_route_tables(Filters=[{"Name": "tag:aws:cloudformation:stack-name", "Values": [f"kagero-{install}-network"]}])["RouteTables"]:
        for it in table["Associations"]:
            ec2.disassociate_route_table(AssociationId=it["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])


def _stacks(formation):
    """Those that are there, the oldest first."""
    found = [it for it in formation.list_stacks()["StackSummaries"] if it["StackStatus"] != "DELETE_COMPLETE"]
    return [it["StackName"] for it in sorted(found, key=lambda it: it["CreationTime"])]


def _tags(it):
    return {tag["Key"]: tag["Value"] for tag in it.get("Tags") or it.get("TagList") or []}


def _what_is_there(cloud, install):
    ec2, rds, iam, elb = (cloud.client(it) for it in ("ec2", "rds", "iam", "elbv2"))

    def number(what, found, wanted):
        if len(found) != wanted:
            return [f"{what}: {len(found)} are there, and must be {wanted}"]
        return []

    ours = [{"Name": "tag:kagero:install", "Values": [install]}]
    vpcs = ec2.describe_vpcs(Filters=ours)["Vpcs"]
    yield from number("networks", vpcs, 1)
    subnets = ec2.describe_subnets(Filters=ours)["Subnets"]
    yield from number("subnets", subnets, 10)
    for role in ("public", "router", "app", "db", "control"):
        of_role = [it for it in subnets if _tags(it).get("kagero:role") == role]
        yield from number(f"{role} subnets", of_role, 2)
        yield from number(f"zones of {role} subnets", {it["AvailabilityZone"] for it in of_role}, 2)
    groups = ec2.describe_security_groups(Filters=ours)["SecurityGroups"]
    fixed = {_tags(it).get("kagero:role") for it in groups if _tags(it)["kagero:infra"] == "network"} - {None}
    if fixed != {"lb", "gateway", "controller", "app", "database", "endpoint", "store"}:
        yield f"the fixed groups are {sorted(fixed)}"
    slots = sorted(_tags(it)["kagero:slot"] for it in groups if "kagero:slot" in _tags(it))
    if slots != [f"{series}{number:02}" for series in (0, 1) for number in range(1, 21)]:
        yield f"the slots are {slots}"
    yield from number("groups", groups, 7 + 40 + 2)
    yield from number("NAT gateways", ec2.describe_nat_gateways()["NatGateways"], 1)
    endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    yield from number("interface endpoints", [it for it in endpoints if it["VpcEndpointType"] == "Interface"], 6)

    roles = {it["RoleName"] for it in iam.list_roles()["Roles"]}
    for role in ("reader", "provisioner", "reaper", "controller", "machine", "golden-main"):
        if f"kagero-{install}-{role}" not in roles:
            yield f"there is no role kagero-{install}-{role}"
    for role in ("reader", "provisioner", "reaper", "controller", "machine"):
        if "PermissionsBoundary" not in iam.get_role(RoleName=f"kagero-{install}-{role}")["Role"]:
            yield f"the role kagero-{install}-{role} has no boundary"
    yield from number("keys", [it for it in cloud.client("kms").list_aliases()["Aliases"] if it["AliasName"] == f"alias/kagero-{install}"], 1)

    yield from number("parameter groups", rds.describe_db_parameter_groups()["DBParameterGroups"], 8)
    names = {it["DBSubnetGroupName"] for it in rds.describe_db_subnet_groups()["DBSubnetGroups"]}
    if names != {f"kagero-{install}", f"kagero-store-{install}", f"kagero-quarantine-{install}-main"}:
        yield f"the subnet groups are {sorted(names)}"
    store = rds.describe_db_instances(DBInstanceIdentifier=f"kagero-store-{install}")["DBInstances"][0]
    if not store["StorageEncrypted"] or store["PubliclyAccessible"] or store["BackupRetentionPeriod"] < 7:
        yield f"the store is not as it must be: {store}"

    yield from number("load balancers", elb.describe_load_balancers()["LoadBalancers"], 1)
    yield from number("target groups", elb.describe_target_groups()["TargetGroups"], 2)
    machines = [it for found in ec2.describe_instances()["Reservations"] for it in found["Instances"]]
    yield from number("controllers", machines, 2)
    for it in machines:
        if it.get("PublicIpAddress"):
            yield f"a controller has the public address {it['PublicIpAddress']}"

    for client, call, key in (
        (ec2, "describe_instances", None),
        (rds, "describe_db_instances", "DBInstances"),
    ):
        found = machines if key is None else getattr(client, call)()[key]
        for it in found:
            if "kagero:managed" in _tags(it):
                yield f"what the templates make carries kagero:managed, so Kagero could delete it: {_tags(it)}"
            if _tags(it).get("kagero:infra") != "controller":
                yield f"without kagero:infra: {it.get('InstanceId') or it.get('DBInstanceIdentifier')}"


def _everything(cloud):
    """What is listed of everything that the templates make."""
    ec2, rds, iam, elb = (cloud.client(it) for it in ("ec2", "rds", "iam", "elbv2"))
    listings = {
        "vpc": [it["VpcId"] for it in ec2.describe_vpcs()["Vpcs"]],
        "subnet": [it["SubnetId"] for it in ec2.describe_subnets()["Subnets"]],
        "group": [it["GroupId"] for it in ec2.describe_security_groups()["SecurityGroups"]],
        "route-table": [it["RouteTableId"] for it in ec2.describe_route_tables()["RouteTables"]],
        "endpoint": [it["VpcEndpointId"] for it in ec2.describe_vpc_endpoints()["VpcEndpoints"] if it["State"] != "deleted"],
        "nat": [it["NatGatewayId"] for it in ec2.describe_nat_gateways()["NatGateways"] if it["State"] != "deleted"],
        "address": [it["AllocationId"] for it in ec2.describe_addresses()["Addresses"]],
        "instance": [
            it["InstanceId"]
            for found in ec2.describe_instances()["Reservations"]
            for it in found["Instances"]
            if it["State"]["Name"] != "terminated"
        ],
        "template": [it["LaunchTemplateId"] for it in ec2.describe_launch_templates()["LaunchTemplates"]],
        "database": [it["DBInstanceIdentifier"] for it in rds.describe_db_instances()["DBInstances"]],
        "db-snapshot": [it["DBSnapshotIdentifier"] for it in rds.describe_db_snapshots()["DBSnapshots"]],
        "subnet-group": [it["DBSubnetGroupName"] for it in rds.describe_db_subnet_groups()["DBSubnetGroups"]],
        "parameter-group": [it["DBParameterGroupName"] for it in rds.describe_db_parameter_groups()["DBParameterGroups"]],
        "role": [it["RoleName"] for it in iam.list_roles()["Roles"]],
        "policy": [it["PolicyName"] for it in iam.list_policies(Scope="Local")["Policies"]],
        "load-balancer": [it["LoadBalancerName"] for it in elb.describe_load_balancers()["LoadBalancers"]],
        "target-group": [it["TargetGroupName"] for it in elb.describe_target_groups()["TargetGroups"]],
        "key": [it["KeyId"] for it in cloud.client("kms").list_keys()["Keys"]],
        "queue": cloud.client("sqs").list_queues().get("QueueUrls", []),
        "machine": [it["name"] for it in cloud.client("stepfunctions").list_state_machines()["stateMachines"]],
        "log": [it["logGroupName"] for it in cloud.client("logs").describe_log_groups()["logGroups"]],
    }
    return {f"{kind}/{it}" for kind, found in listings.items() for it in found}
