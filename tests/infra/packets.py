"""Who reaches whom, measured with real connections between namespaces (wiring.py) under the rules of the rendered templates.

Every cell of the matrix of reachability.py, on every TCP port that it knows, from every port that a caller may choose. What
comes out has to be, connection by connection, what reachability.py computes, and, cell by cell, what its table wants and what
is promised of environments (PROMISED below). UDP and ICMP are computed only.

    packets.py            builds, measures, and prints what it finds as JSON; needs root, and namespaces of its own
"""

import errno
import json
import os
import pathlib
import resource
import select
import socket
import struct
import subprocess
import sys
import time

import reachability
import template
from reachability import ANSWERS, CHOSEN, DATABASES, HIGH, PROBES, TOLERATED, WANTED
from wiring import METADATA, PRODUCTION, Wiring

PORTS = sorted(port for protocol, port in PROBES if protocol == "tcp")
# A connection that nothing refuses is there within this time; the second one is for whatever came out unexpectedly, alone.
SHORT, LONG = 0.7, 3.0
AT_ONCE = min(8000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2)
NOBODY = 65534
LINGER = struct.pack("ii", 1, 0)

# What is promised of environments: gateway → application, environment → its own database, environment → internet, and nothing
# else.
ENVIRONMENT = ("machine 1", "machine 2", "database 1", "database 2")
PROMISED = {
    ("gateway", "machine 1"): HIGH,
    ("gateway", "machine 2"): HIGH,
    ("machine 1", "database 1"): DATABASES,
    ("machine 2", "database 2"): DATABASES,
    ("machine 1", "internet"): {80, 443},
    ("machine 2", "internet"): {80, 443},
}
# What it takes besides: orders to agents, the settling of databases, and the controller that is its own gateway; for machines
# a server that environments may share. Anything else that an environment reaches or is reached from breaks the promise.
NEEDED = {
    ("controller", "machine 1"): {7780},
    ("controller", "machine 2"): {7780},
    ("serve", "machine 1"): HIGH,
    ("serve", "machine 2"): HIGH,
    ("controller", "database 1"): DATABASES,
    ("controller", "database 2"): DATABASES,
    ("serve", "database 1"): DATABASES,
    ("serve", "database 2"): DATABASES,
    ("machine 1", "shared server"): DATABASES,
    ("machine 2", "shared server"): DATABASES,
}


# Somebody who stands in each subnet.
SUBNETS = {
    "load balancer": "Public",
    "gateway": "Router",
    "machine 1": "App",
    "database 1": "Db",
    "controller": "Control",
    "internet": "internet",
}


class Measurement:
    """Connections between the places of a wiring."""

    def __init__(self, wiring):
        self.wiring = wiring
        self.epoll = select.epoll()
        self.listeners, self.guests = {}, []
        self.order = {key: number for number, key in enumerate(wiring.places)}
        for name in wiring.files:
            # The router is where the metadata service answers.
            for port in [80] if name == "router" else PORTS if not name.startswith("nat") else []:
                with wiring.inside(name):
                    listener = socket.socket()
                    shared(listener)
                    # Those who are let in inherit it.
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                    listener.bind(("", port))
                    listener.listen(4096)
                listener.setblocking(False)
                self.epoll.register(listener.fileno(), select.EPOLLIN)
                self.listeners[listener.fileno()] = listener

    def connects(self, wanted, patience):
        """Which of these come about: (caller, address, port, own port or None, user), all at the same time."""
        self.wiring.forget_connections()
        reached, wanted = set(), list(wanted)
        for start in range(0, len(wanted), AT_ONCE):
            reached |= self._connect(wanted[start : start + AT_ONCE], patience)
        return reached

    def _connect(self, wanted, patience):
        reached, open_ones = set(), {}
        for caller in sorted({it[0] for it in wanted}, key=str):
            with self.wiring.inside(self.wiring.hosts.get(caller, caller)):
                for it in (it for it in wanted if it[0] == caller):
                    caller_socket = self._begin(it)
                    if caller_socket is not None:
                        open_ones[caller_socket.fileno()] = (caller_socket, it)
                        self.epoll.register(caller_socket.fileno(), select.EPOLLOUT)
            self._attend(open_ones, reached, 0)
        end = time.monotonic() + patience
        while open_ones and (left := end - time.monotonic()) > 0:
            self._attend(open_ones, reached, left)
        for caller_socket, _ in open_ones.values():
            self.epoll.unregister(caller_socket.fileno())
            caller_socket.close()
        for guest in self.guests:
            guest.close()
        self.guests.clear()
        return reached

    def _begin(self, it):
        _, address, port, own, user = it
        # The kernel asks who has made a socket.
        os.seteuid(user)
        try:
            caller = socket.socket()
        finally:
            os.seteuid(0)
        shared(caller)
        caller.setblocking(False)
        # Nothing of a connection is left behind.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        if own:
            caller.bind(("", own))
        error = caller.connect_ex((address, port))
        if error in (0, errno.EINPROGRESS):
            return caller
        caller.close()
        if error not in REFUSALS:
            raise OSError(error, f"a connection cannot be tried: {it}: {os.strerror(error)}")
        return None

    def _attend(self, open_ones, reached, patience):
        for file, _ in self.epoll.poll(patience, 4096):
            if file in self.listeners:
                self._welcome(self.listeners[file])
            elif file in open_ones:
                caller, it = open_ones.pop(file)
                self.epoll.unregister(file)
                error = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error == 0:
                    reached.add(it)
                elif error not in REFUSALS:
                    raise OSError(error, f"a connection failed: {it}: {os.strerror(error)}")
                caller.close()

    def _welcome(self, listener):
        try:
            while True:
                self.guests.append(listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            pass

    def matrix(self, pairs, expected):
        """What is reached in these cells, by caller, callee, port and own port. What is not as expected is tried again, alone
        and with patience, before it counts."""
        reached = set()
        for own in CHOSEN:
            # Two calls between the same two ports, one in each direction, would be one connection.
            rounds = ([], [])
            for caller, callee in pairs:
                for port in PORTS:
                    crossing = port == own and self.order[caller] > self.order[callee]
                    rounds[crossing].append((caller, str(self.wiring.places[callee][1]), port, own, 0))
            for wanted in filter(None, rounds):
                reached |= self.connects(wanted, SHORT)
        keys = {str(it[1]): key for key, it in self.wiring.places.items()}
        found = {(caller, keys[address], port, own) for caller, address, port, own, _ in reached}
        for it in sorted(found ^ expected, key=str):
            caller, callee, port, own = it
            again = (caller, str(self.wiring.places[callee][1]), port, own, 0)
            found = found | {it} if self.connects([again], LONG) else found - {it}
        return found


# What a refusal looks like to whoever connects; nobody routes there, nobody answered in time.
REFUSALS = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.ETIMEDOUT}


