#!/usr/bin/env bash
# How fast mail is accepted, durably: redspool and Postfix, beside smtp-sink, which keeps nothing.
#
#   tools/bench/accept.sh [rounds] [messages] [sessions] [octets]     defaults: 3 20000 100 1024
#   tools/bench/accept.sh 3 10000 50 10240 relay
#
# With `relay` both deliver all of it to smtp-sink, over 20 connections at most, and the time ends when their
# queues are empty; it takes processor time of redspool and of Postfix, all their processes, too.
#
# One generator (Postfix's smtp-source, which keeps its connections: -d) sends the same load to each
# in turns, so that what else the machine does hits all alike. redspool runs in release mode with deliveries paused; Postfix,
# with a configuration and a queue of its own, puts everything on hold; both keep their queue below
# the same directory (BENCH_DIR, default /var/tmp: not a tmpfs, which has no disk to wait for).
# Needs root and Debian's postfix package. Starts no service, changes no configuration of the system.
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-3} messages=${2:-20000} sessions=${3:-100} octets=${4:-1024} mode=${5:-accept}

fail() { echo "accept.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "Postfix wants root to start it"
for tool in postfix smtp-source smtp-sink; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install postfix"
done

cargo build --release --bin smtpd --bin smtpd-priv --bin smtpctl

base=$(mktemp -d "${BENCH_DIR:-/var/tmp}/accept.XXXXXX")
case $(stat -f -c %T "$base") in tmpfs | ramfs) fail "$base is not on a disk; set BENCH_DIR" ;; esac
chmod 755 "$base"
smtpd='' sink=''
cleanup() {
  [ -z "$smtpd" ] || kill -TERM "$smtpd" 2>/dev/null || true
  [ -z "$sink" ] || kill -TERM "$sink" 2>/dev/null || true
  [ ! -e "$base/postfix/etc/main.cf" ] || postfix -c "$base/postfix/etc" stop >/dev/null 2>&1 || true
  wait
  rm -rf "$base"
}
trap cleanup EXIT

ports() { python3 - <<'P'
import socket
s = [socket.socket() for _ in range(2)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))
P
}
read -r postfix_port sink_port < <(ports)

# redspool
mkdir "$base/redspool"
case $mode in
accept) hold=(-P mta -P mda) restriction='check_client_access static:{HOLD bench}' ;;
relay) hold=() restriction= ;;
*) fail "the mode is accept or relay, not $mode" ;;
esac
cat >"$base/redspool/smtpd.conf" <<CONF
listen on 127.0.0.1 port 0
smtp limit max-mails 100000000
mta limit max-conn-per-route 20 max-conn-per-host 20 session-mail-max 100000
action "out" relay host smtp+notls://127.0.0.1:$sink_port
match from any for any action "out"
CONF
target/release/smtpd -d -f "$base/redspool/smtpd.conf" --spool "$base/redspool/spool" --user root \
  "${hold[@]}" 2>"$base/redspool/log" &
smtpd=$!
until grep -q 'smtpd ready' "$base/redspool/log"; do
  kill -0 "$smtpd" 2>/dev/null || { cat "$base/redspool/log" >&2; fail "smtpd did not start"; }
  sleep 0.1
done
redspool_port=$(sed -n 's/.*smtp listening address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$base/redspool/log" | head -n 1)

# Postfix, in a directory of its own
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
CONF
sed -E -e "s/^smtp +inet .*/127.0.0.1:$postfix_port inet n - n - - smtpd/" \
  -e 's/^([a-z0-9_-]+ +(unix|fifo|inet) +[-yn] +[-yn] +)[-y]( )/\1n\3/' \
  /usr/share/postfix/master.cf.dist >"$base/postfix/etc/master.cf"
postfix -c "$base/postfix/etc" start >"$base/postfix/start" 2>&1 ||
  { cat "$base/postfix/start" >&2; fail "Postfix did not start"; }

smtp-sink -u nobody "127.0.0.1:$sink_port" "$sessions" &
sink=$!

emptied() { # emptied <port>: waits until the queue behind it is empty
  if [ "$1" = "$redspool_port" ]; then
    until [ -z "$(target/release/smtpctl --spool "$base/redspool/spool" show queue | head -n 1)" ]; do sleep 0.05; done
  else
    until [ -z "$(find "$base"/postfix/spool/{maildrop,incoming,active,deferred} -type f -print -quit)" ]; do sleep 0.05; done
  fi
}

clock() { # clock <name>: processor time of it and all it has started, in 1/100 s
  local parents=$smtpd pid
  [ "$1" = redspool ] || parents=$(tr -d " " <"$base/postfix/spool/pid/master.pid")
  for pid in $parents $(pgrep -P "$parents"); do
    awk '{ print $14 + $15 + $16 + $17 }' "/proc/$pid/stat" 2>/dev/null || true
  done | awk '{ sum += $1 } END { print sum }'
}

once() { # once <port>: messages per second
  local start end
  start=$(date +%s%N)
  smtp-source -d -s "$sessions" -l "$octets" -m "$messages" -f a@far.example -t b@far.example "127.0.0.1:$1"
  [ "$mode" = accept ] || emptied "$1"
  end=$(date +%s%N)
  awk -v n="$messages" -v t=$((end - start)) 'BEGIN { printf "%.0f\n", n / (t / 1e9) }'
}

names=(redspool postfix smtp-sink)
[ "$mode" = accept ] || names=(redspool postfix)
declare -A used=()
declare -A port=([redspool]=$redspool_port [postfix]=$postfix_port [smtp-sink]=$sink_port)
declare -A all=()
for name in "${names[@]}"; do
  smtp-source -s 10 -m 200 -l "$octets" -f a@far.example -t b@far.example "127.0.0.1:${port[$name]}"
done
printf 'smtp-source -d -s %s -l %s -m %s, %s rounds\n' "$sessions" "$octets" "$messages" "$rounds"
for round in $(seq "$rounds"); do
  for name in "${names[@]}"; do
    before=0
    [ "$mode" = accept ] || before=$(clock "$name")
    rate=$(once "${port[$name]}")
    all[$name]+="$rate "
    [ "$mode" = accept ] || used[$name]+="$(awk -v n="$messages" -v t=$(($(clock "$name") - before)) \
      'BEGIN { printf "%.0f", t * 10000 / n }') "
    printf 'round %s  %-10s %8s messages/s\n' "$round" "$name" "$rate"
  done
done

median() { printf '%s\n' $1 | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ours=$(median "${all[redspool]}") theirs=$(median "${all[postfix]}")
if [ "$mode" = relay ]; then
  awk -v o="$ours" -v p="$theirs" -v c="$(median "${used[redspool]}")" -v d="$(median "${used[postfix]}")" 'BEGIN {
    printf "median: redspool %d, postfix %d messages/s; %d and %d us of processor time per message\n", o, p, c, d
    printf "redspool / postfix = %.2f\n", o / p
  }'
  exit
fi
queued=$(target/release/smtpctl --spool "$base/redspool/spool" show queue | wc -l)
expected=$((rounds * messages + 200))
[ "$queued" -eq "$expected" ] || fail "redspool has $queued messages queued, not $expected"

none=$(median "${all[smtp-sink]}")
awk -v o="$ours" -v p="$theirs" -v s="$none" 'BEGIN {
  printf "median: redspool %d, postfix %d, smtp-sink %d messages/s\n", o, p, s
  printf "redspool / postfix   = %.2f\n", o / p
  printf "redspool / smtp-sink = %.2f\n", o / s
}'
