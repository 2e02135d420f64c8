"""Who can open a connection to whom, computed from the templates: groups, network ACLs, routes.

Both tables below are exact: a rule too many shows as much as a rule too few. `self_test` proves that, with every rule of the
templates taken out once, and some put in that must not be there.
"""

import copy
import dataclasses
import ipaddress

from template import Stack

ANY = "0.0.0.0/0"
OUTSIDE = "198.51.100.7"
# Answers go to a port that the caller's system has chosen: load balancers and NAT take any from 1024 on. All of them must
# work. A caller who means harm chooses the one that does, such as that of a service.
ANSWERS = (1024, 40000, 65535)
CHOSEN = (80, 443, 3306, 5432, 7780, 8000, 8080) + ANSWERS
PROBES = [("tcp", port) for port in (22, 53, 80, 443, 1024, 3306, 5432, 7780, 8000, 8080, 9999, 65535)]
PROBES += [("udp", 53), ("udp", 9999), ("icmp", 0)]
HIGH = {port for protocol, port in PROBES if protocol == "tcp" and port >= 1024}
DATABASES = {3306, 5432}
PROTOCOLS = {"tcp": "6", "udp": "17", "icmp": "1"}

# Where a thing stands, and the groups that it carries. `serve` is a controller with its gateway in one process.
ACTORS = {
    "internet": (None, []),
    "load balancer": ("Public", ["LbGroup"]),
    "gateway": ("Router", ["GatewayGroup"]),
    "controller": ("Control", ["ControllerGroup"]),
    "serve": ("Control", ["ControllerGroup", "GatewayGroup"]),
    "machine": ("App", ["AppGroup"]),
    "machine 1": ("App", ["AppGroup", "Slot01"]),
    "machine 2": ("App", ["AppGroup", "Slot02"]),
    "database 1": ("Db", ["Slot01"]),
    "database 2": ("Db", ["Slot02"]),
    "shared server": ("Db", ["DatabaseGroup"]),
    "endpoint": ("Control", ["EndpointGroup"]),
    "store": ("Control", ["StoreGroup"]),
    "masking task": ("Control", ["MaskingGroup"]),
    "copy of production": ("Db", ["QuarantineGroup"]),
}
MACHINES = ("machine", "machine 1", "machine 2")
SERVERS = ("database 1", "database 2", "shared server")

# From, to, ports. What is not here must not be possible.
WANTED = {
    ("internet", "load balancer"): {80, 443},
    ("load balancer", "gateway"): {8080},
    ("load balancer", "controller"): {8000},
    ("load balancer", "serve"): {8000, 8080},
    ("machine 1", "database 1"): DATABASES,
    ("machine 2", "database 2"): DATABASES,
    ("controller", "internet"): {443},
    ("serve", "internet"): {443},
    ("masking task", "internet"): {443},
    ("masking task", "endpoint"): {443},
    ("masking task", "copy of production"): DATABASES,
}
for _caller in ("gateway", "controller", "serve"):
    WANTED[_caller, "endpoint"] = {443}
    WANTED[_caller, "store"] = {5432}
for _machine in MACHINES:
    WANTED["gateway", _machine] = HIGH
    WANTED["serve", _machine] = HIGH
    WANTED["controller", _machine] = {7780}
    WANTED[_machine, "shared server"] = DATABASES
    WANTED[_machine, "internet"] = {80, 443}
for _server in SERVERS:
    WANTED["controller", _server] = DATABASES
    WANTED["serve", _server] = DATABASES

# The rule of a slot joins both ways, and RDS could use it from the very port that it serves. It opens no connections.
TOLERATED = {("database 1", "machine 1"): DATABASES, ("database 2", "machine 2"): DATABASES}

# What is left between subnets if every group let everything through: the ACLs alone. Where one side may be called, it can
# itself call high ports from the port that it is called on; nothing else is open.
WANTED_OF_ACLS = {
    ("Public", "Router"): {8080},
    ("Public", "Control"): {8000, 8080},
    ("Router", "App"): HIGH,
    ("Router", "Control"): {443, 5432},
    ("Control", "Control"): {443} | HIGH,
    ("Control", "App"): HIGH,
    ("Control", "Db"): DATABASES,
    ("App", "Router"): HIGH,
    ("App", "Control"): HIGH,
    ("App", "Db"): DATABASES,
    ("Db", "App"): HIGH,
    ("Db", "Control"): HIGH,
    ("Router", "Public"): HIGH,
    ("Control", "Public"): HIGH,
    ("Control", "Router"): HIGH,
    ("internet", "Public"): {80, 443} | HIGH,
    ("Public", "internet"): {80, 443} | HIGH,
    ("App", "internet"): {80, 443},
    ("Control", "internet"): {443},
}


