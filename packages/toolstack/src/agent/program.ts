/** The program that guests run, and where it finds its host. */
import { fileURLToPath } from "node:url";

/** A static ELF file for Linux on x86-64; see build-agent.ts. */
export const AGENT_PROGRAM = fileURLToPath(new URL("agent-x86_64.elf", import.meta.url));
/** The console that carries its line; Linux calls it hvc1. */
export const AGENT_CONSOLE = 1;
export const AGENT_CHANNEL = "org.xenoserver.agent";
/** A program of the guest's that a copy of it runs as root, with its name, to become a machine of its own. */
export const COPY_HOOK = "/etc/xenoserver/copied";
/** Changes when guests with an older program cannot be spoken to. */
export const AGENT_VERSION = "1";
