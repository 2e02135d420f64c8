// Which calls the policies allow, and which not: a table, asked of an IAM simulator. Reads the resolved policies on standard
// input and prints what is wrong, a line each. At the end every statement must have decided at least one row: one that never
// does is either superfluous or untested.
import { readFileSync } from "node:fs";
import { runSimulation } from "@cloud-copilot/iam-simulate";

const world = JSON.parse(readFileSync(0, "utf8"));
const { account, region } = world;
const key = `arn:aws:kms:${region}:${account}:key/Key@identity`;
const otherKey = `arn:aws:kms:${region}:${account}:key/of-production`;
const decided = new Set();
const wrong = [];
let asked = 0;

// A call names every resource that AWS would ask about; it goes through only if all of them do.
async function verdict(principal, [action, ...resources]) {
  for (const [resource, context = {}] of resources) {
    const answer = await runSimulation(
      {
        identityPolicies: principal.policies,
        ...(principal.boundary.length ? { permissionBoundaryPolicies: principal.boundary } : {}),
        serviceControlPolicies: [],
        resourceControlPolicies: [],
        // Without the key's own policy no other one counts.
        ...(resource.startsWith("arn:aws:kms:") ? { resourcePolicy: world.keyPolicy } : {}),
        request: {
          action,
          principal: principal.arn,
          resource: { accountId: account, resource },
          contextVariables: { "aws:RequestedRegion": region, "aws:PrincipalAccount": account, ...context },
        },
      },
      {},
    );
    asked += 1;
    if (answer.resultType === "error") return `error: ${JSON.stringify(answer.errors)}`;
    for (const result of answer.results ?? [answer.result]) {
      const { identityAnalysis, permissionBoundaryAnalysis } = result.analysis;
      for (const [analysis, allows] of [[identityAnalysis, answer.overallResult === "Allowed"], [permissionBoundaryAnalysis, false]]) {
        for (const it of analysis?.denyStatements ?? []) decided.add(it.statement.sid() ?? it.explain.identifier);
        if (allows) for (const it of analysis?.allowStatements ?? []) decided.add(it.statement.sid() ?? it.explain.identifier);
      }
      for (const key of result.ignoredContextKeys ?? []) {
        if (!key.startsWith("aws:")) wrong.push(`${action} on ${resource}: AWS does not know ${key} there`);
      }
    }
    if (answer.overallResult !== "Allowed") return answer.overallResult;
  }
  return "Allowed";
}

const rows = [];
function table(set, role, wanted, calls) {
  for (const [what, call] of Object.entries(calls)) rows.push({ set, role, wanted, what, call });
}

const ec2 = (resource) => `arn:aws:ec2:${region}:${account}:${resource}`;
const rds = (resource, where = region) => `arn:aws:rds:${where}:${account}:${resource}`;
const secret = (name) => `arn:aws:secretsmanager:${region}:${account}:secret:${name}`;

const tags = (kind, values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [`aws:${kind}Tag/${name}`, value]));
const without = (context, ...names) => Object.fromEntries(Object.entries(context).filter(([name]) => !names.includes(name)));
const born = tags("Request", { "kagero:managed": "true", "kagero:install": "demo", "kagero:uid": "0198c0ffee" });
const ours = tags("Resource", { "kagero:managed": "true", "kagero:install": "demo", "kagero:uid": "0198c0ffee" });
const unmanaged = without(ours, "aws:ResourceTag/kagero:managed");
const bornElsewhere = { ...born, "aws:RequestTag/kagero:install": "other" };
const bornUnmanaged = without(born, "aws:RequestTag/kagero:managed");
const bornOfNobody = without(born, "aws:RequestTag/kagero:uid");
const theirs = { ...ours, "aws:ResourceTag/kagero:install": "other" };
const copied = { ...ours, "aws:ResourceTag/kagero:infra": "controller" };
const golden = tags("Resource", { "kagero:sanitized": "true", "kagero:install": "demo" });
const raw = tags("Resource", { "kagero:install": "demo" });

// RunInstances, with what is changed of it.
function launch({ instance = {}, drop = [], volume = {}, card = {}, subnet = "subnet/AppA@network", group = "security-group/AppGroup@network", slot = { "aws:ResourceTag/kagero:slot": "001", "aws:ResourceTag/kagero:install": "demo", "aws:ResourceTag/kagero:infra": "network" }, owner = "amazon", more = [] } = {}) {
  const machine = {
    ...born,
    "ec2:MetadataHttpTokens": "required",
    "ec2:MetadataHttpPutResponseHopLimit": "1",
    "ec2:InstanceType": "t4g.small",
    ...instance,
  };
  return [
    "ec2:RunInstances",
    [ec2("instance/*"), without(machine, ...drop)],
    [ec2("volume/*"), { ...born, "ec2:Encrypted": "true", ...volume }],
    [ec2("network-interface/*"), { ...born, "ec2:AssociatePublicIpAddress": "false", ...card }],
    [ec2(subnet)],
    [ec2(group)],
    [ec2("security-group/sg-0123"), slot],
    [`arn:aws:ec2:${region}::image/ami-0123`, { "ec2:Owner": owner }],
    ...more,
  ];
}

