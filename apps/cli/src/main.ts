/** Entry of the `xeno` command. It loads little by itself: what it starts may be one file. */
import { programUrl } from "@xenoserver/toolstack/program.ts";

if (import.meta.main) {
  const program = programUrl(new URL("./xeno.ts", import.meta.url)).href;
  const { main } = (await import(program)) as typeof import("./xeno.ts");
  await main();
}
