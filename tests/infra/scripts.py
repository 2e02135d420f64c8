"""The programs beside the templates: infra/deploy, infra/release, and what runs on machines and in the masking task."""

import contextlib
import glob
import json
import os
import pathlib
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

from template import INFRA

HERE = pathlib.Path(__file__).parent
PLAIN = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}


def run(*words, **how):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **how)


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def check():
    for script in ("deploy", "release", "machine/install", "golden/mask"):
        done = run("bash", "-n", INFRA / script)
        if done.returncode:
            yield f"infra/{script}: {done.stderr}"

    def deploy(*words, path=PLAIN["PATH"]):
        return run(INFRA / "deploy", *words, env={**PLAIN, "PATH": path})

    with tempfile.TemporaryDirectory() as bare:
        for tool in ("bash", "dirname", "env"):
            os.symlink(shutil.which(tool), pathlib.Path(bare) / tool)
        for words, code, message in (
            (["network", "Install=demo"], 1, "the aws program is not installed"),
            (["network"], 1, "Install= is missing"),
            (["slots", "Install=demo", "Slots=30"], 1, "a multiple of 20"),
            (["slots", "Install=demo", "Series=3"], 1, "say Slots="),
            (["everything", "Install=demo"], 2, "usage:"),
            ([], 2, "usage:"),
            (["network", "Install=demo", "--force"], 2, "usage:"),
        ):
            done = deploy(*words, path=bare)
            if done.returncode != code or message not in done.stderr:
                yield f"infra/deploy {' '.join(words)}: {done.returncode}: {done.stderr.strip()}"
    printed = deploy("--print", "slots", "Install=demo", "Slots=60").stdout.splitlines()
    series = [line.split("Series=")[1].split()[0] for line in printed]
    if series != ["0", "1", "2"] or not all("kagero:infra=network kagero:install=demo" in line for line in printed):
        yield f"infra/deploy slots would do: {printed}"
    if "--stack-name kagero-demo-golden-shop " not in deploy("--print", "golden", "Install=demo", "Name=shop").stdout:
        yield "infra/deploy golden names its stack otherwise"

    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        program(work / "kagero", "#!/bin/sh\n")
        (work / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        lines = [run(INFRA / "release", work / "kagero", work / "ca.pem", work / it).stdout for it in ("a.tar.gz", "b.tar.gz")]
        if not lines[0] or lines[0].replace("a.tar.gz", "b.tar.gz") != lines[1]:
            yield f"infra/release does not make the same of the same: {lines}"
        held = run("tar", "-tzf", work / "a.tar.gz").stdout.split()
        installed = {"./kagero", "./rds-ca.pem", "./systemd/kagero.service", "./machine/install", "./machine/settle", "./machine/aws.conf"}
        if not installed <= set(held):
            yield f"a release lacks {sorted(installed - set(held))}"

        # systemd itself reads the units, with programs that are there.
        units = work / "units"
        units.mkdir()
        for path in [*INFRA.glob("systemd/*.service"), *INFRA.glob("systemd/*.timer"), *INFRA.glob("machine/*.service"), *INFRA.glob("machine/*.timer")]:
            text = path.read_text()
            for there in ("/usr/bin/kagero", "/usr/libexec/kagero-settle"):
                text = text.replace(f"ExecStart={there}", "ExecStart=/bin/true")
            (units / path.name).write_text(text)
        (units / "kagero.service.d").mkdir()
        shutil.copy(INFRA / "machine/aws.conf", units / "kagero.service.d")
        names = ["kagero.service", "kagero-settle.service", "kagero-settle.timer"]
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names, env={**PLAIN, "SYSTEMD_UNIT_PATH": f"{units}:"})
        if done.returncode or done.stderr:
            yield f"systemd: {done.stderr}"


