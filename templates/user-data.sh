#!/bin/bash
# What a machine of Kagero's does when it boots for the first time: it gets the agent and starts it. There is no secret in
# here: whoever holds the key below can speak to the agent, and everything else comes with what it is told to run.
set -euo pipefail
umask 077

readonly home=/var/lib/kagero program=/usr/local/bin/kagero
install -d -m 0711 "$home" "$home/machine"
{%- if agent_url %}

# The agent, as the controller has it: another one is not started.
fetched=$(mktemp /usr/local/bin/.kagero.XXXXXX)
curl --silent --show-error --fail --location --proto '=https' --proto-redir '=https' --retry 5 --retry-connrefused --max-time 300 --output "$fetched" -- '{{ agent_url }}'
echo '{{ agent_sha256 }}  '"$fetched" | sha256sum --check --quiet --strict
chmod 0755 "$fetched"
mv "$fetched" "$program"
{%- endif %}

# Nobody but root asks the metadata service, and no container: what it says of the machine is none of a pull request's
# business. Set before every start of the agent, so that it holds after a reboot too.
cat >"$home/metadata.nft" <<'RULES'
table inet kagero
delete table inet kagero
table inet kagero {
  chain output {
    type filter hook output priority 0; policy accept;
    ip daddr 169.254.169.254 meta skuid != 0 reject
    ip6 daddr fd00:ec2::254 meta skuid != 0 reject
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    ip daddr 169.254.169.254 reject
    ip6 daddr fd00:ec2::254 reject
  }
}
RULES

"$program" agent --dir "$home/machine" --init <<'OPTIONS'
{"uid": "{{ uid }}", "generation": {{ generation }}, "public_key": "{{ public_key }}", "port": {{ port }}{% if readable %}, "readable": {{ readable | tojson }}{% endif %}}
OPTIONS

cat >/etc/systemd/system/kagero-agent.service <<'UNIT'
[Unit]
Description=Kagero agent
After=network-online.target
Wants=network-online.target

[Service]
ExecStartPre=/usr/sbin/nft -f /var/lib/kagero/metadata.nft
ExecStart=/usr/local/bin/kagero agent --dir /var/lib/kagero/machine
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=60
Delegate=yes

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now kagero-agent.service