def shared(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def places_of(network):
    """As reachability.py has them, once for the internet; and a second one in zone A of whatever may meet its like."""
    places = {key: it for key, it in reachability.places_of(network).items() if key != ("internet", "B")}
    for caller, callee in list(reachability.cells(places)):
        if caller == callee:
            subnet, address, groups = places[caller]
            places[caller[0], "A2"] = (subnet, address + 100, groups)
    return places


def cells(places, actors):
    """The cells of reachability.py between these actors. Who meets its like in the same zone meets the second one."""
    known = {key: it for key, it in places.items() if key[1] != "A2"}
    for caller, callee in reachability.cells(known):
        if {caller[0], callee[0]} <= set(actors):
            yield caller, (callee[0], "A2") if caller == callee else callee


def edges(places):
    """The cells of subnets, as reachability.py has them, each by somebody who stands in one."""
    for caller in SUBNETS:
        for callee in SUBNETS:
            if caller != "internet" or callee != "internet":
                for one, other in (("A", "B"), ("B", "A")):
                    yield tuple((who, zone if (who, zone) in places else "A") for who, zone in ((caller, one), (callee, other)))


def computed(network, places, pairs, groups_open=False):
    """The same as is measured, by reachability.py."""
    evaluation = reachability.Evaluation(network, groups_open)
    return {
        (caller, callee, port, own)
        for caller, callee in pairs
        for port in PORTS
        for own in CHOSEN
        if evaluation.connects(places[caller], places[callee], "tcp", port, [own], any)
    }


def told(actor):
    return f"{actor[0]} ({actor[1]})"


def against_computed(pairs, found, expected):
    for caller, callee, port, own in sorted(found ^ expected, key=str):
        way = "is connected, and should not be" if (caller, callee, port, own) in found else "is not connected, and should be"
        yield f"{told(caller)} → {told(callee)}, tcp {own} → {port}: {way} as reachability.py computes it"


def matrix_of(pairs, found):
    """The cells as reachability.py has them: possible from some port, reliable from every port that a system chooses."""
    matrix = {}
    for caller, callee in pairs:
        possible = {("tcp", port) for port in PORTS for own in CHOSEN if (caller, callee, port, own) in found}
        reliable = {it for it in possible if all((caller, callee, it[1], own) in found for own in ANSWERS)}
        matrix.setdefault((caller[0], callee[0]), []).append((possible, reliable))
    return matrix


def against_tables(matrix):
    """The table of reachability.py, and what is promised of environments."""
    wanted = {pair: ports for pair, ports in WANTED.items() if pair in matrix}
    yield from reachability.compare(matrix, wanted, TOLERATED)
    promised = {pair: cell for pair, cell in matrix.items() if set(pair) & set(ENVIRONMENT)}
    promise = {pair: ports for pair, ports in (PROMISED | NEEDED).items() if pair in promised}
    for finding in reachability.compare(promised, promise, TOLERATED):
        yield f"{finding}, as is promised of environments"


def elsewhere(measurement):
    """The metadata service, which no rule of a network holds up, and production, which nothing leads to."""
    places = measurement.wiring.places
    asked = {}
    for key, (subnet, _, groups) in places.items():
        if subnet is None:
            continue
        is_machine = "AppGroup" in groups
        for user, name in ((0, "root"), (NOBODY, "nobody")):
            asked[key, METADATA, 80, None, user] = (not (is_machine and user), f"{told(key)} as {name}", "the metadata service")
        for port in PORTS:
            asked[key, PRODUCTION, port, None, 0] = (False, told(key), "production")
            asked["production", str(places[key][1]), port, None, 0] = (False, "production", told(key))
    reached = measurement.connects(asked, SHORT)
    for it, (wanted, caller, callee) in asked.items():
        if (it in reached) != wanted and (bool(measurement.connects([it], LONG))) != wanted:
            way = "does not reach" if wanted else "reaches"
            yield f"{caller} {way} {callee} on tcp {it[2]}, and must{'' if wanted else ' not'}"


def broken():
    """A copy of the templates with one rule too many and one too few, and all that has to show."""
    network, slots = template.load("network"), template.load("slots")
    del slots["Resources"]["Slot01Egress5432"]
    rule = {"IpProtocol": "tcp", "FromPort": 8000, "ToPort": 8000}
    app, controller = {"Ref": "AppGroup"}, {"Ref": "ControllerGroup"}
    network["Resources"]["TooMany"] = {
        "Type": "AWS::EC2::SecurityGroupIngress",
        "Properties": {"GroupId": controller, "SourceSecurityGroupId": app, **rule},
    }
    network["Resources"]["TooManyOut"] = {
        "Type": "AWS::EC2::SecurityGroupEgress",
        "Properties": {"GroupId": app, "DestinationSecurityGroupId": controller, **rule},
    }
    too_many = [f"{machine} reaches controller on tcp 8000, and must not" for machine in ("machine 1", "machine 2")]
    too_few = "machine 1 does not reach database 1 on tcp 5432, and must"
    shows = {it + end for it in [*too_many, too_few] for end in ("", ", as is promised of environments")}
    return reachability.read(templates={"network": network, "slots": slots}), shows


def measure():
    network = reachability.read()
    places = places_of(network)
    wiring = Wiring(network, places)
    measurement = Measurement(wiring)

    def findings(network, pairs, tables, groups_open=False):
        wiring.obey(network, groups_open)
        expected = computed(network, places, pairs, groups_open)
        found = measurement.matrix(pairs, expected)
        # A measurement of nothing would agree with a table of nothing.
        if 10 * len(found) < len(pairs):
            yield f"only {len(found)} connections in {len(pairs)} cells came about"
        yield from against_computed(pairs, found, expected)
        yield from tables(matrix_of(pairs, found))

    # Groups and ACLs together, and where nothing of the network has a say.
    yield from findings(network, list(cells(places, reachability.ACTORS)), against_tables)
    yield from elsewhere(measurement)

    # What is left of the network where every group lets everything through.
    def against_edges(matrix):
        # Whatever one who means harm could choose counts, so what is possible is all there is to say.
        matrix = {
            tuple(SUBNETS[it] for it in pair): [(possible, possible) for possible, _ in cell] for pair, cell in matrix.items()
        }
        for finding in reachability.compare(matrix, reachability.WANTED_OF_ACLS):
            yield f"by the ACLs alone: {finding}"

    yield from findings(network, list(edges(places)), against_edges, groups_open=True)

    network, shows = broken()
    seen = set(findings(network, list(cells(places, [*ENVIRONMENT, "controller", "gateway"])), against_tables))
    yield from (f"with a rule too many and one too few, this shows: {it}" for it in sorted(seen - shows))
    yield from (f"with a rule too many and one too few, this does not show: {it}" for it in sorted(shows - seen))


def check():
    """Measures in namespaces that the kernel takes away with the process, however it ends."""
    if os.geteuid() != 0:
        yield "namespaces need root: run this as root"
        return
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork"]
    command += ["--kill-child", "--mount-proc", sys.executable, "-B", __file__]
    done = subprocess.run(command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, timeout=300)
    if done.returncode:
        yield f"the measurement broke off: {done.stderr}"
        return
    yield from json.loads(done.stdout)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Where `ip netns` keeps its names.
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    print(json.dumps(list(measure())))