// RestoreDBInstanceFromDBSnapshot, with what is changed of it.
function restore({ action = "rds:RestoreDBInstanceFromDBSnapshot", name = "kagero-demo-0198c0ffee-g1-a1", born: tagged = born, how = {}, from = rds("snapshot:kagero-golden-shop-20261127"), source = golden, group = "subgrp:kagero-demo" } = {}) {
  return [
    action,
    [rds(`db:${name}`), { "rds:DatabaseClass": "db.t4g.micro", "rds:PubliclyAccessible": "false", ...tagged, ...how }],
    [from, { ...tagged, ...source }],
    [rds("pg:kagero-demo-postgres17"), tagged],
    [rds(group), tagged],
    [rds("og:default:postgres-17"), tagged],
  ];
}

// RestoreDBClusterToPointInTime: the copy-on-write clone.
const clone = ({ name = "kagero-demo-0198c0ffee-g1-a1", source = golden, from = "kagero-golden-shop", born: tagged = born } = {}) => [
  "rds:RestoreDBClusterToPointInTime",
  [rds(`cluster:${name}`), tagged],
  [rds(`cluster:${from}`), { ...tagged, ...source }],
  [rds("subgrp:kagero-demo"), tagged],
  [rds("cluster-pg:kagero-demo-aurora-postgresql16"), tagged],
  [rds("og:default:aurora"), tagged],
];

const on = (action, resource, context) => [action, [resource, context]];
const machine = ec2("instance/i-0123");
const database = rds("db:kagero-demo-0198c0ffee-g1-a1");
const cluster = rds("cluster:kagero-demo-0198c0ffee-g1-a1");
const password = secret("rds!db-1234-abcd");
const passwordOf = (name) => ({ "aws:ResourceTag/aws:rds:primaryDBInstanceArn": rds(`db:${name}`) });
const passwordOfCluster = (name) => ({ "aws:ResourceTag/aws:rds:primaryDBClusterArn": rds(`cluster:${name}`) });
const own = secret("kagero/demo/environments/0198c0ffee-AbCdEf");

table("separate", "reader", "may", {
  "list machines": on("ec2:DescribeInstances", "*"),
  "list databases": on("rds:DescribeDBInstances", "*"),
  "find production's tags": on("tag:GetResources", "*"),
  "list secrets": on("secretsmanager:ListSecrets", "*"),
  "see the key": on("kms:DescribeKey", key),
  "read quotas": on("servicequotas:ListServiceQuotas", "*"),
  "read a quota": on("servicequotas:GetServiceQuota", "*"),
  "read a quota that was never raised": on("servicequotas:GetAWSDefaultServiceQuota", "*"),
});
table("separate", "reader", "may not", {
  "launch": launch(),
  "terminate": on("ec2:TerminateInstances", machine, ours),
  "delete a database": on("rds:DeleteDBInstance", database, ours),
  "read user data": on("ec2:DescribeInstanceAttribute", machine, ours),
  "read a password": on("secretsmanager:GetSecretValue", own, ours),
  "see another key": on("kms:DescribeKey", otherKey),
});

