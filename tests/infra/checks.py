"""Runs the checks of infra/, the cheap ones first. A check is a function that yields what it finds wrong, a line each."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import deployment
import facts
import packets
import permissions
import reachability
import scripts
from template import INFRA

HERE = pathlib.Path(__file__).parent


def lint():
    """cfn-lint finds nothing, not even worth a remark."""
    done = subprocess.run(
        [HERE / ".venv/bin/cfn-lint", "--non-zero-exit-code", "informational", *sorted(INFRA.glob("*.yaml"))],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        yield done.stdout + done.stderr


def checkov():
    """checkov finds nothing that the template does not name as an exception, with every option switched on."""
    options = {
        "controller.yaml": {"WebhookQueue": "on", "AlarmEmail": "ops@example.com", "Sweep": "timer"},
        "identity.yaml": {"MachineProfile": "fetch-agent"},
        "network.yaml": {"NatGateways": "per-zone"},
    }
    with tempfile.TemporaryDirectory() as copy:
        for path in INFRA.glob("*.yaml"):
            lines, parameter = path.read_text().splitlines(), None
            for index, line in enumerate(lines):
                if line.startswith("  ") and line[2] != " " and line.endswith(":"):
                    parameter = line.strip(" :")
                if line.startswith("    Default:") and parameter in options.get(path.name, {}):
                    lines[index] = f'    Default: "{options[path.name].pop(parameter)}"'
            (pathlib.Path(copy) / path.name).write_text("\n".join(lines) + "\n")
        if any(options.values()):
            yield f"no such options: {options}"
        done = subprocess.run(
            [HERE / ".venv-checkov/bin/checkov", "-d", copy, "--framework", "cloudformation", "--compact", "--skip-download", "-o", "json"],
            capture_output=True,
            text=True,
            env={**os.environ, "LOG_LEVEL": "ERROR", "CHECKOV_RUN_SCA_PACKAGE_SCAN_V2": "false"},
        )
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        yield f"checkov says no JSON: {done.stdout[-500:]}{done.stderr[-1500:]}"
        return
    for it in found["results"]["failed_checks"]:
        yield f"{it['file_path']}: {it['resource']}: {it['check_id']}: {it['check_name']}"
    summary = found["summary"]
    if summary["parsing_errors"] or summary["passed"] < 400:
        yield f"checkov has not read everything: {summary}"


CHECKS = {
    "slots.yaml is current": facts.check_slots_are_current,
    "one installation's name": facts.check_same_install_everywhere,
    "numbers": facts.check_numbers,
    "limits of AWS": facts.check_limits,
    "settings": facts.check_settings,
    "scripts": scripts.check,
    "settle": scripts.check_settle,
    "mask": scripts.check_mask,
    "reachability": reachability.check,
    "reachability notices every rule": reachability.self_test,
    "reachability by packets": packets.check,
    "permissions": permissions.check,
    "golden pipeline": facts.check_golden,
    "cfn-lint": lint,
    "deployment on moto": deployment.check,
    "checkov": checkov,
}


def main(text=""):
    passed = failed = 0
    shutil.rmtree(HERE / "__pycache__", ignore_errors=True)
    for name, check in CHECKS.items():
        if text not in name:
            continue
        begun = time.monotonic()
        try:
            findings = list(check())
        except Exception:
            findings = [traceback.format_exc()]
        took = time.monotonic() - begun
        print(f"{'FAILED' if findings else 'ok    '} {name} ({took:.1f} s)", flush=True)
        for finding in findings:
            print("       " + finding.rstrip().replace("\n", "\n       "), flush=True)
        passed, failed = (passed, failed + 1) if findings else (passed + 1, failed)
    print(f"\ninfra: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
