#!/usr/bin/env bash
# Runs the kernels' tests and those of the native executor as an emulated 64-bit Arm processor: the NEON form against the
# portable one, bit for bit. Installs the emulator, a linker and the target's standard library where they are missing.
# Exit status 3: one of them is not here and cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
packages="qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"

missing() {
    echo "$1"
    exit 3
}

here() { command -v "$1" >/dev/null; }

if ! here qemu-aarch64 || ! here aarch64-linux-gnu-gcc; then
    if [ "$(id -u)" != 0 ] || ! here apt-get; then
        missing "no emulator or no linker, and no way to install them here (Debian's packages $packages)"
    fi
    # shellcheck disable=SC2086
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null; } ||
        missing "Debian's packages $packages cannot be installed"
fi
if ! rustup target add "$target" >/dev/null 2>&1; then
    # A toolchain without rustup may have the target all the same.
    library=$(rustc --print target-libdir --target "$target" 2>/dev/null) && [ -d "$library" ] ||
        missing "no standard library for $target, and no way to install it here"
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max"
cargo test --target "$target" -p lmx-runtime --lib kernels
cargo test --target "$target" -p lmx-runtime --test native