table("separate", "provisioner", "may", {
  "launch a machine": launch(),
  "launch one in the other zone, from its own image": launch({ subnet: "subnet/AppB@network", owner: account }),
  "launch one with a masked volume": launch({ more: [[`arn:aws:ec2:${region}::snapshot/snap-0123`, golden]] }),
  "tag it at birth": on("ec2:CreateTags", machine, { ...born, "ec2:CreateAction": "RunInstances" }),
  "start it": on("ec2:StartInstances", machine, ours),
  "stop it": on("ec2:StopInstances", machine, ours),
  "give it the profile of machines": on("iam:PassRole", `arn:aws:iam::${account}:role/kagero-demo-machine`, { "iam:PassedToService": "ec2.amazonaws.com" }),
  "restore a golden snapshot": restore(),
  "restore a golden database to a point in time": restore({ action: "rds:RestoreDBInstanceToPointInTime", from: rds("db:kagero-golden-shop") }),
  "clone a golden cluster": clone(),
  "put an instance into the clone": ["rds:CreateDBInstance", [database, { ...born, "rds:DatabaseClass": "db.serverless" }], [cluster, { ...born, ...ours }], [rds("subgrp:kagero-demo"), born]],
  "tag a database at birth": on("rds:AddTagsToResource", database, born),
  "change its password": on("rds:ModifyDBInstance", database, ours),
  "stop it at night": on("rds:StopDBInstance", database, ours),
  "let RDS make its password": on("secretsmanager:CreateSecret", secret("rds!db-1234"), { "aws:ViaAWSService": "true" }),
  "read its password": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-demo-0198c0ffee-g1-a1")),
  "change a cluster's password": on("rds:ModifyDBCluster", cluster, ours),
  "read the password of a cluster": on("secretsmanager:GetSecretValue", secret("rds!cluster-1234-abcd"), passwordOfCluster("kagero-demo-0198c0ffee-g1")),
  "make a secret": on("secretsmanager:CreateSecret", own, born),
  "read that secret": on("secretsmanager:GetSecretValue", own, ours),
  "use the key": on("kms:GenerateDataKey", key),
  "lend the key to RDS": on("kms:CreateGrant", key, { "kms:GrantIsForAWSResource": "true" }),
});
table("separate", "provisioner", "may not", {
  "launch without IMDSv2": launch({ instance: { "ec2:MetadataHttpTokens": "optional" } }),
  "launch without saying anything about IMDSv2": launch({ drop: ["ec2:MetadataHttpTokens"] }),
  "launch with a longer way to the metadata": launch({ instance: { "ec2:MetadataHttpPutResponseHopLimit": "2" } }),
  "launch a large type": launch({ instance: { "ec2:InstanceType": "m7i.48xlarge" } }),
  "launch without tags": launch({ drop: Object.keys(born) }),
  "launch without an environment's uid": launch({ drop: ["aws:RequestTag/kagero:uid"] }),
  "launch for another installation": launch({ instance: { "aws:RequestTag/kagero:install": "other" } }),
  "launch unmanaged": launch({ instance: { "aws:RequestTag/kagero:managed": "false" } }),
  "launch with an untagged volume": launch({ volume: { "aws:RequestTag/kagero:managed": "no" } }),
  "launch with a plain volume": launch({ volume: { "ec2:Encrypted": "false" } }),
  "launch with a public address": launch({ card: { "ec2:AssociatePublicIpAddress": "true" } }),
  "launch into the subnets of controllers": launch({ subnet: "subnet/ControlA@network" }),
  "launch into a foreign subnet": launch({ subnet: "subnet/subnet-production" }),
  "launch with the group of controllers": launch({ group: "security-group/ControllerGroup@network" }),
  "launch with the group of a slot of others": launch({ slot: { "aws:ResourceTag/kagero:slot": "001", "aws:ResourceTag/kagero:install": "other", "aws:ResourceTag/kagero:infra": "network" } }),
  "launch with any other group": launch({ slot: { "aws:ResourceTag/kagero:install": "demo", "aws:ResourceTag/kagero:infra": "network" } }),
  "launch from a stranger's image": launch({ owner: "999999999999" }),
  "launch with a key pair": launch({ more: [[ec2("key-pair/admin")]] }),
  "launch with an unmasked volume": launch({ more: [[`arn:aws:ec2:${region}::snapshot/snap-0123`, raw]] }),
  "launch with the controller's profile": on("iam:PassRole", `arn:aws:iam::${account}:role/kagero-demo-controller`, { "iam:PassedToService": "ec2.amazonaws.com" }),
  "launch with an administrator's profile": on("iam:PassRole", `arn:aws:iam::${account}:role/admin`, { "iam:PassedToService": "ec2.amazonaws.com" }),
  "tag a machine that exists": on("ec2:CreateTags", machine, born),
  "tag another kind of thing": on("ec2:CreateTags", ec2("vpc/vpc-production"), { ...born, "ec2:CreateAction": "RunInstances" }),
  "take tags off": on("ec2:DeleteTags", machine, ours),
  "stop a machine of others": on("ec2:StopInstances", machine, theirs),
  "stop production": on("ec2:StopInstances", machine, { "aws:ResourceTag/env": "production" }),
  "stop the controller, whatever its tags": on("ec2:StopInstances", machine, copied),
  "terminate its own machine": on("ec2:TerminateInstances", machine, ours),
  "unlock the metadata": on("ec2:ModifyInstanceMetadataOptions", machine, ours),
  "switch termination protection": on("ec2:ModifyInstanceAttribute", machine, ours),
  "open a group": on("ec2:AuthorizeSecurityGroupIngress", ec2("security-group/sg-0123"), raw),
  "restore production's snapshot": restore({ from: rds("snapshot:production-2026-11-27"), source: {} }),
  "restore an automated snapshot of production": restore({ from: rds("snapshot:rds:production-2026-11-27"), source: {} }),
  "restore a golden snapshot that is not sanitized": restore({ source: raw }),
  "restore the golden snapshot of others": restore({ source: { ...golden, "aws:ResourceTag/kagero:install": "other" } }),
  "restore production to a point in time": restore({ action: "rds:RestoreDBInstanceToPointInTime", from: rds("db:production"), source: { "aws:ResourceTag/env": "production" } }),
  "restore under another name": restore({ name: "shop" }),
  "restore under a name of others": restore({ name: "kagero-other-0198c0ffee" }),
  "restore without tags": restore({ born: {} }),
  "restore for another installation": restore({ born: { ...born, "aws:RequestTag/kagero:install": "other" } }),
  "restore a large class": restore({ how: { "rds:DatabaseClass": "db.r8g.48xlarge" } }),
  "restore with a public address": restore({ how: { "rds:PubliclyAccessible": "true" } }),
  "restore into other subnets": restore({ group: "subgrp:production" }),
  "clone production": clone({ from: "production", source: {} }),
  "clone under another name": clone({ name: "shop" }),
  "put an instance into production's cluster": ["rds:CreateDBInstance", [database, born], [rds("cluster:production"), born]],
  "tag a database that is ours already": on("rds:AddTagsToResource", database, { ...born, ...ours }),
  "tag the store": on("rds:AddTagsToResource", rds("db:kagero-store-demo"), { ...born, "aws:ResourceTag/kagero:infra": "controller" }),
  "tag a thing of the installation that has our name": on("rds:AddTagsToResource", database, { ...born, "aws:ResourceTag/kagero:infra": "golden" }),
  "tag production": on("rds:AddTagsToResource", rds("db:production"), born),
  "tag a secret anew": on("secretsmanager:TagResource", own, { ...born, ...ours }),
  "tag a secret of the installation": on("secretsmanager:TagResource", own, { ...born, "aws:ResourceTag/kagero:infra": "controller" }),
  "change production": on("rds:ModifyDBInstance", rds("db:production"), {}),
  "change production, whatever its tags": on("rds:ModifyDBInstance", rds("db:production"), ours),
  "change a database of others": on("rds:ModifyDBInstance", rds("db:kagero-other-1"), theirs),
  "change what has our name and no tags": on("rds:ModifyDBInstance", database, {}),
  "stop production's cluster": on("rds:StopDBCluster", rds("cluster:production"), ours),
  "delete its own database": on("rds:DeleteDBInstance", database, ours),
  "take a snapshot": ["rds:CreateDBSnapshot", [database, { ...born, ...ours }], [rds("snapshot:kagero-demo-last"), born]],
  "delete a snapshot": on("rds:DeleteDBSnapshot", rds("snapshot:kagero-golden-shop-20261127"), golden),
  "share a snapshot": on("rds:ModifyDBSnapshotAttribute", rds("snapshot:kagero-golden-shop-20261127"), golden),
  "read production's password": on("secretsmanager:GetSecretValue", password, passwordOf("production")),
  "read the password of production's cluster": on("secretsmanager:GetSecretValue", secret("rds!cluster-1234-abcd"), passwordOfCluster("production")),
  "change production's cluster": on("rds:ModifyDBCluster", rds("cluster:production"), ours),
  "read the store's password": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-store-demo")),
  "read the password of a database of others": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-other-1")),
  "read the controller's secrets": on("secretsmanager:GetSecretValue", secret("kagero/demo/webhook-AbCdEf"), {}),
  "read a secret of others": on("secretsmanager:GetSecretValue", secret("kagero/other/environments/1-AbCdEf"), theirs),
  "make a secret of RDS by itself": on("secretsmanager:CreateSecret", secret("rds!db-1234"), born),
  "lend the key to a stranger": on("kms:CreateGrant", key, { "kms:GrantIsForAWSResource": "false" }),
  "work in another Region": on("rds:StopDBInstance", database, { ...ours, "aws:RequestedRegion": "us-east-1" }),
  "launch with a volume of another installation": launch({ volume: { "aws:RequestTag/kagero:install": "other" } }),
  "launch with an unmanaged network card": launch({ card: { "aws:RequestTag/kagero:managed": "no" } }),
  "launch with a network card of another installation": launch({ card: { "aws:RequestTag/kagero:install": "other" } }),
  "launch with a group that only looks like a slot": launch({ slot: { "aws:ResourceTag/kagero:slot": "001", "aws:ResourceTag/kagero:install": "demo" } }),
  "launch with the masked volume of others": launch({ more: [[`arn:aws:ec2:${region}::snapshot/snap-0123`, { ...golden, "aws:ResourceTag/kagero:install": "other" }]] }),
  "tag for another installation": on("ec2:CreateTags", machine, { ...bornElsewhere, "ec2:CreateAction": "RunInstances" }),
  "tag as unmanaged": on("ec2:CreateTags", machine, { ...bornUnmanaged, "ec2:CreateAction": "RunInstances" }),
  "stop what is unmanaged": on("ec2:StopInstances", machine, unmanaged),
  "use another key": on("kms:Decrypt", otherKey),
  "lend another key": on("kms:CreateGrant", otherKey, { "kms:GrantIsForAWSResource": "true" }),
  "give the profile of machines to something else": on("iam:PassRole", `arn:aws:iam::${account}:role/kagero-demo-machine`, { "iam:PassedToService": "lambda.amazonaws.com" }),
  "restore unmanaged": restore({ born: bornUnmanaged }),
  "restore without an environment's uid": restore({ born: bornOfNobody }),
  "restore production's snapshot, whatever its tags": restore({ from: rds("snapshot:production-2026-11-27") }),
  "clone unmanaged": clone({ born: bornUnmanaged }),
  "clone for another installation": clone({ born: bornElsewhere }),
  "clone without an environment's uid": clone({ born: bornOfNobody }),
  "put an instance into a clone of others": on("rds:CreateDBInstance", cluster, { ...born, ...theirs }),
  "put an instance into an unmanaged cluster": on("rds:CreateDBInstance", cluster, { ...born, ...unmanaged }),
  "put an instance into production's cluster, whatever its tags": on("rds:CreateDBInstance", rds("cluster:production"), { ...born, ...ours }),
  "tag a database for another installation": on("rds:AddTagsToResource", database, bornElsewhere),
  "tag a database as unmanaged": on("rds:AddTagsToResource", database, bornUnmanaged),
  "change a database of others that has our name": on("rds:ModifyDBInstance", database, theirs),
  "change an unmanaged database": on("rds:ModifyDBInstance", database, unmanaged),
  "let a service make another secret": on("secretsmanager:CreateSecret", secret("production-AbCdEf"), { "aws:ViaAWSService": "true" }),
  "read another secret": on("secretsmanager:GetSecretValue", secret("production-AbCdEf"), passwordOf("kagero-demo-0198c0ffee-g1-a1")),
  "read another secret with a cluster's tag": on("secretsmanager:GetSecretValue", secret("production-AbCdEf"), passwordOfCluster("kagero-demo-0198c0ffee-g1")),
  "make a secret for another installation": on("secretsmanager:CreateSecret", own, bornElsewhere),
  "make an unmanaged secret": on("secretsmanager:CreateSecret", own, bornUnmanaged),
  "read a secret of others that has our name": on("secretsmanager:GetSecretValue", own, theirs),
  "read an unmanaged secret": on("secretsmanager:GetSecretValue", own, unmanaged),
  "read the controller's secrets, whatever their tags": on("secretsmanager:GetSecretValue", secret("kagero/demo/webhook-AbCdEf"), ours),
  "make a user": on("iam:CreateUser", `arn:aws:iam::${account}:user/kagero`),
});

