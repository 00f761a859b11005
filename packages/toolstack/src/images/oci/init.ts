/**
 * What boots a container's image: a ramdisk that mounts its disk, brings the network up, and starts its program. The ramdisk's
 * shell stays process 1, so that nothing need be in the image but the program.
 */
import { readFileSync } from "node:fs";
import { AGENT_CONSOLE, AGENT_PROGRAM } from "../../agent/program.ts";
import { encodeSpec, type ProcessSpec } from "../../agent/protocol.ts";
import {
  buildInitramfs,
  type FetchedKernel,
  INIT_MARKER,
  type PackageSource,
  type Progress,
} from "../../guest/index.ts";
import { IDLE_WORD } from "../idle-word.ts";
import { defaultsOf } from "./process.ts";

/** Where the guest has the image's files. */
export const IMAGE_ROOT = "/disk";
export const INIT_CMDLINE = "console=hvc0 quiet loglevel=3";

const MODULES = ["xen-blkfront", "ext4", "xen-netfront"];
const DISK_TRIES = 100;

const INIT = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
fail() { echo "xeno: $1"; sync; poweroff -f; }
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
xargs -r modprobe -a < /etc/modules
root= idle= name=
for word in $(cat /proc/cmdline); do
  case $word in
  root=*) root=\${word#root=} ;;
  xeno.hostname=*) name=\${word#xeno.hostname=} ;;
  ${IDLE_WORD}) idle=1 ;;
  esac
done
n=0
until [ -b "$root" ]; do n=$((n+1)); [ $n -lt ${DISK_TRIES} ] || fail "disk $root did not appear"; sleep 0.1; done
mount -t ext4 "$root" ${IMAGE_ROOT} || fail "disk $root cannot be mounted"
cd ${IMAGE_ROOT}
mkdir -p proc sys dev etc tmp run
chmod 1777 tmp
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
[ -e dev/fd ] || ln -s /proc/self/fd dev/fd
cd /
hostname "\${name:-container}"
ip link set lo up
n=0
while [ $n -lt 20 ] && [ -e /sys/bus/xen/devices/vif-0 ] && ! [ -e /sys/class/net/eth0 ]; do n=$((n+1)); sleep 0.1; done
if [ -e /sys/class/net/eth0 ]; then ip link set eth0 up; udhcpc -i eth0 -q -n -t 5 -T 2 >/dev/null 2>&1; fi
if [ -s /etc/resolv.conf ]; then rm -f ${IMAGE_ROOT}/etc/resolv.conf; cat /etc/resolv.conf > ${IMAGE_ROOT}/etc/resolv.conf; fi
[ -e ${IMAGE_ROOT}/etc/hosts ] || echo "127.0.0.1 localhost" > ${IMAGE_ROOT}/etc/hosts
(while :; do
  if [ -e /sys/bus/xen/devices/console-${AGENT_CONSOLE} ]; then /xeno/agent serve /dev/hvc${AGENT_CONSOLE} /xeno/defaults; fi
  sleep 0.2
done) &
echo "${INIT_MARKER}"
if [ -n "$idle" ]; then while :; do sleep 1000000; done; fi
setsid cttyhack /xeno/agent run /xeno/process
echo "xeno: the image's program ended with status $?"
sync
umount -r ${IMAGE_ROOT} 2>/dev/null
poweroff -f
`;

/**
 * Builds the ramdisk of an image.
 * @returns its path in the cache
 * @throws  PackageError  busybox or the kernel's modules cannot be had
 */
export function buildContainerInit(
  source: PackageSource,
  kernel: FetchedKernel,
  process: ProcessSpec,
  progress: Progress,
): Promise<string> {
  return buildInitramfs(
    source,
    {
      modules: { kernel, names: MODULES },
      customise: (tree) => {
        tree.file("init", INIT, 0o755);
        tree.directory(IMAGE_ROOT.slice(1));
        tree.file("xeno/agent", readFileSync(AGENT_PROGRAM), 0o755);
        tree.file("xeno/process", encodeSpec(process));
        tree.file("xeno/defaults", defaultsOf(process));
      },
    },
    progress,
  );
}
