#!/bin/bash
# Builds the kernel module v4l2loopback for the virtual machine's kernel, and prints where it is: a camera whose pictures come from a
# program. Prints nothing where Debian's packages for it cannot be had.
#
#   loopback.sh FOLDER     where to build; the kernel is unpacked in VM_CACHE by then
set -euo pipefail
folder=$1
modules=${VM_CACHE:-/tmp/vmcache}/k/lib/modules
[ -d "$modules" ] || { echo "there is no kernel in $modules yet: run a virtual machine first" >&2; exit 0; }
kernel=$(ls "$modules")
module=$folder/$kernel/v4l2loopback.ko
if [ ! -e "$module" ]; then
    {
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "linux-headers-$kernel" &&
            rm -rf "${folder:?}/$kernel" && mkdir -p "$folder/$kernel" &&
            cd "$folder/$kernel" && apt-get download v4l2loopback-dkms && dpkg -x v4l2loopback-dkms_*.deb package &&
            cp package/usr/src/v4l2loopback-*/* . && make -C "/usr/src/linux-headers-$kernel" M="$PWD" modules
    } >"$folder.log" 2>&1 || { echo "v4l2loopback was not built: see $folder.log" >&2; exit 0; }
fi
echo "$module"