table("separate", "reaper", "may", {
  "terminate our machine": on("ec2:TerminateInstances", machine, ours),
  "delete a volume that was left": on("ec2:DeleteVolume", ec2("volume/vol-0123"), ours),
  "delete our database": on("rds:DeleteDBInstance", database, ours),
  "delete our clone": ["rds:DeleteDBCluster", [cluster, ours], [rds("cluster-snapshot:kagero-demo-0198c0ffee"), {}]],
  "delete a secret": on("secretsmanager:DeleteSecret", own, ours),
});
table("separate", "reaper", "may not", {
  "terminate a machine without tags": on("ec2:TerminateInstances", machine, {}),
  "terminate production": on("ec2:TerminateInstances", machine, { "aws:ResourceTag/env": "production" }),
  "terminate a machine of others": on("ec2:TerminateInstances", machine, theirs),
  "terminate what is only managed": on("ec2:TerminateInstances", machine, { "aws:ResourceTag/kagero:managed": "true" }),
  "terminate the controller, whatever its tags": on("ec2:TerminateInstances", machine, copied),
  "delete production": on("rds:DeleteDBInstance", rds("db:production"), { "aws:ResourceTag/env": "production" }),
  "delete production with copied tags": on("rds:DeleteDBInstance", rds("db:production"), ours),
  "delete what has our name and no tags": on("rds:DeleteDBInstance", database, {}),
  "delete a database of others": on("rds:DeleteDBInstance", rds("db:kagero-other-1"), theirs),
  "delete a database of others with our name": on("rds:DeleteDBInstance", rds("db:kagero-demo-two-1"), { ...theirs, "aws:ResourceTag/kagero:install": "demo-two" }),
  "delete the store": on("rds:DeleteDBInstance", rds("db:kagero-store-demo"), copied),
  "delete the golden database": on("rds:DeleteDBInstance", rds("db:kagero-golden-shop"), golden),
  "delete the database being masked": on("rds:DeleteDBInstance", rds("db:kagero-quarantine-demo-1"), { "aws:ResourceTag/kagero:infra": "golden" }),
  "delete ours in another Region": on("rds:DeleteDBInstance", rds("db:kagero-demo-1", "us-east-1"), { ...ours, "aws:RequestedRegion": "us-east-1" }),
  "delete production's cluster": ["rds:DeleteDBCluster", [rds("cluster:production"), ours], [rds("cluster-snapshot:kagero-demo-1"), {}]],
  "delete a snapshot": on("rds:DeleteDBSnapshot", rds("snapshot:kagero-golden-shop-20261127"), golden),
  "delete a cluster's snapshot": on("rds:DeleteDBClusterSnapshot", rds("cluster-snapshot:kagero-demo-1"), ours),
  "delete a volume's snapshot": on("ec2:DeleteSnapshot", `arn:aws:ec2:${region}::snapshot/snap-0123`, ours),
  "take a last snapshot": ["rds:CreateDBSnapshot", [database, { ...born, ...ours }], [rds("snapshot:kagero-demo-last"), born]],
  "switch deletion protection off": on("rds:ModifyDBInstance", database, ours),
  "switch termination protection off": on("ec2:ModifyInstanceAttribute", machine, ours),
  "make our tags": on("ec2:CreateTags", machine, born),
  "make our tags as if at birth": on("ec2:CreateTags", machine, { ...born, "ec2:CreateAction": "RunInstances" }),
  "tag a database": on("rds:AddTagsToResource", database, born),
  "take tags off a database": on("rds:RemoveTagsFromResource", database, ours),
  "launch": launch(),
  "restore": restore(),
  "read a secret": on("secretsmanager:GetSecretValue", own, ours),
  "terminate what is unmanaged": on("ec2:TerminateInstances", machine, unmanaged),
  "delete an unmanaged database": on("rds:DeleteDBInstance", database, unmanaged),
  "delete an unmanaged secret": on("secretsmanager:DeleteSecret", own, unmanaged),
  "delete a secret of others that has our name": on("secretsmanager:DeleteSecret", own, theirs),
  "delete a secret of the installation": on("secretsmanager:DeleteSecret", secret("kagero/demo/webhook-AbCdEf"), ours),
});

