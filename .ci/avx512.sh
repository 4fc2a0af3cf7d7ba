#!/usr/bin/env bash
# Runs the kernels' tests on an emulated processor with AVX-512 and VNNI: that form against the portable one, bit for bit.
# On a processor that has them itself, `cargo test` has done so already. Exit status 3: the emulator cannot be had here.
#
#   .ci/avx512.sh FOLDER    where the emulator is installed
set -euo pipefail
cd "$(dirname "$0")/.."
if grep -q avx512_vnni /proc/cpuinfo; then
    echo "this processor has AVX-512 itself"
    exit 0
fi
if [ "$(uname -m)" != x86_64 ]; then
    echo "the emulator runs programs of this kind of machine only"
    exit 3
fi
folder=$(realpath "${1:?a folder to install the emulator in}")
python=$folder/emulator/bin/python
if ! "$python" -m pip show -q bochscpu-python 2>/dev/null; then
    python3 -m venv "$folder/emulator"
    if ! "$python" -m pip install -q --disable-pip-version-check --only-binary :all: bochscpu-python==0.4.0; then
        echo "the package bochscpu-python cannot be had here"
        exit 3
    fi
fi
cc -shared -fPIC -O1 -o "$folder/emulator/emulator.so" .ci/emulator.c -ldl

program=$(cargo test -p lmx-runtime --lib --no-run --message-format json |
    python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')
# Three tests of attention compute more than is affordable here; another one covers each form and type.
EMULATED_CPU=_Z28create_sapphire_rapids_cpuidP8BX_CPU_C LD_PRELOAD=$folder/emulator/emulator.so \
    "$python" .ci/emulate.py "$program" --test-threads 1 kernels:: \
    --skip results_do_not_depend_on_form_tile_or_chunk --skip codes_cost_what_their_steps_are_wide \
    --skip every_query_gets_the_softmax_of_what_it_sees
