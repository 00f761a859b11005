/** A domain's console on this terminal, until Ctrl-] or the domain's end. */
import type { AgentClient } from "@xenoserver/agent/index.ts";
import { openConsole } from "./console-io.ts";

/** @returns settled when the user left, the input ended or the domain did */
export async function attachConsole(agent: AgentClient, ref: string): Promise<void> {
  const socket = await agent.console(ref);
  const end = openConsole("stdio");
  const { promise: left, resolve: leave } = Promise.withResolvers<void>();
  end.attach(
    async (bytes) => {
      if (!socket.write(bytes)) await new Promise<void>((resolve) => socket.once("drain", resolve));
    },
    // A pipe's end is no reason to leave: what the guest answers is still to come.
    { onLeave: leave, onGone: leave, onInputEnd: () => {} },
  );
  socket.on("error", leave);
  socket.on("close", leave);
  const shown = (async () => {
    for await (const bytes of socket) await end.write(bytes as Buffer);
  })().catch(() => {});
  await Promise.race([left, shown]);
  socket.destroy();
  await end.close();
}