const role = (name) => `arn:aws:iam::${account}:role/${name}`;
table("separate", "controller", "may", {
  "take on the reader's role": on("sts:AssumeRole", role("kagero-demo-reader")),
  "take on the reaper's role": on("sts:AssumeRole", role("kagero-demo-reaper")),
  "fetch the release": on("s3:GetObject", "arn:aws:s3:::releases/kagero.tar.gz", { "aws:ResourceAccount": account }),
  "read its configuration": on("ssm:GetParameter", `arn:aws:ssm:${region}:${account}:parameter/kagero/demo/kagero.toml`),
  "read its secrets": on("secretsmanager:GetSecretValue", secret("kagero/demo/webhook-AbCdEf")),
  "read the store's password": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-store-demo")),
  "decrypt": on("kms:Decrypt", key),
  "log": on("logs:PutLogEvents", `arn:aws:logs:${region}:${account}:log-group:/kagero/demo/controller:log-stream:i-0123`),
  "count": on("cloudwatch:PutMetricData", "*", { "cloudwatch:namespace": "Kagero/demo" }),
});
table("separate", "controller", "may not", {
  "launch by itself": launch(),
  "terminate by itself": on("ec2:TerminateInstances", machine, ours),
  "take on an administrator's role": on("sts:AssumeRole", role("admin")),
  "take on a role of others": on("sts:AssumeRole", role("kagero-other-reaper")),
  "read a secret of others": on("secretsmanager:GetSecretValue", secret("kagero/other/webhook-AbCdEf")),
  "read production's password": on("secretsmanager:GetSecretValue", password, passwordOf("production")),
  "read other configuration": on("ssm:GetParameter", `arn:aws:ssm:${region}:${account}:parameter/production/password`),
  "read another secret": on("secretsmanager:GetSecretValue", secret("production-AbCdEf"), passwordOf("kagero-store-demo")),
  "decrypt with another key": on("kms:Decrypt", otherKey),
  "log elsewhere": on("logs:PutLogEvents", `arn:aws:logs:${region}:${account}:log-group:/production:log-stream:1`),
  "count elsewhere": on("cloudwatch:PutMetricData", "*", { "cloudwatch:namespace": "Production" }),
  "fetch from another bucket": on("s3:GetObject", "arn:aws:s3:::backups/production.dump"),
  "write a release": on("s3:PutObject", "arn:aws:s3:::releases/kagero.tar.gz"),
});

