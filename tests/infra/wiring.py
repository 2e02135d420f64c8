"""A network of namespaces as the templates describe one: a host for each place, cables to a router, real rules.

- The router forwards between all hosts. At the edge of each subnet it asks the network ACL, which is stateless: no
  connection is tracked there. Within a subnet nothing is asked.
- Security groups are stateful rules at each host's own interface; a group that is named as a peer is the addresses of its
  members.
- Route tables are policy routing by the cable that a packet comes in on. A NAT gateway is a host with masquerading, in the
  subnet of the template; the way to the internet is a cable that only subnets with a route to it can be called through.
- The metadata service answers on the router, as no group or ACL has a say in it; machines have the rules of user data.
- Production is a network of its own behind a cable: its own side leads back to everything, and no template leads to it.

What is refused is rejected, not dropped, so that a connection that fails is known to fail and is not waited for. Answers that
are refused on their way back are waited for all the same.

Everything is in namespaces of the calling process: the kernel removes them when it ends. Must not know: what is measured.
"""

import collections
import ctypes
import os
import re
import socket
import subprocess

from template import INFRA

CLONE_NEWNET = 0x40000000
GATEWAY = "169.254.0.1"
METADATA = "169.254.169.254"
PRODUCTION = "10.200.0.10"
LIBC = ctypes.CDLL(None, use_errno=True)
# Of this kind the end that waits for the last word of a handshake takes note too.
REFUSE = "reject with icmp type host-unreachable"


class Wiring:
    """`places` are {(actor, zone): (subnet or None, address, groups)}; everybody without a subnet is the internet."""

    def __init__(self, network, places):
        os.makedirs("/run/netns", exist_ok=True)
        self.places = places
        self.hosts = {key: f"h{number}" for number, key in enumerate(places)}
        internet = {str(it[1]): key for key, it in places.items() if it[0] is None}
        (self.internet_address,) = internet
        for key, it in places.items():
            if it[0] is None:
                self.hosts[key] = "internet"
        self.nats = {nat: (f"nat{number}", network.subnets[subnet][5]) for number, (nat, subnet) in enumerate(network.nat_subnet.items())}
        self.files = {}
        self._plug_in(network)
        self._route(network)

    def _cables(self):
        """Namespace, address and subnet of everything that hangs on the router."""
        seen = {}
        for key, (subnet, address, _) in self.places.items():
            seen[self.hosts[key]] = (str(address), subnet)
        return seen

    def _plug_in(self, network):
        cables = self._cables()
        cables |= {name: (str(address), network.nat_subnet[nat]) for nat, (name, address) in self.nats.items()}
        cables["production"] = (PRODUCTION, None)
        self.cables = cables
        batch("", [f"netns add {name}" for name in ["router", *cables]])
        for name in ["router", *cables]:
            self.files[name] = os.open(f"/run/netns/{name}", os.O_RDONLY)
            with self.inside(name):
                # Each refusal is told.
                setting("net/ipv4/icmp_ratemask", 0)
                setting("net/ipv4/tcp_synack_retries", 0)
                setting("net/ipv4/conf/all/rp_filter", 0)
                setting("net/ipv4/conf/default/rp_filter", 0)
                setting("net/ipv4/ip_forward", int(name == "router" or name.startswith("nat")))
        batch("", [f"link add {name} netns router type veth peer name eth0 netns {name}" for name in cables])
        batch("router", ["link set lo up", f"address add {GATEWAY}/32 dev lo", f"address add {METADATA}/32 dev lo"])
        batch("router", [f"link set {name} up" for name in cables])
        batch("router", [f"route add {address}/32 dev {name}" for name, (address, subnet) in cables.items() if subnet])
        for name, (address, _) in cables.items():
            batch(name, [
                "link set lo up",
                f"address add {address}/32 dev eth0",
                "link set eth0 up",
                f"route add {GATEWAY}/32 dev eth0",
                f"route add default via {GATEWAY} src {address}",
            ])

    def _route(self, network):
        tables = {table: 100 + number for number, table in enumerate(sorted(set(network.table_of.values())))}
        commands = []
        for name, (_, subnet) in self.cables.items():
            if subnet:
                # After the table of all hosts, which has no default.
                commands.append(f"rule add priority 40000 iif {name} lookup {tables[network.table_of[subnet]]}")
        for table, number in tables.items():
            for it in (it for it in network.routes if it["table"] == table):
                if it["target"] in self.nats:
                    name, address = self.nats[it["target"]]
                    commands.append(f"route add {it['block']} via {address} dev {name} onlink table {number}")
                else:
                    cable, address = ("production", PRODUCTION) if it["target"] == "Production" else ("internet", self.internet_address)
                    commands.append(f"route add {it['block']} via {address} dev {cable} onlink table {number}")
            commands.append(f"route add unreachable default metric 999 table {number}")
        # What comes from the internet comes no further than into subnets with a route there.
        open_tables = {it["table"] for it in network.routes if it["target"] not in self.nats and it["target"] != "Production"}
        commands.append("rule add priority 10 iif internet lookup 99")
        commands.append("route add unreachable default metric 999 table 99")
        for name, (address, subnet) in self.cables.items():
            if subnet and network.table_of[subnet] in open_tables:
                commands.append(f"route add {address}/32 dev {name} table 99")
        batch("router", commands)

    def obey(self, network, groups_open=False):
        """Puts the rules of the templates in force, in place of whatever was; without any group's if those are to be open."""
        self._filter("router", acls(network, self.cables))
        for name, _ in self.nats.values():
            self._filter(name, NAT)
        members = collections.defaultdict(list)
        for _, address, groups in self.places.values():
            for group in groups:
                members[group].append(str(address))
        for key, (subnet, _, groups) in self.places.items():
            if subnet:
                rules = "" if groups_open else security_groups(network, groups, members)
                is_machine = "AppGroup" in groups
                self._filter(self.hosts[key], rules + (user_data_rules() if is_machine else ""))

    def _filter(self, name, rules):
        done = subprocess.run(
            ["ip", "netns", "exec", name, "nft", "-f", "-"], input=f"flush ruleset\n{rules}", capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"nft in {name}: {done.stderr}\n{rules}")

    def inside(self, name):
        return Inside(self.files[name])

    def forget_connections(self):
        """Empties every connection table, as `conntrack -F` does: what was tried before has no effect on what is tried next."""
        # nlmsghdr and nfgenmsg of <linux/netfilter/nfnetlink.h>: IPCTNL_MSG_CT_DELETE without a tuple, to be acknowledged.
        message = b"\x14\0\0\0" + b"\x02\x01" + b"\x05\0" + b"\0" * 8 + b"\0\0\0\0"
        for name in self.files:
            with self.inside(name), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
                netlink.send(message)
                answer = netlink.recv(4096)
                error = int.from_bytes(answer[16:20], "little", signed=True)
                if error:
                    raise OSError(-error, f"the connection table of {name} cannot be emptied")


