/** `xeno bridge`: a switch for domains of this user. */
import type { AddVerb } from "./verb.ts";

export const addBridge: AddVerb = (program, setStatus) => {
  program
    .command("bridge")
    .description("run a switch that domains plug into by bridge=NAME; Ctrl-C ends it")
    .argument("<name>", "its name, e.g. xenbr0")
    .option("--user [settings]", "with a gateway to the world, e.g. --user subnet=10.1.0.0/24,forward=8080:80")
    .action(async (name: string, { user }: { readonly user?: string | true }) => {
      const { bridgeCommand } = await import("../bridge-command.ts");
      setStatus(await bridgeCommand(name, user === true ? "" : user));
    });
};