table("separate", "machine", "may", { "fetch the agent": on("s3:GetObject", "arn:aws:s3:::releases/agent/kagero") });
table("separate", "machine", "may not", {
  "fetch anything else": on("s3:GetObject", "arn:aws:s3:::releases/kagero.toml"),
  "look around": on("ec2:DescribeInstances", "*"),
  "read a secret": on("secretsmanager:GetSecretValue", own, ours),
});

// With all rights in one role the boundary still stands.
table("together", "controller", "may", {
  "launch a machine": launch(),
  "restore a golden snapshot": restore(),
  "terminate our machine": on("ec2:TerminateInstances", machine, ours),
  "delete our database": on("rds:DeleteDBInstance", database, ours),
});
table("together", "controller", "may not", {
  "delete production with copied tags": on("rds:DeleteDBInstance", rds("db:production"), ours),
  "delete the store, whatever its tags": on("rds:DeleteDBInstance", rds("db:kagero-demo-store"), copied),
  "delete a snapshot": on("rds:DeleteDBSnapshot", rds("snapshot:kagero-golden-shop-20261127"), golden),
  "tag what exists": on("ec2:CreateTags", machine, born),
  "launch with any profile": on("iam:PassRole", role("kagero-demo-machine"), { "iam:PassedToService": "ec2.amazonaws.com" }),
  "take on a role": on("sts:AssumeRole", role("kagero-demo-reaper")),
});