class Inside:
    """This thread's network, for a while; sockets stay in the network that they were made in."""

    outside = None

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        if Inside.outside is None:
            Inside.outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(self.file)

    def __exit__(self, *_):
        enter(Inside.outside)


def enter(file):
    if LIBC.setns(file, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace cannot be entered")


def batch(name, commands):
    arguments = ["ip", *(["-n", name] if name else []), "-batch", "-"]
    done = subprocess.run(arguments, input="\n".join(commands), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip in {name or 'the first network'}: {done.stderr}{commands}")


def setting(name, value):
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(str(value))


NAT = """
table ip nat {
  chain out { type nat hook postrouting priority 100; ip daddr != 169.254.0.0/16 masquerade; }
}
"""


def matched(protocol, ports, direction):
    """The words for a rule's protocol and ports."""
    if protocol == "-1":
        return ""
    words = {"6": "tcp", "17": "udp", "1": "icmp"}[protocol]
    if ports is None or words == "icmp":
        return f"ip protocol {words} "
    return f"{words} {direction}port {ports[0]}-{ports[1]} "


def acls(network, cables):
    """Network ACLs on the router. An entry names the other side: where a packet comes from, or where it goes."""
    chains, out, into, same = [], [], [], collections.defaultdict(list)
    for acl in sorted(set(network.acl_of.values())):
        for egress in (True, False):
            rules = []
            for entry in sorted((it for it in network.entries if (it["acl"], it["egress"]) == (acl, egress)), key=lambda it: it["number"]):
                peer = f"ip {'daddr' if egress else 'saddr'} {entry['block']} "
                rules.append(peer + matched(entry["protocol"], entry["ports"], "d") + ("return" if entry["allow"] else REFUSE))
            chains += [f"  chain {chain(acl, egress)} {{", *(f"    {rule}" for rule in [*rules, REFUSE]), "  }"]
    for name, (_, subnet) in cables.items():
        if subnet is not None:
            out.append(f'"{name}" : jump {chain(network.acl_of[subnet], True)}')
            into.append(f'"{name}" : jump {chain(network.acl_of[subnet], False)}')
            same[subnet].append(name)
    pairs = [f'"{one}" . "{other}"' for names in same.values() for one in names for other in names if one != other]
    return "\n".join([
        "table ip acls {",
        *chains,
        "  chain forward {",
        "    type filter hook forward priority 0; policy drop;",
        # Not AWS's: word of what was refused, for whoever waits.
        "    icmp type destination-unreachable accept",
        f"    iifname . oifname {{ {', '.join(pairs)} }} accept",
        f"    iifname vmap {{ {', '.join(out)} }}",
        f"    oifname vmap {{ {', '.join(into)} }}",
        "    accept",
        "  }",
        "}",
        "",
    ])


def chain(acl, egress):
    return f"{acl}_{'out' if egress else 'in'}"


def security_groups(network, groups, members):
    """Security groups at a host: what is not allowed is refused, answers are let through."""
    chains = {}
    for egress in (True, False):
        rules = []
        for it in network.rules:
            if it["group"] not in groups or it["egress"] != egress:
                continue
            peers = [it["peer"]] if "/" in it["peer"] else members.get(it["peer"], [])
            if peers:
                peer = f"ip {'daddr' if egress else 'saddr'} {{ {', '.join(peers)} }} "
                rules.append("    " + peer + matched(it["protocol"], it["ports"], "d") + "accept")
        chains[egress] = rules
    return "\n".join([
        "table ip groups {",
        "  chain out {",
        "    type filter hook output priority 0; policy accept;",
        "    oif lo accept",
        "    ct state established,related accept",
        # "Security groups do not filter traffic destined to" it (VPC user guide, "Security group basics").
        f"    ip daddr {METADATA} accept",
        *chains[True],
        f"    {REFUSE}",
        "  }",
        "  chain in {",
        "    type filter hook input priority 0; policy accept;",
        "    iif lo accept",
        "    ct state established,related accept",
        *chains[False],
        f"    {REFUSE}",
        "  }",
        "}",
        "",
    ])


def user_data_rules():
    """What user data puts in force on every machine."""
    text = (INFRA.parent / "templates/user-data.sh").read_text()
    return re.search(r"<<'RULES'\n(.*?)\nRULES\n", text, re.DOTALL)[1] + "\n"
