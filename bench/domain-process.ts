/** A process that runs one domain with its console on standard input and output. */
import type { DiskSpec } from "@xenoserver/toolstack/cfg/index.ts";
import { startVcpuEarly } from "@xenoserver/toolstack/domain/early-vcpu.ts";
import type { EngineChoice } from "@xenoserver/toolstack/domain/index.ts";
import { programUrl } from "@xenoserver/toolstack/program.ts";

export interface DomainProcessOptions {
  readonly kernel: string;
  readonly ramdisk: string;
  readonly cmdline: string;
  readonly memoryMib: number;
  readonly vcpus: number;
  readonly disks?: readonly DiskSpec[];
  readonly engine: EngineChoice;
  readonly network: boolean;
}

if (import.meta.main) {
  startVcpuEarly();
  const program = programUrl(new URL("./domain-main.ts", import.meta.url)).href;
  const { main } = (await import(program)) as typeof import("./domain-main.ts");
  await main(JSON.parse(process.argv[2]!) as DomainProcessOptions);
}
