/** `xeno agent`: the process that looks after this server's domains. */
import type { AddVerb } from "./verb.ts";

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
};
