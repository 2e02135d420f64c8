"""Reads a CloudFormation template and resolves it, as far as the checks need: what would be made, with which values.

Values that only AWS knows are made up, but in the form that AWS gives them: an id is `<resource>@<stack>`, an ARN holds the
name that the template sets. An unknown function, reference or export is an error, never a guess.
"""

import pathlib
import re

import yaml

INFRA = pathlib.Path(__file__).resolve().parents[2] / "infra"
ACCOUNT = "123456789012"
REGION = "eu-central-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
ABSENT = object()  # AWS::NoValue


class Loader(yaml.SafeLoader):
    """YAML as CloudFormation writes it: `!Sub x` is `{"Fn::Sub": x}`."""


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)
# A date is text here, as in CloudFormation.
Loader.yaml_implicit_resolvers = {
    first: [it for it in found if it[0] != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(name):
    return yaml.load((INFRA / f"{name}.yaml").read_text(), Loader)


class Stack:
    """A template with its parameters: `resources` by logical id, `outputs`, and `exports` for other stacks."""

    def __init__(self, name, parameters, exports=None, template=None):
        self.name = name
        self.template = template or load(name)
        self.imports = exports or {}
        self.parameters = {}
        for key, declared in self.template.get("Parameters", {}).items():
            value = parameters.get(key, declared.get("Default"))
            if value is None:
                raise KeyError(f"{name}: the parameter {key} has no value")
            if declared["Type"] == "CommaDelimitedList":
                value = [it.strip() for it in str(value).split(",")]
            self.parameters[key] = value
        self.declared = {
            key: it for key, it in self.template["Resources"].items() if self._holds(it.get("Condition"))
        }
        self.resources = {
            key: {"Type": it["Type"], "Properties": self.resolve(it.get("Properties", {}))}
            for key, it in self.declared.items()
        }
        self.outputs, self.exports = {}, {}
        for key, it in self.template.get("Outputs", {}).items():
            if self._holds(it.get("Condition")):
                self.outputs[key] = self.resolve(it["Value"])
                if "Export" in it:
                    self.exports[self.resolve(it["Export"]["Name"])] = self.outputs[key]

    @staticmethod
    def types(name):
        """Every resource that the template can make, whatever its parameters say."""
        return load(name)["Resources"].values()

    def of_type(self, kind):
        return {key: it["Properties"] for key, it in self.resources.items() if it["Type"] == kind}

    def resolve(self, value):
        if isinstance(value, list):
            return [it for it in (self.resolve(one) for one in value) if it is not ABSENT]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (key, argument), = value.items()
            if key == "Ref":
                return self._ref(argument)
            if key.startswith("Fn::"):
                return self._call(key[4:], argument)
        found = {key: self.resolve(it) for key, it in value.items()}
        return {key: it for key, it in found.items() if it is not ABSENT}

    def _ref(self, name):
        if name == "AWS::NoValue":
            return ABSENT
        if name == "AWS::StackName":
            return f"kagero-{self.parameters['Install']}-{self.name}"
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        if name not in self.declared:
            raise KeyError(f"{self.name}: nothing is called {name}")
        if self.declared[name]["Type"] in ("AWS::ECS::TaskDefinition", "AWS::IAM::ManagedPolicy"):
            return self._arn(name)
        own_name = {
            "AWS::RDS::DBInstance": "DBInstanceIdentifier",
            "AWS::RDS::DBSubnetGroup": "DBSubnetGroupName",
            "AWS::RDS::DBParameterGroup": "DBParameterGroupName",
            "AWS::IAM::Role": "RoleName",
        }.get(self.declared[name]["Type"])
        if own_name and own_name in self.declared[name]["Properties"]:
            return self.resolve(self.declared[name]["Properties"][own_name])
        return f"{name}@{self.name}"

    def _arn(self, name):
        kind = self.declared[name]["Type"]
        given = self.declared[name].get("Properties", {})

        def own(key):
            return self.resolve(given[key]) if key in given else f"{name}@{self.name}"

        tail = {
            "AWS::ECS::Cluster": lambda: f"ecs:{REGION}:{ACCOUNT}:cluster/{own('ClusterName')}",
            "AWS::ECS::TaskDefinition": lambda: f"ecs:{REGION}:{ACCOUNT}:task-definition/{own('Family')}:1",
            "AWS::IAM::Role": lambda: f"iam::{ACCOUNT}:role/{own('RoleName')}",
            "AWS::IAM::ManagedPolicy": lambda: f"iam::{ACCOUNT}:policy/{own('ManagedPolicyName')}",
            "AWS::IAM::InstanceProfile": lambda: f"iam::{ACCOUNT}:instance-profile/{own('InstanceProfileName')}",
            "AWS::KMS::Key": lambda: f"kms:{REGION}:{ACCOUNT}:key/{name}@{self.name}",
            "AWS::RDS::DBInstance": lambda: f"rds:{REGION}:{ACCOUNT}:db:{own('DBInstanceIdentifier')}",
        }.get(kind, lambda: f"{kind.split('::')[1].lower()}:{REGION}:{ACCOUNT}:{name}@{self.name}")
        return f"arn:aws:{tail()}"

    def _call(self, function, argument):
        if function == "Sub":
            text, extra = argument if isinstance(argument, list) else (argument, {})
            names = {key: self.resolve(it) for key, it in extra.items()}

            def value(match):
                name = match[1]
                if name.startswith("!"):
                    return f"${{{name[1:]}}}"
                if name in names:
                    return str(names[name])
                if "." in name:
                    return str(self._call("GetAtt", name.split(".", 1)))
                return str(self._ref(name))

            return re.sub(r"\$\{([^}]+)\}", value, text)
        if function == "GetAtt":
            name, attribute = argument
            if name not in self.declared:
                raise KeyError(f"{self.name}: nothing is called {name}")
            if attribute == "CidrBlock":
                return self.resolve(self.declared[name]["Properties"]["CidrBlock"])
            return self._arn(name) if attribute.endswith("Arn") else f"{name}.{attribute}@{self.name}"
        if function == "If":
            return self.resolve(argument[1] if self._holds(argument[0]) else argument[2])
        if function == "ImportValue":
            name = self.resolve(argument)
            if name not in self.imports:
                raise KeyError(f"{self.name}: no stack exports {name}")
            return self.imports[name]
        if function == "GetAZs":
            return [f"{REGION}a", f"{REGION}b", f"{REGION}c"]
        resolved = self.resolve(argument)
        if function == "Select":
            return resolved[1][int(resolved[0])]
        if function == "Split":
            return resolved[1].split(resolved[0])
        if function == "Join":
            return resolved[0].join(resolved[1])
        if function == "Base64":
            return resolved
        raise KeyError(f"{self.name}: Fn::{function} is not known here")

    def _holds(self, condition):
        if condition is None:
            return True
        if isinstance(condition, str):
            return self._holds(self.template["Conditions"][condition])
        (key, argument), = condition.items()
        if key == "Condition":
            return self._holds(argument)
        if key == "Fn::Not":
            return not self._holds(argument[0])
        if key == "Fn::And":
            return all(self._holds(it) for it in argument)
        if key == "Fn::Or":
            return any(self._holds(it) for it in argument)
        if key == "Fn::Equals":
            first, second = (str(self.resolve(it)) for it in argument)
            return first == second
        raise KeyError(f"{self.name}: the condition {key} is not known here")
