import { readFileSync } from "node:fs";
import { AGENT_CONSOLE, AGENT_PROGRAM } from "../agent/program.ts";
import type { InitramfsOptions } from "../guest/index.ts";

/** Serves the host whenever it offers its line, as an image's init does, and keeps the guest up. */
const SCRIPT = `#!/bin/sh
while :; do
  if [ -e /sys/bus/xen/devices/console-${AGENT_CONSOLE} ]; then /xeno/agent serve /dev/hvc${AGENT_CONSOLE}; fi
  sleep 0.2
done
`;

/** What makes an initramfs of one with the guest's agent. */
export const AGENT_GUEST: Pick<InitramfsOptions, "customise" | "script"> = {
  customise: (tree) => tree.file("xeno/agent", readFileSync(AGENT_PROGRAM), 0o755),
  script: SCRIPT,
};
