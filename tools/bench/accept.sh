#!/usr/bin/env bash
# How fast mail is accepted, durably, and at what cost: redspool beside Postfix, Exim and OpenSMTPD, and
# beside smtp-sink, which keeps nothing.
#
#   tools/bench/accept.sh [rounds] [messages] [sessions] [octets]     defaults: 3 20000 100 1024
#   tools/bench/accept.sh 3 10000 50 10240 relay
#   BENCH_PEERS="postfix exim" tools/bench/accept.sh
#   BENCH_BIN=/usr/local/sbin tools/bench/accept.sh     programs that are there, instead of building them
#
# With `relay` all deliver all of it to smtp-sink, redspool and Postfix over 20 connections at most, and the
# time ends when their queues are empty.
#
# One generator (Postfix's smtp-source, which keeps its connections: -d) sends the same load to each
# in turns, so that what else the machine does hits all alike. redspool runs in release mode. Where mail is only
# accepted, redspool and OpenSMTPD have deliveries paused, Postfix puts everything on hold, Exim only queues.
# All keep their queue below the same directory (BENCH_DIR, default /var/tmp: not a tmpfs, which has no
# disk to wait for). OpenSMTPD does not sync what it acknowledges; the others do.
#
# Processor time is that of all processes of a server, ended ones included; the generator's is not in it.
# Slow servers get fewer messages: a tenth for Exim and OpenSMTPD.
#
# Needs root, Debian's postfix package, and for Exim and OpenSMTPD what `.ci/run peers` unpacks. Starts
# no service, changes no configuration of the system.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-3} messages=${2:-20000} sessions=${3:-100} octets=${4:-1024} mode=${5:-accept}

fail() { echo "accept.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "Postfix wants root to start it"
for tool in postfix smtp-source smtp-sink; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install postfix"
done
case $mode in accept | relay) ;; *) fail "the mode is accept or relay, not $mode" ;; esac
if [ -z "${BENCH_PEERS+set}" ]; then
  BENCH_PEERS='postfix exim opensmtpd'
  [ -d target/peers/root ] || { BENCH_PEERS=postfix; echo 'without Exim and OpenSMTPD: .ci/run peers unpacks them' >&2; }
fi

programs=${BENCH_BIN:-${CARGO_TARGET_DIR:-target}/release}
[ -n "${BENCH_BIN:-}" ] || cargo build --release --bin smtpd --bin smtpd-priv --bin smtpctl

base=$(mktemp -d "${BENCH_DIR:-/var/tmp}/accept.XXXXXX")
case $(stat -f -c %T "$base") in tmpfs | ramfs) fail "$base is not on a disk; set BENCH_DIR" ;; esac
chmod 755 "$base"
declare -A keeper=() port=()
cleanup() {
  [ ! -e "$base/postfix/etc/main.cf" ] || postfix -c "$base/postfix/etc" stop >/dev/null 2>&1 || true
  for name in "${!keeper[@]}"; do kill -TERM "${keeper[$name]}" 2>/dev/null || true; done
  wait
  rm -rf "$base"
}
trap cleanup EXIT

# keep <name> <command..>: starts a server under a process that adopts whatever it leaves behind, so that
# the time of all its processes is counted; told to end, it ends the server.
keep() {
  local name=$1
  shift
  python3 - "$@" >"$base/$name.log" 2>&1 <<'P' &
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
child = os.fork()
if child == 0:
    os.setsid()
    os.execvp(sys.argv[1], sys.argv[1:])
def end(*_):
    try:
        os.killpg(child, signal.SIGTERM)
    except ProcessLookupError:
        pass
signal.signal(signal.SIGTERM, end)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
P
  keeper[$name]=$!
}

# clock <name>: processor time of all its processes, ended or not, in 1/100 s
clock() {
  local all=${keeper[$1]} level=${keeper[$1]}
  while level=$(pgrep -P "${level//$'\n'/,}" | paste -sd, -) && [ -n "$level" ]; do all+=,$level; done
  tr , '\n' <<<"$all" | while read -r pid; do
    sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null || true
  done | awk '{ sum += $12 + $13 + $14 + $15 } END { print sum + 0 }'
}

waits() { # waits <port>: until somebody listens there
  local tries
  for tries in $(seq 200); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.05
  done
  fail "nobody listens on port $1"
}

read -r -a ports < <(python3 - <<'P'
import socket
s = [socket.socket() for _ in range(4)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))
P
)
sink_port=${ports[0]}

