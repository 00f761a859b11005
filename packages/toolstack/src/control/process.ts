/**
 * Entry of a domain's own process, `process.ts FOLDER`, see process-folder.ts for what is in it; and of one that waits for domains,
 * `process.ts --zygote FOLDER`, see zygote-main.ts.
 *
 * Nothing that the program goes on with may import this module, which waits for it.
 */
import { startVcpuEarly } from "../domain/early-vcpu.ts";
import { programUrl } from "../program.ts";

if (import.meta.main) {
  const isZygote = process.argv[2] === "--zygote";
  if (!isZygote) startVcpuEarly();
  const source = isZygote
    ? new URL("./zygote-main.ts", import.meta.url)
    : new URL("./process-main.ts", import.meta.url);
  const { main } = (await import(programUrl(source).href)) as { main(folder: string): Promise<void> };
  await main(process.argv.at(-1)!);
}
