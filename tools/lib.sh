# What the scripts of this folder share; sourced by bash.

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Runs a command as root; returns 1 without a word where that takes a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Installs Debian packages; returns 1 where there is no apt-get, no root, or no such package.
install_packages() {
    command -v apt-get >/dev/null || return 1
    as_root true || return 1
    echo "Installing Debian packages: $*"
    as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
