#!/usr/bin/env bash
# Runs the kernels' tests and those of the native executor as an emulated 64-bit Arm processor: the NEON form against the
# portable one, bit for bit. Installs the emulator, a linker and the target's standard library where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu

for tool in qemu-aarch64 aarch64-linux-gnu-gcc; do
    if ! command -v "$tool" >/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "no $tool, and no way to install it here (needs Debian's packages qemu-user and gcc-aarch64-linux-gnu)"
            exit 3
        fi
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null
        break
    fi
done
rustup target add "$target" >/dev/null 2>&1 || rustc --print target-libdir --target "$target" | xargs test -d

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max"
cargo test --target "$target" -p lmx-runtime --lib kernels
cargo test --target "$target" -p lmx-runtime --test native
