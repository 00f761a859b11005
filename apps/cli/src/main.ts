/** Entry of the `xeno` command. It loads little by itself: what it starts may be one file. */
import { startVcpuEarly } from "@xenoserver/toolstack/domain/early-vcpu.ts";
import { programUrl } from "@xenoserver/toolstack/program.ts";

/** Verbs whose process has a domain of its own. */
const FOREGROUND = ["run", "try"];

if (import.meta.main) {
  if (FOREGROUND.includes(process.argv[2] ?? "")) startVcpuEarly();
  const program = programUrl(new URL("./xeno.ts", import.meta.url)).href;
  const { main } = (await import(program)) as typeof import("./xeno.ts");
  await main();
}