// The pipeline makes golden snapshots, and has a copy of production in its hands.
const copy = rds("db:kagero-quarantine-demo-main");
const made = rds("snapshot:kagero-golden-main-20261127020007");
const marks = tags("Request", { "kagero:sanitized": "true", "kagero:install": "demo", "kagero:infra": "golden" });
const quarantine = ({ name = copy, from = "production-1", group = "kagero-quarantine-demo-main" } = {}) => [
  "rds:RestoreDBInstanceFromDBSnapshot",
  [name, marks],
  [rds(`snapshot:${from}`), marks],
  [rds(`subgrp:${group}`), marks],
  [rds("pg:kagero-demo-postgres17"), marks],
  [rds("og:default:postgres-17"), marks],
];
const task = `arn:aws:ecs:${region}:${account}:task-definition/kagero-demo-golden-main:1`;
const taskCluster = `arn:aws:ecs:${region}:${account}:cluster/kagero-demo-golden-main`;
table("golden", "golden-main", "may", {
  "look for snapshots": on("rds:DescribeDBSnapshots", "*"),
  "restore into quarantine": quarantine(),
  "snapshot what is masked": ["rds:CreateDBSnapshot", [copy, marks], [made, marks]],
  "mark it at birth": on("rds:AddTagsToResource", made, marks),
  "remove the copy": on("rds:DeleteDBInstance", copy, { "aws:ResourceTag/kagero:infra": "golden" }),
  "let RDS make its password": on("secretsmanager:CreateSecret", secret("rds!db-1234")),
  "use the key": on("kms:GenerateDataKey", key),
  "lend the key to RDS": on("kms:CreateGrant", key, { "kms:GrantIsForAWSResource": "true" }),
  "start masking": on("ecs:RunTask", task, { "ecs:cluster": taskCluster }),
  "see it end": on("ecs:DescribeTasks", `arn:aws:ecs:${region}:${account}:task/kagero-demo-golden-main/1`),
  "give it its roles": on("iam:PassRole", role("kagero-demo-golden-main-masking"), { "iam:PassedToService": "ecs-tasks.amazonaws.com" }),
  "hear it end": on("events:PutRule", `arn:aws:events:${region}:${account}:rule/StepFunctionsGetEventsForECSTaskRule`),
  "log": on("logs:CreateLogDelivery", "*"),
  "trace": on("xray:PutTraceSegments", "*"),
});
table("golden", "golden-main", "may not", {
  "restore beside environments": quarantine({ name: database }),
  "restore into their subnets": quarantine({ group: "kagero-demo" }),
  "restore another snapshot": quarantine({ from: "accounting-1" }),
  "call an existing snapshot masked": on("rds:AddTagsToResource", made, { ...marks, "aws:ResourceTag/kagero:install": "demo" }),
  "call production's snapshot masked": on("rds:AddTagsToResource", rds("snapshot:production-1"), marks),
  "snapshot anything else": ["rds:CreateDBSnapshot", [rds("db:production"), marks], [made, marks]],
  "snapshot under another name": ["rds:CreateDBSnapshot", [copy, marks], [rds("snapshot:production-2"), marks]],
  "delete a snapshot": on("rds:DeleteDBSnapshot", made, golden),
  "delete production": on("rds:DeleteDBInstance", rds("db:production")),
  "delete an environment's database": on("rds:DeleteDBInstance", database, ours),
  "change production": on("rds:ModifyDBInstance", rds("db:production")),
  "run the task elsewhere": on("ecs:RunTask", task, { "ecs:cluster": `arn:aws:ecs:${region}:${account}:cluster/production` }),
  "run another task": on("ecs:RunTask", `arn:aws:ecs:${region}:${account}:task-definition/admin:1`, { "ecs:cluster": taskCluster }),
  "give the task other roles": on("iam:PassRole", role("admin"), { "iam:PassedToService": "ecs-tasks.amazonaws.com" }),
  "read the password": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-quarantine-demo-main")),
  "make another secret": on("secretsmanager:CreateSecret", secret("production-AbCdEf")),
  "use another key": on("kms:GenerateDataKey", otherKey),
  "lend the key to a stranger": on("kms:CreateGrant", key, { "kms:GrantIsForAWSResource": "false" }),
  "lend another key": on("kms:CreateGrant", otherKey, { "kms:GrantIsForAWSResource": "true" }),
  "stop another task": on("ecs:StopTask", `arn:aws:ecs:${region}:${account}:task/production/1`),
  "give its roles to something else": on("iam:PassRole", role("kagero-demo-golden-main-masking"), { "iam:PassedToService": "ec2.amazonaws.com" }),
  "hear of other things": on("events:PutRule", `arn:aws:events:${region}:${account}:rule/production`),
});
table("golden", "golden-main-masking", "may", {
  "read the password of the copy": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-quarantine-demo-main")),
  "decrypt it": on("kms:Decrypt", key),
});
table("golden", "golden-main-masking", "may not", {
  "read the password of the store": on("secretsmanager:GetSecretValue", password, passwordOf("kagero-store-demo")),
  "read the password of production": on("secretsmanager:GetSecretValue", password, passwordOf("production")),
  "delete the copy": on("rds:DeleteDBInstance", copy),
  "read another secret": on("secretsmanager:GetSecretValue", secret("production-AbCdEf"), passwordOf("kagero-quarantine-demo-main")),
  "decrypt with another key": on("kms:Decrypt", otherKey),
});

// What is denied outright has to hold whatever else is allowed: somebody may add to a policy.
const anyone = (denials) => ({ arn: role("anyone"), policies: [{ name: "all", policy: allowing("*") }, ...denials], boundary: [] });
const allowing = (action) => ({ Version: "2012-10-17", Statement: [{ Sid: "Everything", Effect: "Allow", Action: action, Resource: "*" }] });
const { policies: provisions, boundary: bounds } = world.separate.provisioner;
const denials = ({ name, policy }) => ({ name, policy: { ...policy, Statement: policy.Statement.filter((it) => it.Effect === "Deny") } });
world.anyone = {
  bounded: anyone(bounds.map(denials)),
  provisioner: anyone(provisions.map(denials).filter((it) => it.policy.Statement.length)),
  reaper: anyone(world.separate.reaper.policies.map(denials).filter((it) => it.policy.Statement.length)),
};
table("anyone", "bounded", "may not", {
  "delete a snapshot": on("rds:DeleteDBSnapshot", rds("snapshot:kagero-golden-shop-20261127"), golden),
  "share a volume's snapshot": on("ec2:ModifySnapshotAttribute", `arn:aws:ec2:${region}::snapshot/snap-0123`, golden),
  "tag a machine that exists": on("ec2:CreateTags", machine, born),
  "tag a database that is ours already": on("rds:AddTagsToResource", database, { ...born, ...ours }),
  "tag the store": on("rds:AddTagsToResource", rds("db:kagero-store-demo"), { ...born, "aws:ResourceTag/kagero:infra": "controller" }),
  "take tags off": on("ec2:DeleteTags", machine, ours),
  "take tags off a database": on("rds:RemoveTagsFromResource", database, ours),
  "switch termination protection off": on("ec2:ModifyInstanceAttribute", machine, ours),
  "delete production": on("rds:DeleteDBInstance", rds("db:production"), ours),
  "terminate the controller": on("ec2:TerminateInstances", machine, copied),
  "work in another Region": on("ec2:TerminateInstances", machine, { ...ours, "aws:RequestedRegion": "us-east-1" }),
  "give a machine another role": on("iam:PassRole", role("admin"), { "iam:PassedToService": "ec2.amazonaws.com" }),
  "take on another role": on("sts:AssumeRole", role("admin")),
});
table("anyone", "provisioner", "may not", {
  "terminate": on("ec2:TerminateInstances", machine, ours),
  "delete a database": on("rds:DeleteDBInstance", database, ours),
  "delete a secret": on("secretsmanager:DeleteSecret", own, ours),
});
table("anyone", "reaper", "may not", {
  "launch": launch(),
  "restore": restore(),
  "tag": on("ec2:CreateTags", machine, born),
  "change a database": on("rds:ModifyDBInstance", database, ours),
  "read a secret": on("secretsmanager:GetSecretValue", own, ours),
});

