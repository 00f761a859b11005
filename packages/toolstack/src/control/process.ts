/**
 * Entry of a domain's own process: `process.ts FOLDER`; see process-folder.ts for what is in it.
 *
 * Nothing that the program goes on with may import this module, which waits for it.
 */
import { startVcpuEarly } from "../domain/early-vcpu.ts";
import { programUrl } from "../program.ts";

if (import.meta.main) {
  startVcpuEarly();
  const program = programUrl(new URL("./process-main.ts", import.meta.url)).href;
  const { main } = (await import(program)) as typeof import("./process-main.ts");
  await main(process.argv[2]!);
}
