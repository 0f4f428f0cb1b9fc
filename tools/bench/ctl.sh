#!/usr/bin/env bash
# How smtpctl and the daemon do on a deep queue.
#
#   tools/bench/ctl.sh [envelopes] [profile]     defaults: 1m release; `dev` for a dev build
#
# Fills a spool with messages for one recipient each, starts smtpd on it with deliveries paused, and
# prints for every command how long it took, for listings also how long the first line took, and
# the memory of smtpctl and smtpd at their highest. Everything lies below BENCH_DIR (default
# /var/tmp: not a tmpfs, which has no disk to wait for) and is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

envelopes=${1:-1m} profile=${2:-release}
envelopes=${envelopes/%k/000} envelopes=${envelopes/%m/000000}
case $profile in dev) built=debug ;; *) built=$profile ;; esac

fail() { echo "ctl.sh: $*" >&2; exit 1; }
command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3"
cargo build --profile "$profile" --bin smtpd --bin smtpd-priv --bin smtpctl --bin mailq
cargo build --profile "$profile" -p redspool-benches --bin fill
bin=$PWD/target/$built

base=$(mktemp -d "${BENCH_DIR:-/var/tmp}/ctl.XXXXXX")
case $(stat -f -c %T "$base") in tmpfs | ramfs) fail "$base is not on a disk; set BENCH_DIR" ;; esac
smtpd=''
cleanup() {
  [ -z "$smtpd" ] || kill -TERM "$smtpd" 2>/dev/null || true
  wait
  rm -rf "$base"
}
trap cleanup EXIT

mkdir -m 700 "$base/spool"
"$bin/fill" "$base/spool" "$envelopes"
cat >"$base/smtpd.conf" <<CONF
listen on 127.0.0.1 port 0
action "out" relay host smtp://127.0.0.1:9
match from any for any action "out"
CONF
began=$(date +%s.%N)
"$bin/smtpd" -d -f "$base/smtpd.conf" --spool "$base/spool" --user root -P mta -P mda 2>"$base/log" &
smtpd=$!
until grep -q 'smtpd ready' "$base/log"; do
  kill -0 "$smtpd" 2>/dev/null || { cat "$base/log" >&2; fail "smtpd did not start"; }
  sleep 0.05
done
printf '%-28s %9.3f s\n' "smtpd ready after" "$(python3 -c "print($(date +%s.%N) - $began)")"

python3 - "$bin" "$base/spool" "$smtpd" "$envelopes" <<'P'
import os, subprocess, sys, time

bin, spool, smtpd, envelopes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def peak():
    with open(f"/proc/{smtpd}/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1024

def run(name, words, most=None):
    command = [f"{bin}/{words[0]}", "--spool", spool, *words[1:]]
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    first, lines, last = None, 0, b""
    for line in child.stdout:
        first = first or time.monotonic() - began
        lines, last = lines + 1, line
        if most and lines == most:
            child.stdout.close()
            break
    _, status, usage = os.wait4(child.pid, 0)
    took = time.monotonic() - began
    told = "" if lines != 1 else "  " + last.decode().strip()
    print(f"{name:<28} {took:9.3f} s  first line {first or took:7.3f} s  {lines:>8} lines  "
          f"smtpctl {usage.ru_maxrss // 1024:4} MiB{told}", flush=True)
    return lines

assert run("show queue", ["smtpctl", "show", "queue"]) == envelopes
run("mailq | head", ["mailq"], most=10)
run("show queue --summary", ["smtpctl", "show", "queue", "--summary"])
run("show queue --json", ["smtpctl", "show", "queue", "--json"])
run("remove all --dry-run", ["smtpctl", "remove", "all", "--dry-run"])
run("pause envelope all", ["smtpctl", "pause", "envelope", "all"])
run("resume envelope all", ["smtpctl", "resume", "envelope", "all"])
run("schedule all", ["smtpctl", "schedule", "all"])
run("remove all", ["smtpctl", "remove", "all"])
run("show queue, empty", ["smtpctl", "show", "queue"])
print(f"smtpd at its highest: {peak()} MiB")
P
