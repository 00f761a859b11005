/** `xeno agent`: the process that looks after this server's domains. */
import { resolve } from "node:path";
import type { AddVerb } from "./verb.ts";

const collect = (written: string, before: readonly string[] = []): string[] => [...before, written];
const DEFAULT_LISTEN = "7340";

interface TlsOptions {
  readonly host?: readonly string[];
  readonly listen: string;
}

export const addAgent: AddVerb = (program) => {
  const agent = program.command("agent").description("the agent of this server; commands start one when they need it");
  agent
    .command("run")
    .description("run it in the foreground, until a signal; domains go on without it")
    .action(async () => {
      const { agentHome, startAgent } = await import("@xenoserver/agent/index.ts");
      const running = await startAgent(agentHome());
      process.on("SIGHUP", () => {});
      const signals = ["SIGINT", "SIGTERM"] as const;
      const signal = new Promise<void>((resolve) => signals.forEach((name) => process.once(name, () => resolve())));
      await Promise.race([running.stopAsked, signal]);
      await running.close();
    });
  agent
    .command("stop")
    .description("end it; domains go on without it")
    .action(async () => {
      const { AgentClient, agentHome } = await import("@xenoserver/agent/index.ts");
      const client = new AgentClient(agentHome().socket);
      if (await client.isThere()) await client.post("/v1/agent/stop");
    });
  agent
    .command("openapi")
    .description("print what it answers to, as an OpenAPI 3.1 document")
    .action(async () => {
      const [{ openApi }, { say }] = await Promise.all([
        import("@xenoserver/agent/index.ts"),
        import("../agent-access.ts"),
      ]);
      say(JSON.stringify(await openApi(), undefined, 2));
    });
  const withHosts = (name: string, description: string) =>
    agent
      .command(name)
      .description(description)
      .option("--host <name>", "a name or address by which others reach the server; may be repeated", collect)
      .option("--listen <address>", "[ADDRESS:]PORT where it is reached", DEFAULT_LISTEN);
  withHosts(
    "init",
    "let other servers' agents and clients in: an authority, and a certificate of it for this server",
  ).action(async ({ host = [], listen }: TlsOptions) => {
    const { agentHome } = await import("@xenoserver/agent/index.ts");
    const { setUp } = await import("@xenoserver/agent/tls/setup.ts");
    await setUp(agentHome(), { hosts: host, listen });
    process.stdout.write(
      `certificates are in ${agentHome().folder}/tls; an agent that runs takes them up when it is started anew\n`,
    );
  });
  withHosts("invite", "make the certificate of another server, to be carried there as its agent's folder")
    .argument("<folder>", "where to write it")
    .action(async (folder: string, { host = [], listen }: TlsOptions) => {
      const { agentHome } = await import("@xenoserver/agent/index.ts");
      const { invite } = await import("@xenoserver/agent/tls/setup.ts");
      await invite(agentHome(), resolve(folder), { hosts: host, listen });
      process.stdout.write(`${folder}: carry it to the server and name it there in XENO_AGENT_HOME\n`);
    });
};