start_redspool() {
  local hold=()
  [ "$mode" = relay ] || hold=(-P mta -P mda)
  mkdir "$base/redspool"
  cat >"$base/redspool/smtpd.conf" <<CONF
listen on 127.0.0.1 port 0
smtp limit max-mails 100000000
mta limit max-conn-per-route 20 max-conn-per-host 20 session-mail-max 100000
action "out" relay host smtp+notls://127.0.0.1:$sink_port
match from any for any action "out"
CONF
  keep redspool "$programs/smtpd" -d -f "$base/redspool/smtpd.conf" --spool "$base/redspool/spool" --user root "${hold[@]}"
  until grep -q 'smtpd ready' "$base/redspool.log"; do
    kill -0 "${keeper[redspool]}" 2>/dev/null || { cat "$base/redspool.log" >&2; fail "smtpd did not start"; }
    sleep 0.1
  done
  port[redspool]=$(sed -n 's/.*smtp listening address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$base/redspool.log" | head -n 1)
}
left_redspool() { "$programs/smtpctl" --spool "$base/redspool/spool" show queue | head -n 1; }

start_postfix() {
  local restriction='check_client_access static:{HOLD bench}'
  [ "$mode" = accept ] || restriction=
  port[postfix]=${ports[1]}
  mkdir -p "$base"/postfix/{etc,spool,data}
  chown postfix "$base/postfix/data"
  cat >"$base/postfix/etc/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $base/postfix/spool
data_directory = $base/postfix/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
maillog_file = $base/postfix/log
maillog_file_prefixes = $base
smtpd_client_restrictions = $restriction
relayhost = [127.0.0.1]:$sink_port
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
default_process_limit = $((sessions + 20))
smtp_destination_concurrency_limit = 20
CONF
  sed -E -e "s/^smtp +inet .*/127.0.0.1:${port[postfix]} inet n - n - - smtpd/" \
    -e 's/^([a-z0-9_-]+ +(unix|fifo|inet) +[-yn] +[-yn] +)[-y]( )/\1n\3/' \
    /usr/share/postfix/master.cf.dist >"$base/postfix/etc/master.cf"
  keep postfix postfix -c "$base/postfix/etc" start-fg
}
left_postfix() { find "$base"/postfix/spool/{maildrop,incoming,active,deferred} -type f -print -quit; }

start_exim() {
  local only=true
  [ "$mode" = accept ] || only=false
  port[exim]=${ports[2]}
  cp -a target/peers/root "$base/exim"
  cat >"$base/exim/etc/exim4/exim4.conf" <<CONF
primary_hostname = bench.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${port[exim]}
acl_smtp_rcpt = any
acl_smtp_data = any
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
never_users =
keep_environment =
notifier_socket =
log_file_path = /var/log/exim4/%slog
smtp_accept_max = 1000
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
split_spool_directory
queue_only = $only
begin acl
any:
  accept
begin routers
smart:
  driver = manualroute
  transport = smtp
  route_list = * 127.0.0.1 byname
  self = send
begin transports
smtp:
  driver = smtp
  port = $sink_port
  allow_localhost
begin retry
* * F,2h,1m
CONF
  keep exim chroot "$base/exim" /usr/sbin/exim4 -bdf -q1m
}
left_exim() { find "$base/exim/var/spool/exim4/input" -name '*-H' -print -quit; }

start_opensmtpd() {
  local hold=()
  [ "$mode" = relay ] || hold=(-P mta -P mda)
  port[opensmtpd]=${ports[3]}
  cp -a target/peers/root "$base/opensmtpd"
  cat >"$base/opensmtpd/etc/smtpd.conf" <<CONF
smtp limit max-mails 100000000
listen on 127.0.0.1 port ${port[opensmtpd]} hostname bench.example
action "out" relay host smtp+notls://127.0.0.1:$sink_port
match from any for any action "out"
CONF
  chmod 644 "$base/opensmtpd/etc/smtpd.conf"
  keep opensmtpd chroot "$base/opensmtpd" /usr/sbin/smtpd -d "${hold[@]}"
}
left_opensmtpd() { find "$base/opensmtpd/var/spool/smtpd/queue" -type f -print -quit; }

keep smtp-sink smtp-sink -u nobody "127.0.0.1:$sink_port" 1000
port[smtp-sink]=$sink_port
names=(redspool)
for name in $BENCH_PEERS; do
  declare -F "start_$name" >/dev/null || fail "no peer is called $name"
  names+=("$name")
done
for name in "${names[@]}"; do "start_$name"; done
[ "$mode" = relay ] || names+=(smtp-sink)
for name in "${names[@]}"; do waits "${port[$name]}"; done

share() { # share <name>: messages it gets
  case $1 in exim | opensmtpd) echo $((messages / 10)) ;; *) echo "$messages" ;; esac
}

once() { # once <name> <messages>: messages per second
  local start end
  start=$(date +%s%N)
  smtp-source -d -s "$sessions" -l "$octets" -m "$2" -f a@far.example -t b@far.example "127.0.0.1:${port[$1]}"
  if [ "$mode" = relay ]; then
    until [ -z "$("left_$1")" ]; do sleep 0.05; done
  fi
  end=$(date +%s%N)
  awk -v n="$2" -v t=$((end - start)) 'BEGIN { printf "%.0f\n", n / (t / 1e9) }'
}

for name in "${names[@]}"; do once "$name" 200 >/dev/null; done
printf 'smtp-source -d -s %s -l %s -m %s, %s rounds, %s\n' "$sessions" "$octets" "$messages" "$rounds" "$mode"
declare -A all=() used=()
for round in $(seq "$rounds"); do
  for name in "${names[@]}"; do
    before=$(clock "$name")
    rate=$(once "$name" "$(share "$name")")
    cost=$(awk -v n="$(share "$name")" -v t=$(($(clock "$name") - before)) 'BEGIN { printf "%.0f", t * 10000 / n }')
    all[$name]+="$rate " used[$name]+="$cost "
    printf 'round %s  %-10s %8s messages/s %8s us of processor time per message\n' "$round" "$name" "$rate" "$cost"
  done
done

if [ "$mode" = accept ]; then
  queued=$("$programs/smtpctl" --spool "$base/redspool/spool" show queue | wc -l)
  expected=$((rounds * messages + 200))
  [ "$queued" -eq "$expected" ] || fail "redspool has $queued messages queued, not $expected"
fi

median() { printf '%s\n' $1 | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ours=$(median "${all[redspool]}") cost=$(median "${used[redspool]}")
for name in "${names[@]}"; do
  awk -v n="$name" -v r="$(median "${all[$name]}")" -v c="$(median "${used[$name]}")" -v o="$ours" -v m="$cost" 'BEGIN {
    printf "median  %-10s %8d messages/s %8d us", n, r, c
    if (n != "redspool") printf "   redspool: %.2f of the rate, %.2f of the time", o / r, m / (c ? c : 1)
    print ""
  }'
done