def check_settle():
    """Against stand-ins for `aws` and `systemctl`."""
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        for name in ("bin", "etc", "state", "aws"):
            (work / name).mkdir()
        program(
            work / "bin/aws",
            "#!/bin/bash\nwhile [ $# -gt 0 ]; do case $1 in --name | --secret-id) name=$2 ;; esac; shift; done\n"
            f'exec cat "{work}/aws/${{name//\\//_}}"\n',
        )
        program(work / "bin/systemctl", f'#!/bin/sh\necho "$@" >>"{work}/systemctl"\n')
        own = "0123456789abcdef" * 4

        def settle(**changes):
            """With what AWS holds then: the exit code, whether the controller was restarted, and the files."""
            held = {
                "toml": 'name = "demo"\n',
                "files": {"github-app.pem": "KEY\nEND\n", "webhook-secret": "s3cret"},
                "installation": own,
                "password": "a/b@c:d%",
                **changes,
            }
            texts = {
                "_kagero_demo_kagero.toml": held["toml"],
                "kagero_demo_files": json.dumps(held["files"]),
                "kagero_demo_installation": held["installation"],
                "store": json.dumps({"username": "kagero", "password": held["password"]}),
            }
            shutil.rmtree(work / "aws")
            (work / "aws").mkdir()
            for name, text in texts.items():
                if text is not None:
                    (work / "aws" / name).write_text(text)
            (work / "systemctl").unlink(missing_ok=True)
            done = run(
                sys.executable,
                INFRA / "machine/settle",
                env={
                    "PATH": f"{work}/bin:{PLAIN['PATH']}",
                    "KAGERO_INSTALL": "demo",
                    "KAGERO_REGION": "eu-central-1",
                    "KAGERO_STORE_HOST": "store.example",
                    "KAGERO_STORE_SECRET": "store",
                    "KAGERO_ETC": str(work / "etc"),
                    "KAGERO_STATE": str(work / "state"),
                    "KAGERO_ACCOUNT": pwd.getpwuid(os.geteuid()).pw_name,
                },
            )
            files = {path.name: path.read_text() for path in (work / "etc").iterdir()}
            return done.returncode, (work / "systemctl").exists(), files

        code, restarted, files = settle()
        address = f"postgres://kagero:a%2Fb%40c%3Ad%25@store.example:5432/kagero?sslmode=verify-full&sslrootcert={work}/etc/rds-ca.pem"
        if (code, files) != (0, {"kagero.toml": 'name = "demo"', "github-app.pem": "KEY\nEND\n", "webhook-secret": "s3cret", "store-url": address}):
            yield f"at first: {code}, {files}"
        for path, mode in {work / "etc/store-url": 0o640, work / "etc/github-app.pem": 0o640, work / "state/secret": 0o600}.items():
            if stat.S_IMODE(path.stat().st_mode) != mode:
                yield f"{path.name} has the mode {path.stat().st_mode:o}"
        if (work / "state/secret").read_text() != own:
            yield "the installation's secret is another one"
        if settle() != (0, False, files):
            yield "a second time something is changed"
        code, restarted, changed = settle(password="new")
        if code or not restarted or ":new@" not in changed["store-url"]:
            yield "a new password does not reach the controller"
        for what, change in {
            "no configuration": {"toml": None},
            "no secret of the installation": {"installation": None},
            "a secret that is none": {"installation": "hello"},
            "the secret of another installation": {"installation": "f" * 64},
            "a file that leads elsewhere": {"files": {"../../etc/passwd": "x"}},
            "a file that is ours": {"files": {"store-url": "x"}},
        }.items():
            code, restarted, after = settle(**{"password": "newer", **change})
            if code == 0 or restarted or after != changed:
                yield f"with {what}: {code}, restarted: {restarted}, changed: {after != changed}"


@contextlib.contextmanager
def postgres():
    """A server of our own on a free port, without a password; PostgreSQL does not run as root."""
    tools = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    account = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        if account:
            shutil.chown(directory, "postgres")
        data = f"{directory}/data"
        probe.close()
        run(*account, tools / "initdb", "-D", data, "-U", "kagero", "-A", "trust", "--no-sync", env=PLAIN, cwd="/", check=True)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
        start = [*account, tools / "pg_ctl", "-D", data, "-w", "-l", f"{directory}/log", "-o", options, "start"]
        run(*start, env=PLAIN, cwd="/", check=True)
        try:
            yield tools, port
        finally:
            run(*account, tools / "pg_ctl", "-D", data, "-m", "immediate", "stop", env=PLAIN, cwd="/")


def check_mask():
    """The masking task, on a real PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory, postgres() as (tools, port):
        work = pathlib.Path(directory)
        for name in ("bin", "masks", "verify"):
            (work / name).mkdir()
        login = json.dumps({"username": "kagero", "password": "unused"})
        program(work / "bin/aws", f"#!/bin/sh\necho '{login}'\n")
        environment = {
            "PATH": f"{work}/bin:{tools}:{PLAIN['PATH']}",
            "ENGINE": "postgres",
            "HOST": "127.0.0.1",
            "PGPORT": port,
            "PGSSLMODE": "disable",
            "SECRET": "arn",
            "DATABASES": "shop",
            "MASKS": str(work / "masks"),
            "VERIFY": str(work / "verify"),
        }

        def sql(text, database="shop"):
            words = [tools / "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "kagero", "-d", database, "-c", text]
            return run(*words, env=PLAIN, check=True).stdout.strip()

        def mask(word, **changes):
            return run(INFRA / "golden/mask", word, env={**environment, **changes})

        sql("CREATE DATABASE shop", database="postgres")
        sql("CREATE TABLE users (id int, email text)")
        sql("INSERT INTO users VALUES (1, 'ann@customer.example'), (2, 'bob@customer.example')")
        if mask("mask").returncode == 0 or mask("verify").returncode == 0:
            yield "without files it looks like success"
        (work / "verify/emails.sql").write_text("SELECT id, email FROM users WHERE email NOT LIKE '%@example.com';")
        done = mask("verify")
        if done.returncode == 0 or "finds 2 rows" not in done.stderr:
            yield f"unmasked data passes: {done.returncode}, {done.stderr}"
        if "customer" in done.stdout + done.stderr:
            yield "unmasked data is in the log"
        (work / "masks/1-emails.sql").write_text("UPDATE users SET email = id || '@example.com'; SELECT 1 / 0;")
        if mask("mask").returncode == 0 or sql("SELECT count(*) FROM users WHERE email LIKE '%@example.com'") != "0":
            yield "a mask that fails halfway leaves something, or looks like success"
        (work / "masks/1-emails.sql").write_text("UPDATE users SET email = id || '@example.com';")
        for word in ("mask", "verify"):
            done = mask(word)
            if done.returncode:
                yield f"{word}: {done.stderr}"
        (work / "verify/other.sql").write_text("SELECT id FROM no_such_table;")
        if mask("verify").returncode == 0:
            yield "a verification that cannot be run passes"
        (work / "verify/other.sql").unlink()
        for changes in ({"DATABASES": "shop nowhere"}, {"DATABASES": ""}, {"ENGINE": "oracle"}):
            if mask("verify", **changes).returncode == 0:
                yield f"with {changes} it looks like success"
        program(work / "bin/aws", "#!/bin/sh\nexit 1\n")
        if mask("verify").returncode == 0:
            yield "without a password it looks like success"
