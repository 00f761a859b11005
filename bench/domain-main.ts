/** What `domain-process.ts` does. */
import { randomUUID } from "node:crypto";
import { type DomainConfig, parseVif } from "@xenoserver/toolstack/cfg/index.ts";
import { launchDomain } from "@xenoserver/toolstack/domain/index.ts";

import type { DomainProcessOptions } from "./domain-process.ts";

export async function main({ engine, network, ...given }: DomainProcessOptions): Promise<void> {
  const config: DomainConfig = {
    name: "bench",
    type: "pvh",
    uuid: randomUUID(),
    onPoweroff: "destroy",
    onReboot: "destroy",
    onCrash: "destroy",
    ...(network && { vifs: [parseVif("host=1")] }),
    ...given,
  };
  const listener = { onConsole: (bytes: Uint8Array) => void process.stdout.write(bytes) };
  const domain = await launchDomain(config, listener, engine);
  // An orderly end keeps what Node and the engine compiled, so that the next process need not do it again.
  process.once("SIGTERM", () => void domain.destroy().finally(() => process.exit(143)));
  process.stdin.on("data", (bytes: Buffer) => void domain.writeConsole(bytes));
  const { reason, detail } = await domain.exited;
  process.stderr.write(`the guest ended: ${reason}\n${detail ?? ""}\n`);
  process.exit(reason === "poweroff" ? 0 : 1);
}