for (const { set, role, wanted, what, call } of rows) {
  const found = await verdict(world[set][role], call);
  if ((found === "Allowed") !== (wanted === "may")) wrong.push(`${role} (${set}) ${wanted}: ${what}: ${found}`);
}
const principals = [...Object.values(world.separate), world.golden["golden-main"], world.golden["golden-main-masking"]];
const every = principals.flatMap((it) => [...it.policies, ...it.boundary]).flatMap(({ policy }) => policy.Statement);
for (const { Sid } of every) {
  if (Sid && Sid !== "AtMost" && !decided.has(Sid)) wrong.push(`no row of the table is decided by the statement ${Sid}`);
}

// Each condition, each bound on resources and each denial is needed: without it some row that must be denied is allowed. The
// boundary and the roles' own denials stand in for much, so here they are tried alone, and without them the policies.
const matches = (patterns, action) =>
  [patterns].flat().some((it) => new RegExp(`^${it.replaceAll("*", ".*")}$`, "i").test(action));
async function notices(principal, statement, change, candidates) {
  const asked = candidates.filter(({ call }) => !statement.Action || matches(statement.Action, call[0]));
  const kept = { ...statement };
  const refused = [];
  for (const it of asked) if ((await verdict(principal, it.call)) !== "Allowed") refused.push(it);
  change(statement);
  let noticed = false;
  for (const it of refused) if (!noticed) noticed = (await verdict(principal, it.call)) === "Allowed";
  for (const key of Object.keys(statement)) delete statement[key];
  Object.assign(statement, kept);
  return noticed;
}
for (const [set, name] of [
  ...["reader", "provisioner", "reaper", "controller", "machine"].map((it) => ["separate", it]),
  ...["golden-main", "golden-main-masking"].map((it) => ["golden", it]),
  ...["bounded", "provisioner", "reaper"].map((it) => ["anyone", it]),
]) {
  const principal = { ...world[set][name], boundary: [] };
  const candidates = rows.filter((it) => it.set === set && it.role === name && it.wanted === "may not");
  if (set === "separate") {
    principal.policies = principal.policies
      .map(({ name, policy }) => ({ name, policy: { ...policy, Statement: policy.Statement.filter((it) => it.Effect === "Allow") } }))
      .filter((it) => it.policy.Statement.length);
  }
  for (const { name: policy, policy: { Statement } } of principal.policies) {
    for (const statement of Statement) {
      const changes = {};
      if (statement.Effect === "Deny") {
        changes["the denial"] = (it) => Object.assign(it, { Effect: "Allow" });
      } else {
        for (const [operator, conditions] of Object.entries(statement.Condition ?? {})) {
          for (const tag of Object.keys(conditions)) {
            changes[`the condition ${operator} ${tag}`] = (it) => {
              const { [tag]: _, ...others } = it.Condition[operator];
              const { [operator]: __, ...rest } = it.Condition;
              it.Condition = Object.keys(others).length ? { ...rest, [operator]: others } : rest;
              if (!Object.keys(it.Condition).length) delete it.Condition;
            };
          }
        }
        // That it is a volume, say, and no subnet, follows from the conditions too.
        const bounded = [statement.Resource].flat().some((it) => it !== "*" && !/:ec2:.*\/\*$/.test(it));
        if (bounded) changes["the bound on resources"] = (it) => Object.assign(it, { Resource: "*" });
      }
      if (statement.Sid === "Everything") continue;
      for (const [what, change] of Object.entries(changes)) {
        if (!(await notices(principal, statement, change, candidates))) {
          wrong.push(`no row of the table needs ${what} in ${policy}, ${statement.Sid ?? "its statement"}`);
        }
      }
    }
  }
}
if (asked < 100) wrong.push(`only ${asked} questions were asked`);

for (const line of new Set(wrong)) console.log(line);
process.exitCode = wrong.length ? 1 : 0;
