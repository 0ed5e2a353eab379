#!/bin/sh
# Leaves .venv/bin/autoinstr (`install.sh run`), and what the tests need as well (`install.sh dev`), and what only the
# score needs and takes long to build (`install.sh score`).
#
# Installs only the system packages that are missing, starts and enables no service, and takes package indexes and
# proxies from the machine's own apt and pip settings. Debian and Ubuntu; Fedora and its relatives as a courtesy.
set -eu
cd "$(dirname "$0")/.."
what=${1:?run, dev or score}
logs=$(mktemp -d)
pip=
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
started=$(date +%s)
export PATH="$PATH:/usr/sbin:/sbin" # nginx lives there, and not every user's PATH knows

say() { printf '==> %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Long steps keep their output to themselves unless they fail.
quietly() {
	log=$(mktemp -p "$logs")
	"$@" >"$log" 2>&1 && return
	tail -n 30 "$log" >&2
	fail "this failed: $*"
}

cleanup() {
	if [ -n "$pip" ]; then kill "$pip" 2>/dev/null || :; fi
	rm -rf "$logs"
	if [ $policy_is_ours = yes ]; then root rm -f "$policy"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

has() { command -v "$1" >/dev/null 2>&1; }
finds() { /usr/bin/python3 -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)" 2>/dev/null; }

# A line for each package that is missing: its name where apt, then where dnf installs it.
missing_python() {
	[ -x /usr/bin/python3 ] || echo python3 python3
	finds ensurepip || echo python3-venv python3-pip
}

missing_others() {
	finds bcc || echo python3-bpfcc python3-bcc
	has nginx || echo nginx-light nginx
	has node || echo nodejs nodejs
	has wrk || echo wrk wrk
	[ "$what" = dev ] || return 0
	has curl || echo curl curl
	has ab || echo apache2-utils httpd-tools
	has apache2 || has httpd || echo apache2-bin httpd
	has h2load || echo nghttp2-client nghttp2
	has nghttpx || echo nghttp2-proxy nghttp2
	has nghttpd || echo nghttp2-server nghttp2
	has haproxy || echo haproxy haproxy
	has lighttpd || echo lighttpd lighttpd
	has php || echo php-cli php-cli
	has ruby || echo ruby ruby
	ruby -rwebrick -e '' 2>/dev/null || echo ruby-webrick rubygem-webrick
	has puma || echo puma rubygem-puma
	has h2o || ! has apt-get || echo h2o h2o # Fedora has none
	has ip || echo iproute2 iproute
	# Ubuntu's is a snap, which containers can't have: there the tests in a browser say that they are left out
	has chromium || grep -qs '^ID=ubuntu' /etc/os-release || echo chromium chromium
	{ has gcc && [ -e /usr/include/stdio.h ]; } || printf '%s\n' 'gcc gcc' 'libc6-dev glibc-devel'
}

# Packages start their services and enable them for the next boot. Here only the programs are needed.
without_services() {
	if [ ! -e "$policy" ]; then
		policy_is_ours=yes
		printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
		root chmod 755 "$policy"
	fi
	"$@"
	if [ $policy_is_ours = yes ]; then root rm -f "$policy"; policy_is_ours=no; fi
}

install_apt() {
	say "installing system packages: $*"
	if [ -z "${lists_are_new:-}" ]; then
		quietly root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 update
		lists_are_new=yes
	fi
	known=
	for name; do
		# Debian 13 has none: its tests say that they are left out
		if [ "$name" = h2o ] && ! apt-cache show h2o >/dev/null 2>&1; then continue; fi
		known="$known $name"
	done
	# shellcheck disable=SC2086 # words
	set -- $known
	[ $# -gt 0 ] || return 0
	without_services quietly root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
	case " $* " in *" nginx-light "*) quietly root update-rc.d nginx disable ;; esac
	case " $* " in *" nghttp2-proxy "*) quietly root update-rc.d nghttpx disable ;; esac
	for name in haproxy lighttpd h2o; do
		case " $* " in *" $name "*) quietly root update-rc.d "$name" disable ;; esac
	done
}

install_dnf() {
	say "installing system packages: $*"
	quietly root dnf -q -y --setopt=install_weak_deps=False install "$@"
}

