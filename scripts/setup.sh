#!/bin/bash
# Installs what building (`setup.sh build`), testing (`test`), the benchmarks (`bench`), the table of accuracy (`eval`), the tests in
# virtual machines (`camera`) and of GStreamer (`gstreamer`), fuzzing (`fuzz`), the package (`deb`), the test of kernels for ARM (`arm`),
# all that is for it (`arm64`) or the count of its instructions (`count`) need and what is not there yet: with apt-get where this user
# may, else it prints the line to run and stops. Run again, it does nothing.
set -euo pipefail

purpose=${1:-build}
case $purpose in build | test | bench | eval | camera | gstreamer | fuzz | deb | arm | arm64 | count) ;; *)
    echo "usage: $0 build|test|bench|eval|camera|gstreamer|fuzz|deb|arm|arm64|count" >&2
    exit 64
    ;;
esac
# /usr/sbin is not in every user's PATH.
export PATH=$PATH:/usr/sbin:/sbin
missing=()

# want PACKAGE TEST...: the Debian and Ubuntu package is missing unless the test succeeds. The tests look for what
# is used and not for the package, so that what came from elsewhere counts.
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }
# Needs its header files beside the library, as bindgen does.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' && compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'; } ||
        { compgen -G '/usr/lib*/libclang.so*' && compgen -G '/usr/lib*/clang/*/include/stddef.h'; }
}
has_header() { echo "#include <$1>" | cc -E -; }
# The virtual machine's initial RAM disk holds nothing that it could link to.
has_static_busybox() { has busybox && ! ldd "$(command -v busybox)"; }
# A driver for Vulkan that needs no graphics processor.
has_lavapipe() { compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' && ldconfig -p | grep -q libvulkan.so.1; }
has_element() { gst-inspect-1.0 --exists "$1"; }
# The bindings are of Debian's own Python.
has_binding() { /usr/bin/python3 -c "import gi; gi.require_version('$1', '1.0')"; }
has_venv() { python3 -c 'import ensurepip, venv'; }

# The reference implementation is only there, and compared with, where the maintainers' data is.
needs_reference() {
    [ "$purpose" = eval ] || { [ -d "${TAGALONG_REFERENCE:-}" ] && { [ "$purpose" = test ] || [ "$purpose" = bench ]; }; }
}

look() {
    missing=()
    want gcc has cc
    want libc6-dev has_header stdio.h
    want linux-libc-dev has_header linux/videodev2.h # The interface to V4L2 cameras.
    want libclang-dev has_libclang                   # Bindings to that interface are made at build time.
    if [ "$purpose" = test ]; then
        want python3 has python3           # The Python client is tested.
        want systemd has systemd-analyze   # So are the units.
        want mesa-vulkan-drivers has_lavapipe
    fi
    if [ "$purpose" = bench ] || needs_reference; then
        want python3 has python3 # The engines that this one is compared with come from PyPI.
        want python3-venv has_venv
    fi
    if [ "$purpose" = arm ] || [ "$purpose" = arm64 ] || [ "$purpose" = count ]; then
        want gcc-aarch64-linux-gnu has aarch64-linux-gnu-gcc
        want libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/lib/libc.so.6
    fi
    if [ "$purpose" = arm ] || [ "$purpose" = arm64 ]; then want qemu-user-static has qemu-aarch64-static; fi
    if [ "$purpose" = arm64 ]; then want linux-libc-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/linux/videodev2.h; fi
    # What is linked statically loads no plugins.
    if [ "$purpose" = count ]; then want qemu-user has qemu-aarch64; fi
    if [ "$purpose" = deb ]; then
        want dpkg-dev has dpkg-shlibdeps # The packages that the program needs are looked up by its libraries.
        want lintian has lintian
    fi
    if [ "$purpose" = fuzz ]; then want g++ has g++; fi
    if [ "$purpose" = gstreamer ]; then
        want pkg-config has pkg-config
        want libgstreamer1.0-dev pkg-config --atleast-version=1.16 gstreamer-1.0
        want libgstreamer-plugins-base1.0-dev pkg-config --atleast-version=1.16 gstreamer-app-1.0 gstreamer-video-1.0
        # The tests' own pipelines, and their server.
        want gstreamer1.0-tools has gst-launch-1.0
        want gstreamer1.0-plugins-base has_element videotestsrc
        want gstreamer1.0-plugins-good has_element rtspsrc
        want gstreamer1.0-plugins-ugly has_element x264enc
        want gstreamer1.0-libav has_element avdec_h264
        want python3-gi has_binding Gst
        want gir1.2-gst-rtsp-server-1.0 has_binding GstRtspServer
    fi
    if [ "$purpose" = camera ]; then
        want qemu-system-x86 has qemu-system-x86_64
        want busybox-static has_static_busybox
        want kmod has depmod
        want cpio has cpio
        want v4l-utils has v4l2-ctl
    fi
}

look
if [ ${#missing[@]} -gt 0 ]; then
    install=(apt-get install --yes --no-install-recommends "${missing[@]}")
    if ! has apt-get >/dev/null; then
        echo "These are missing, under their Debian names; install them and run this again: ${missing[*]}" >&2
        exit 69
    elif [ "$(id -u)" = 0 ]; then
        as_root=()
    elif sudo -n true 2>/dev/null; then
        as_root=(sudo)
    else
        printf 'These are missing: %s\nInstall them, and run this again:\n\n    sudo apt-get update && sudo %s\n\n' "${missing[*]}" "${install[*]}" >&2
        exit 77
    fi
    echo "Installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" -qq >/dev/null
    look
    if [ ${#missing[@]} -gt 0 ]; then
        echo "Still missing after the installation: ${missing[*]}" >&2
        exit 69
    fi
fi

export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
if ! has cargo >/dev/null; then
    echo "Rust is missing: install it as https://rustup.rs says, and run this again." >&2
    exit 69
fi
if [ "$purpose" = test ] || [ "$purpose" = gstreamer ]; then
    # A minimal toolchain comes without these.
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
fi

if [ "$purpose" = deb ]; then
    cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb@3.8.0
fi

if [ "$purpose" = arm ] || [ "$purpose" = arm64 ] || [ "$purpose" = count ]; then
    # A toolchain that did not come by rustup has it already, or the build says what is missing.
    if has rustup; then rustup target add aarch64-unknown-linux-gnu; fi
fi

# NumPy and friends, apart from the machine's own Python.
if needs_reference; then
    venv=target/reference-venv
    packages="numpy opencv-python-headless pillow onnx onnxruntime scipy"
    # Its metrics need numpy and scipy alone; what else it asks for would put another OpenCV over the one above.
    alone="trackeval==1.3.0"
    if [ "$(cat $venv/installed 2>/dev/null)" != "$packages $alone" ]; then
        python3 -m venv $venv
        # shellcheck disable=SC2086 # One word a package.
        $venv/bin/pip install --quiet --disable-pip-version-check $packages
        $venv/bin/pip install --quiet --disable-pip-version-check --no-deps "$alone"
        echo "$packages $alone" >$venv/installed
    fi
fi

# For the plot.
if [ "$purpose" = eval ]; then
    target/reference-venv/bin/python -c 'import matplotlib' 2>/dev/null ||
        target/reference-venv/bin/pip install --quiet --disable-pip-version-check matplotlib
fi