@dataclasses.dataclass
class Network:
    """What the templates say, by logical id. Rules are lists so that a test can take one out or put one in."""

    subnets: dict  # "PublicA" -> its block
    acl_of: dict  # "PublicA" -> "PublicAcl"
    entries: list  # dicts with acl, egress, number, allow, protocol, ports, block
    rules: list  # dicts with group, egress, protocol, ports, peer (a group or a block)
    routes: list  # dicts with table, block, target
    table_of: dict  # "PublicA" -> "PublicRoutes"
    nat_subnet: dict  # "NatA" -> "PublicA"


def read(parameters=None, templates=None):
    """What the templates say; `templates` are copies, by name, in place of those in infra/."""
    templates = templates or {}
    network = Stack("network", {"Install": "demo", **(parameters or {})}, template=templates.get("network"))
    slots = Stack("slots", {"Install": "demo"}, network.exports, templates.get("slots"))
    needed = {"SourcePrefix": "production-", "Databases": "shop", "MaskImage": f"masks@sha256:{'0' * 64}", "Install": "demo"}
    # Of what the stacks in between export it needs these; reachability does not depend on them.
    others = {f"kagero-demo-{key}": key for key in ("KeyArn", "AlarmTopicArn")}
    golden = Stack("golden", needed, {**network.exports, **others})

    def name(reference):
        return reference.split("@")[0]

    rules = []
    for stack in (network, slots, golden):
        for group, it in stack.of_type("AWS::EC2::SecurityGroup").items():
            if not it.get("SecurityGroupEgress"):
                # AWS would add it.
                rules.append({"group": group, "egress": True, "protocol": "-1", "ports": None, "peer": ANY})
            for egress, key in ((False, "SecurityGroupIngress"), (True, "SecurityGroupEgress")):
                rules += [_rule(group, egress, rule, name) for rule in it.get(key, [])]
        for egress, kind in ((False, "Ingress"), (True, "Egress")):
            for it in stack.of_type(f"AWS::EC2::SecurityGroup{kind}").values():
                rules.append(_rule(name(it["GroupId"]), egress, it, name))
    return Network(
        subnets={key: ipaddress.ip_network(it["CidrBlock"]) for key, it in network.of_type("AWS::EC2::Subnet").items()},
        acl_of={
            name(it["SubnetId"]): name(it["NetworkAclId"])
            for it in network.of_type("AWS::EC2::SubnetNetworkAclAssociation").values()
        },
        entries=[
            {
                "acl": name(it["NetworkAclId"]),
                "egress": it["Egress"],
                "number": it["RuleNumber"],
                "allow": it["RuleAction"] == "allow",
                "protocol": str(it["Protocol"]),
                "ports": (it["PortRange"]["From"], it["PortRange"]["To"]) if "PortRange" in it else None,
                "block": ipaddress.ip_network(it["CidrBlock"]),
            }
            for it in network.of_type("AWS::EC2::NetworkAclEntry").values()
        ],
        rules=rules,
        routes=[
            {
                "table": name(it["RouteTableId"]),
                "block": it["DestinationCidrBlock"],
                "target": name(it.get("GatewayId") or it["NatGatewayId"]),
            }
            for it in network.of_type("AWS::EC2::Route").values()
        ],
        table_of={
            name(it["SubnetId"]): name(it["RouteTableId"])
            for it in network.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
        },
        nat_subnet={key: name(it["SubnetId"]) for key, it in network.of_type("AWS::EC2::NatGateway").items()},
    )


def _rule(group, egress, it, name):
    peer = it.get("CidrIp") or it.get("SourceSecurityGroupId") or it.get("DestinationSecurityGroupId")
    return {
        "group": group,
        "egress": egress,
        "protocol": {"tcp": "6", "udp": "17", "icmp": "1"}.get(str(it["IpProtocol"]), str(it["IpProtocol"])),
        "ports": (int(it["FromPort"]), int(it["ToPort"])) if "FromPort" in it else None,
        "peer": it["CidrIp"] if "CidrIp" in it else name(peer),
    }


