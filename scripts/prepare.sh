#!/bin/sh
# Brings a machine that has only Python 3.11 and make to where the Makefile can work. Used by the Makefile alone.
#   prepare.sh venv FOLDER   a virtual environment with pip in FOLDER; kept if it already works
#   prepare.sh browser       Chromium, for the tests of the web UI; going without it is no error
#   prepare.sh node          node and npm, for the tests with the TypeScript SDK; going without them is no error
#   prepare.sh services      Redis, RabbitMQ and PostgreSQL, for the tests of the bridge and of Django; going without is no error
#   prepare.sh shells        zsh and fish, for the tests of completion; going without them is no error
set -eu

say() { echo "prepare: $*" >&2; }

# Installs Debian packages if that is possible here, else says what to install and returns non-zero.
debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing from Debian: $*"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null
    else
        say "please install: $* (as root: apt-get install $*)"
        return 1
    fi
}

find_python() {
    for name in "${PYTHON:-python3.11}" python3.11 python3.12 python3.13 python3.14 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found; set PYTHON=/path/to/python3.11"
    return 1
}

venv() {
    if "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        debian "python$version-venv"
    fi
    "$python" -m venv --clear "$1"
}

node() {
    if ! command -v npm >/dev/null; then
        debian nodejs npm || say "until then the tests with the TypeScript SDK are skipped"
    fi
}

shells() {
    missing=""
    for name in zsh fish; do
        command -v "$name" >/dev/null || missing="$missing $name"
    done
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086  # one word for each package
        debian $missing || say "until then completion is not tried in:$missing"
    fi
}

browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then
            return
        fi
    done
    debian chromium || say "until then the tests of the web UI in a browser are skipped"
}

# Only the programs are wanted: the tests start their own servers. Where Debian's packages may start services, they are
# told not to for as long as this takes; on a machine that has this file already it is left alone.
services() {
    missing=""
    command -v redis-server >/dev/null || missing="redis-server"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
    if [ -z "$missing" ]; then
        return
    fi
    policy=/usr/sbin/policy-rc.d
    ours=""
    if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
        ours=yes
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    # shellcheck disable=SC2086  # one word for each package
    debian $missing || say "until then the tests with these are skipped"
    if [ -n "$ours" ]; then
        rm -f "$policy"
    fi
}

case "${1:-}" in
    services) services ;;
    shells) shells ;;
    browser) browser ;;
    venv) venv "$2" ;;
    node) node ;;
    *) say "usage: prepare.sh venv FOLDER | node | browser | services | shells"; exit 2 ;;
esac