system_packages() {
	list=$("$1")
	[ -n "$list" ] || return 0
	apt=$(echo "$list" | cut -d ' ' -f 1)
	dnf=$(echo "$list" | cut -d ' ' -f 2)
	[ "$(id -u)" = 0 ] || has sudo || fail "needs root (or sudo) to install:" $apt
	if has apt-get; then install_apt $apt
	elif has dnf; then install_dnf $dnf
	else fail "knows apt (Debian, Ubuntu) and dnf (Fedora) only. Install by hand what these are called here:" $apt
	fi
}

# bcc belongs to the system's own Python, whatever other python3 is first on the path.
python_version() {
	[ -x /usr/bin/python3 ] || return 0 # will be the newest that this system has: looked at again then
	/usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		fail "needs Python 3.11 or newer as /usr/bin/python3: Debian 12, Ubuntu 24.04, or newer"
}

virtual_environment() {
	if grep -qs 'home = /usr/bin' .venv/pyvenv.cfg && grep -qs 'site-packages = true' .venv/pyvenv.cfg &&
		.venv/bin/python -c '' 2>/dev/null; then return 0; fi
	say "making .venv from /usr/bin/python3"
	quietly /usr/bin/python3 -m venv --clear --system-site-packages .venv
}

# Not into a user's home, nor counting on what lies there: root, who runs it, would not see it.
python_packages() {
	export PIP_USER=0 PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
	exec .venv/bin/python -m pip install --editable "$1"
}

# What tests in other languages are built with. Without npm or Go those are skipped, and say so.
other_packages() {
	[ "$what" = dev ] || return 0
	if has npm && [ ! -e .cache/node/node_modules/@grafana/lezer-logql ]; then
		say "installing grpc-js and the grammar of LogQL (npm)"
		mkdir -p .cache/node
		# npm brings certificates of its own; those of the machine count, too
		: "${NODE_EXTRA_CA_CERTS:=/etc/ssl/certs/ca-certificates.crt}"
		export NODE_EXTRA_CA_CERTS
		quietly npm install --prefix .cache/node --no-audit --no-fund --silent --ignore-scripts \
			@grpc/grpc-js@1 @grafana/lezer-logql@0.2 @lezer/lr@1 @lezer/common@1
	fi
	if has go; then (cd tests/e2e/grpc_go && quietly go mod download); fi
}

# Servers in other languages. Without Maven or Cargo their rows say what they need.
score_programs() {
	if has mvn && has javac && [ ! .cache/grpc-java -nt tests/e2e/grpc_java/pom.xml ]; then
		say "fetching grpc-java (Maven)"
		quietly mvn -q -B -f tests/e2e/grpc_java dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/grpc-java.part"
		rm -rf .cache/grpc-java
		mv .cache/grpc-java.part .cache/grpc-java
	fi
	if has cargo; then
		say "building tonic (Cargo)"
		(cd tests/e2e/grpc_tonic && quietly cargo build -q --release --locked --target-dir ../../../.cache/grpc-tonic)
	fi
}

if [ "$what" = score ]; then
	score_programs
	touch .venv/.installed-score
	exit 0
fi
case $what in
run) about="autoinstr and its Python packages" project=. stamp=.venv/.installed ;;
dev) about="what the tests need" project='.[dev]' stamp=.venv/.installed-dev ;;
*) fail "run, dev or score, not $what" ;;
esac
python_version
system_packages missing_python
python_version
virtual_environment
say "installing $about (pip)"
python_packages "$project" >"$logs/pip" 2>&1 &
pip=$!
system_packages missing_others # meanwhile
other_packages
wait "$pip" || { tail -n 30 "$logs/pip" >&2; fail "pip could not install $about"; }
pip=
.venv/bin/python -c 'import bcc' || fail "the virtual environment can't import bcc, which belongs to /usr/bin/python3"
touch "$stamp"
if [ "$what" = run ] && [ "$(id -u)" = 0 ]; then
	# compiles the eBPF programs, so that the first start is as quick as the next; where they can't run, run says so
	.venv/bin/autoinstr check >/dev/null 2>&1 || true
fi
say "$what: ready after $(($(date +%s) - started)) s"