class Evaluation:
    """Answers for one state of the network. Rules are sorted once, not at each question."""

    def __init__(self, network, groups_open=False):
        self.network = network
        self.groups_open = groups_open
        self.acls = {}
        for entry in sorted(network.entries, key=lambda it: it["number"]):
            self.acls.setdefault((entry["acl"], entry["egress"]), []).append(entry)
        self.groups = {}
        for rule in network.rules:
            block = ipaddress.ip_network(rule["peer"]) if "/" in rule["peer"] else None
            self.groups.setdefault((rule["group"], rule["egress"]), []).append((rule, block))
        self.known = {}

    def connects(self, source, target, protocol, port, answers, quantity):
        """Whether a connection is possible, with answers to all or any of these ports. Either end is (subnet, address,
        groups)."""
        if not self._groups(source, target, True, protocol, port):
            return False
        if not self._groups(target, source, False, protocol, port):
            return False
        way = self._way(source[0], target[0])
        # Entries for what goes out name where to, those for what comes in where from.
        return (
            way is not None
            and all(self._entry(subnet, out, target if out else source, protocol, port) for subnet, out in way)
            and quantity(
                all(self._entry(subnet, not out, target if out else source, protocol, answer) for subnet, out in way)
                for answer in answers
            )
        )

    def _way(self, source, target):
        """The subnet edges that a packet of the caller crosses, as (subnet, outwards?), or None without a route."""
        if source == target:
            return []
        if source is not None and target is not None:
            return [(source, True), (target, False)]
        inside = source if target is None else target
        gateway = next(
            (it["target"] for it in self.network.routes if it["table"] == self.network.table_of.get(inside) and it["block"] == ANY),
            None,
        )
        if gateway is None:
            return None
        if gateway in self.network.nat_subnet:
            # Nothing comes in through NAT but answers.
            nat = self.network.nat_subnet[gateway]
            return [(inside, True), (nat, False), (nat, True)] if target is None else None
        return [(inside, target is None)]

    def _entry(self, subnet, egress, peer, protocol, port):
        key = (subnet, egress, peer[1], protocol, port)
        if key not in self.known:
            self.known[key] = next(
                (
                    it["allow"]
                    for it in self.acls.get((self.network.acl_of.get(subnet), egress), [])
                    if it["protocol"] in ("-1", PROTOCOLS[protocol])
                    and (it["ports"] is None or it["ports"][0] <= port <= it["ports"][1])
                    and peer[1] in it["block"]
                ),
                False,
            )
        return self.known[key]

    def _groups(self, own, peer, egress, protocol, port):
        if self.groups_open or own[0] is None:
            return True
        return any(
            rule["protocol"] in ("-1", PROTOCOLS[protocol])
            and (rule["ports"] is None or rule["ports"][0] <= port <= rule["ports"][1])
            and (peer[1] in block if block else rule["peer"] in peer[2])
            for group in own[2]
            for rule, block in self.groups.get((group, egress), [])
        )


def places_of(network):
    """Each actor in each zone, with an address of its own."""
    found = {}
    for number, (actor, (role, groups)) in enumerate(ACTORS.items()):
        for zone in "AB":
            address = network.subnets[role + zone][20 + number] if role else ipaddress.ip_address(OUTSIDE)
            found[actor, zone] = (role + zone if role else None, address, groups)
    return found


def cells(places):
    """Every pair of places that the matrix speaks of, as two keys of `places`."""
    for caller, one in places:
        for callee, other in places:
            if caller == callee == "internet" or (one, other) == ("B", "B"):
                continue
            # Of these there is one each.
            if caller == callee and set(places[caller, one][2]) & {"Slot01", "Slot02"}:
                continue
            yield (caller, one), (callee, other)


def matrix(network):
    """Every pair of actors and the ports that are open between them, wherever they stand."""
    places, evaluation, found = places_of(network), Evaluation(network), {}
    for caller, callee in cells(places):
        source, target = places[caller], places[callee]
        possible = {it for it in PROBES if evaluation.connects(source, target, *it, CHOSEN, any)}
        reliable = {it for it in possible if evaluation.connects(source, target, *it, ANSWERS, all)}
        found.setdefault((caller[0], callee[0]), []).append((possible, reliable))
    return found


def acl_matrix(network):
    """The same between subnets, with every group open."""
    evaluation, found = Evaluation(network, groups_open=True), {}
    roles = ["Public", "Router", "App", "Db", "Control", None]

    def place(role, zone, number):
        if role is None:
            return (None, ipaddress.ip_address(OUTSIDE), [])
        return (role + zone, network.subnets[role + zone][number], [])

    for caller in roles:
        for callee in roles:
            if caller is None and callee is None:
                continue
            for one, other in (("A", "B"), ("B", "A")):
                source, target = place(caller, one, 20), place(callee, other, 30)
                possible = {it for it in PROBES if evaluation.connects(source, target, *it, CHOSEN, any)}
                found.setdefault((caller or "internet", callee or "internet"), []).append((possible, possible))
    return found


def compare(found, wanted, tolerated=None):
    findings, tolerated = [], tolerated or {}
    for pair, everywhere in found.items():
        want = {("tcp", port) for port in wanted.get(pair, set())}
        bearable = want | {("tcp", port) for port in tolerated.get(pair, set())}
        for possible, reliable in everywhere:
            for protocol, port in sorted(possible - bearable):
                findings.append(f"{pair[0]} reaches {pair[1]} on {protocol} {port}, and must not")
            for protocol, port in sorted(want - reliable):
                findings.append(f"{pair[0]} does not reach {pair[1]} on {protocol} {port}, and must")
    findings += [f"nothing is called {pair}" for pair in wanted if pair not in found]
    return list(dict.fromkeys(findings))


def findings(network):
    return compare(matrix(network), WANTED, TOLERATED) + compare(acl_matrix(network), WANTED_OF_ACLS)


def check():
    for parameters in ({}, {"NatGateways": "per-zone"}, {"Network": "172.20", "InterfaceEndpoints": "off", "FlowLogs": "off"}):
        for finding in findings(read(parameters)):
            yield f"{finding} (with {parameters or 'the defaults'})"


def self_test():
    """Every rule is needed, and every one that is put in shows."""
    network = read()
    slots = {f"Slot{number:02}" for number in range(3, 21)}
    for kind in ("rules", "entries", "routes"):
        for index, it in enumerate(getattr(network, kind)):
            # Nothing in the table carries the other slots; they are compared with the first one below. What an entry
            # denies at one end of a way is mostly denied at the other end too.
            if it.get("group") in slots or it.get("peer") == "127.0.0.1/32" or it.get("allow") is False:
                continue
            changed = copy.copy(network)
            setattr(changed, kind, [other for other in getattr(network, kind) if other is not it])
            if not findings(changed):
                yield f"nothing is missing without {it}"

    changed = copy.copy(network)
    changed.entries = [it for it in network.entries if it["allow"]]
    if not findings(changed):
        yield "nothing shows without the entries that deny"

    tcp = {"protocol": "6", "ports": (8080, 8080)}
    both = lambda one, other, **how: [  # noqa: E731
        {"group": one, "egress": True, "peer": other, **how},
        {"group": other, "egress": False, "peer": one, **how},
    ]
    additions = {
        "machines reach machines": both("AppGroup", "AppGroup", **tcp),
        "machines reach the store": both("AppGroup", "StoreGroup", protocol="6", ports=(5432, 5432)),
        "machines reach another slot": both("AppGroup", "Slot02", protocol="6", ports=(5432, 5432)),
        "machines reach controllers": both("AppGroup", "ControllerGroup", **tcp),
        "gateways reach databases": both("GatewayGroup", "DatabaseGroup", protocol="6", ports=(5432, 5432)),
        "everything out": [{"group": "AppGroup", "egress": True, "protocol": "-1", "ports": None, "peer": ANY}],
    }
    for what, rules in additions.items():
        changed = copy.copy(network)
        changed.rules = network.rules + rules
        # Where an ACL stands in the way too, it has to go first; that it does is the ACLs' own table.
        changed.entries = [
            {"acl": acl, "egress": egress, "number": 1, "allow": True, "protocol": "-1", "ports": None, "block": ipaddress.ip_network(ANY)}
            for acl in set(network.acl_of.values())
            for egress in (True, False)
        ]
        if not compare(matrix(changed), WANTED, TOLERATED):
            yield f"a rule was put in, and nothing shows that {what}"

    def shape(slot):
        rules = [{**it, "group": "own", "peer": "own" if it["peer"] == slot else it["peer"]} for it in network.rules if it["group"] == slot]
        return sorted(map(str, rules))

    for slot in slots:
        if shape(slot) != shape("Slot01"):
            yield f"{slot} has other rules than Slot01"
        if any(it["peer"] == slot and it["group"] != slot for it in network.rules):
            yield f"{slot} is named by another group"
